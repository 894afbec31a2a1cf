//! Voice activity, lane by lane.

use crate::simd::Vad;
use crate::simd::vad::{VAD_LANES, VadLanes, VadTiming};

/// The family in this table.
pub(in crate::simd) const KERNELS: Vad = Vad { energy };

#[inline(always)]
pub(in crate::simd) fn energy(timing: VadTiming, levels: &[[i16; VAD_LANES]], lanes: &mut [VadLanes]) {
    for (lanes, levels) in lanes.iter_mut().zip(levels) {
        // A copy, since what is read and written must not look the same to be done side by side.
        let before = *lanes;
        for (lane, &level) in levels.iter().enumerate() {
            lanes.set_lane(lane, before.lane(lane).after(level, timing));
        }
    }
}
