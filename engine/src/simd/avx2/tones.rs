//! Tones: two registers hold the sixteen sums of a step, each pair of samples is multiplied into both.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
};

use bytemuck::must_cast;

use crate::simd::door::avx2;
use crate::simd::scalar;
use crate::simd::tones::{DtmfLimits, DtmfStep, DtmfWindow, TONE_STEP_SAMPLES, ToneBank, ToneSums, Tones};

/// The family in this table.
pub(in crate::simd) const KERNELS: Tones = Tones { correlate, dtmf_steps };

avx2! {
    fn correlate(pcm: &[i16], bank: &ToneBank, sums: &mut [ToneSums]) {
        let (steps, _) = pcm.as_chunks::<TONE_STEP_SAMPLES>();
        for (step, sums) in steps.iter().zip(sums) {
            let mut accumulators = [_mm256_setzero_si256(); 2];
            for (samples, references) in step.as_chunks::<2>().0.iter().zip(&bank.pairs) {
                let samples = _mm256_set1_epi32(must_cast(*samples));
                let references: [__m256i; 2] = must_cast(*references);
                for (accumulator, reference) in accumulators.iter_mut().zip(references) {
                    *accumulator = _mm256_add_epi32(*accumulator, _mm256_madd_epi16(samples, reference));
                }
            }
            *sums = must_cast(accumulators);
        }
    }

    fn dtmf_steps(sums: &[ToneSums], limits: &DtmfLimits, window: &mut DtmfWindow, steps: &mut [DtmfStep]) {
        scalar::tones::dtmf_steps(sums, limits, window, steps);
    }
}
