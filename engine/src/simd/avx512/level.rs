//! Loudness.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::blocks::{convert_in_place, visit};
use crate::simd::door::avx512;
use crate::simd::{Gain, Levels, Loudness};

/// The family in this table.
pub(in crate::simd) const KERNELS: Levels = Levels { measure, amplify };

avx512! {
    fn measure(pcm: &[i16]) -> Loudness {
        let mut meter = Meter::new();
        visit(pcm, |pcm: [i16; 64], new| meter.add(must_cast(pcm), new));
        meter.level()
    }

    fn amplify(pcm: &mut [i16], gain: Gain) -> Loudness {
        let mut meter = Meter::new();
        convert_in_place(pcm, |pcm: [i16; 64], new| {
            let [low, high] = must_cast(pcm);
            let amplified = [apply(low, gain), apply(high, gain)];
            meter.add(amplified, new);
            must_cast(amplified)
        });
        meter.level()
    }
}

/// 32 samples with a gain.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn apply(samples: __m512i, gain: Gain) -> __m512i {
    // Each sample stands beside a one, so that multiply-and-add also rounds.
    let ones = _mm512_set1_epi16(1);
    let rounding = 1 << (Gain::FRACTION_BITS - 1);
    let factors = _mm512_set1_epi32(rounding << 16 | i32::from(gain.steps()));
    let low = _mm512_madd_epi16(_mm512_unpacklo_epi16(samples, ones), factors);
    let high = _mm512_madd_epi16(_mm512_unpackhi_epi16(samples, ones), factors);
    _mm512_packs_epi32(
        _mm512_srai_epi32::<{ Gain::FRACTION_BITS }>(low),
        _mm512_srai_epi32::<{ Gain::FRACTION_BITS }>(high),
    )
}

/// The level so far, in lanes.
pub(super) struct Meter {
    sums: __m512i,
    peaks: __m512i,
}

impl Meter {
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn new() -> Self {
        Self { sums: _mm512_setzero_si512(), peaks: _mm512_setzero_si512() }
    }

    /// Counts the `new` last of 64 samples.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn add(&mut self, samples: [__m512i; 2], new: usize) {
        let kept = !0u64 << (64 - new);
        for (samples, kept) in samples.into_iter().zip([kept as u32, (kept >> 32) as u32]) {
            let samples = _mm512_maskz_mov_epi16(kept, samples);
            self.peaks = _mm512_max_epu16(self.peaks, _mm512_abs_epi16(samples));
            // Two squares fit 32 bits without sign, so they are widened at once.
            let squares = _mm512_madd_epi16(samples, samples);
            self.sums = _mm512_add_epi64(self.sums, _mm512_srli_epi64::<32>(squares));
            self.sums = _mm512_add_epi64(self.sums, _mm512_maskz_mov_epi32(0x5555, squares));
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn level(&self) -> Loudness {
        let peaks =
            _mm256_max_epu16(_mm512_castsi512_si256(self.peaks), _mm512_extracti64x4_epi64::<1>(self.peaks));
        let peaks = _mm_max_epu16(_mm256_castsi256_si128(peaks), _mm256_extracti128_si256::<1>(peaks));
        // The instruction finds a minimum.
        let least = _mm_minpos_epu16(_mm_xor_si128(peaks, _mm_set1_epi16(-1)));
        Loudness {
            sum_of_squares: _mm512_reduce_add_epi64(self.sums) as u64,
            peak: !(_mm_extract_epi16::<0>(least) as u16),
        }
    }
}
