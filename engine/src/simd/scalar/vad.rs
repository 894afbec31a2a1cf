//! Voice activity, lane by lane.

use crate::simd::vad::{VAD_LANES, Vad, VadLanes, VadTiming};

pub(in crate::simd) const KERNELS: Vad = Vad { energy };

#[inline(always)]
pub(in crate::simd) fn energy(timing: VadTiming, levels: &[[i16; VAD_LANES]], lanes: &mut [VadLanes]) {
    for (lanes, levels) in lanes.iter_mut().zip(levels) {
        for (lane, &level) in levels.iter().enumerate() {
            lanes.step(lane, level, timing);
        }
    }
}
