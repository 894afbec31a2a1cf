//! Voice activity.

use crate::simd::Vad;
use crate::simd::door::neon;
use crate::simd::scalar;
use crate::simd::vad::{VAD_LANES, VadLanes, VadTiming};

/// The family in this table.
pub(in crate::simd) const KERNELS: Vad = Vad { energy };

neon! {
    fn energy(timing: VadTiming, levels: &[[i16; VAD_LANES]], lanes: &mut [VadLanes]) {
        scalar::vad::energy(timing, levels, lanes);
    }
}
