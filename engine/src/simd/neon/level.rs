//! Loudness.

use std::arch::aarch64::*;

use bytemuck::must_cast;

use crate::simd::blocks::{convert_in_place, visit};
use crate::simd::door::neon;
use crate::simd::{Gain, Levels, Loudness};

/// The family in this table.
pub(in crate::simd) const KERNELS: Levels = Levels { measure, amplify };

neon! {
    fn measure(pcm: &[i16]) -> Loudness {
        let mut meter = Meter::new();
        visit(pcm, |pcm: [i16; 16], new| meter.add(must_cast(pcm), new));
        meter.level()
    }

    fn amplify(pcm: &mut [i16], gain: Gain) -> Loudness {
        let mut meter = Meter::new();
        convert_in_place(pcm, |pcm: [i16; 16], new| {
            let [low, high] = must_cast(pcm);
            let amplified = [apply(low, gain), apply(high, gain)];
            meter.add(amplified, new);
            must_cast(amplified)
        });
        meter.level()
    }
}

/// 8 samples with a gain.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn apply(samples: int16x8_t, gain: Gain) -> int16x8_t {
    const BITS: i32 = Gain::FRACTION_BITS as i32;
    let low = vmull_n_s16(vget_low_s16(samples), gain.steps());
    let high = vmull_high_n_s16(samples, gain.steps());
    // These round and saturate.
    vqrshrn_high_n_s32::<BITS>(vqrshrn_n_s32::<BITS>(low), high)
}

/// The level so far, in lanes.
pub(super) struct Meter {
    sums: uint64x2_t,
    peaks: uint16x8_t,
}

impl Meter {
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn new() -> Self {
        Self { sums: vdupq_n_u64(0), peaks: vdupq_n_u16(0) }
    }

    /// Counts the `new` last of 16 samples.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn add(&mut self, samples: [int16x8_t; 2], new: usize) {
        let kept = KEPT[new..].first_chunk().map_or([0; 16], |kept: &[i16; 16]| *kept);
        let kept: [int16x8_t; 2] = must_cast(kept);
        for (samples, kept) in samples.into_iter().zip(kept) {
            let samples = vandq_s16(samples, kept);
            self.peaks = vmaxq_u16(self.peaks, vreinterpretq_u16_s16(vabsq_s16(samples)));
            let low = vmull_s16(vget_low_s16(samples), vget_low_s16(samples));
            let high = vmull_high_s16(samples, samples);
            self.sums = vpadalq_u32(self.sums, vreinterpretq_u32_s32(low));
            self.sums = vpadalq_u32(self.sums, vreinterpretq_u32_s32(high));
        }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn level(&self) -> Loudness {
        Loudness { sum_of_squares: vaddvq_u64(self.sums), peak: vmaxvq_u16(self.peaks) }
    }
}

/// From the `n`-th on: 16 words of which the `n` last are ones.
static KEPT: [i16; 32] = {
    let mut kept = [0; 32];
    let mut word = 16;
    while word < 32 {
        kept[word] = -1;
        word += 1;
    }
    kept
};
