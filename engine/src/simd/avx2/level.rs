//! Loudness.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::blocks::{convert_in_place, visit};
use crate::simd::door::avx2;
use crate::simd::{Gain, Levels, Loudness};

/// The family in this table.
pub(in crate::simd) const KERNELS: Levels = Levels { measure, amplify };

avx2! {
    fn measure(pcm: &[i16]) -> Loudness {
        let mut meter = Meter::new();
        visit(pcm, |pcm: [i16; 32], new| meter.add(must_cast(pcm), new));
        meter.level()
    }

    fn amplify(pcm: &mut [i16], gain: Gain) -> Loudness {
        let mut meter = Meter::new();
        convert_in_place(pcm, |pcm: [i16; 32], new| {
            let [low, high] = must_cast(pcm);
            let amplified = [apply(low, gain), apply(high, gain)];
            meter.add(amplified, new);
            must_cast(amplified)
        });
        meter.level()
    }
}

/// 16 samples with a gain.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn apply(samples: __m256i, gain: Gain) -> __m256i {
    // Each sample stands beside a one, so that multiply-and-add also rounds.
    let ones = _mm256_set1_epi16(1);
    let rounding = 1 << (Gain::FRACTION_BITS - 1);
    let factors = _mm256_set1_epi32(rounding << 16 | i32::from(gain.steps()));
    let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(samples, ones), factors);
    let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(samples, ones), factors);
    _mm256_packs_epi32(
        _mm256_srai_epi32::<{ Gain::FRACTION_BITS as i32 }>(low),
        _mm256_srai_epi32::<{ Gain::FRACTION_BITS as i32 }>(high),
    )
}

/// The level so far, in lanes.
pub(super) struct Meter {
    sums: __m256i,
    peaks: __m256i,
}

impl Meter {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new() -> Self {
        Self { sums: _mm256_setzero_si256(), peaks: _mm256_setzero_si256() }
    }

    /// Counts the `new` last of 32 samples.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn add(&mut self, samples: [__m256i; 2], new: usize) {
        let kept = KEPT[new..].first_chunk().map_or([0; 32], |kept: &[i16; 32]| *kept);
        let kept: [__m256i; 2] = must_cast(kept);
        for (samples, kept) in samples.into_iter().zip(kept) {
            let samples = _mm256_and_si256(samples, kept);
            self.peaks = _mm256_max_epu16(self.peaks, _mm256_abs_epi16(samples));
            // Two squares fit 32 bits without sign, so they are widened at once.
            let squares = _mm256_madd_epi16(samples, samples);
            self.sums = _mm256_add_epi64(self.sums, _mm256_srli_epi64::<32>(squares));
            let even = _mm256_blend_epi32::<0b1010_1010>(squares, _mm256_setzero_si256());
            self.sums = _mm256_add_epi64(self.sums, even);
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn level(&self) -> Loudness {
        let peaks =
            _mm_max_epu16(_mm256_castsi256_si128(self.peaks), _mm256_extracti128_si256::<1>(self.peaks));
        // The instruction finds a minimum.
        let least = _mm_minpos_epu16(_mm_xor_si128(peaks, _mm_set1_epi16(-1)));
        let sums: [u64; 4] = must_cast(self.sums);
        Loudness { sum_of_squares: sums.iter().sum(), peak: !(_mm_extract_epi16::<0>(least) as u16) }
    }
}

/// From the `n`-th on: 32 words of which the `n` last are ones.
static KEPT: [i16; 64] = {
    let mut kept = [0; 64];
    let mut word = 32;
    while word < 64 {
        kept[word] = -1;
        word += 1;
    }
    kept
};
