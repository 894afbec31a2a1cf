//! Tones: one register holds all sixteen sums of a step, one instruction adds a pair of samples to all.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpwssd_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
};

use bytemuck::must_cast;

use crate::simd::door::avx512;
use crate::simd::scalar;
use crate::simd::tones::{DtmfLimits, DtmfStep, DtmfWindow, TONE_STEP_SAMPLES, ToneBank, ToneSums, Tones};

/// The family in this table.
pub(in crate::simd) const KERNELS: Tones = Tones { correlate, dtmf_steps };

avx512! {
    fn correlate(pcm: &[i16], bank: &ToneBank, sums: &mut [ToneSums]) {
        let (steps, _) = pcm.as_chunks::<TONE_STEP_SAMPLES>();
        let steps = &steps[..steps.len().min(sums.len())];
        let (fours, rest) = steps.as_chunks::<4>();
        let (four_sums, rest_sums) = sums.as_chunks_mut::<4>();
        // Four steps at once share the loads of the references and hide the latency of the products.
        for (steps, sums) in fours.iter().zip(four_sums.iter_mut()) {
            let mut accumulators = [_mm512_setzero_si512(); 4];
            for (n, reference) in bank.pairs.iter().enumerate() {
                let reference: __m512i = must_cast(*reference);
                for (accumulator, step) in accumulators.iter_mut().zip(steps) {
                    *accumulator = _mm512_dpwssd_epi32(*accumulator, pair(step, n), reference);
                }
            }
            *sums = must_cast(accumulators);
        }
        let rest_sums = if fours.len() < four_sums.len() { four_sums[fours.len()].as_mut_slice() } else { rest_sums };
        for (step, sums) in rest.iter().zip(rest_sums) {
            let mut accumulators = [_mm512_setzero_si512(); 2];
            for (n, references) in bank.pairs.as_chunks::<2>().0.iter().enumerate() {
                for (late, accumulator) in accumulators.iter_mut().enumerate() {
                    *accumulator = _mm512_dpwssd_epi32(*accumulator, pair(step, 2 * n + late), must_cast(references[late]));
                }
            }
            *sums = must_cast(_mm512_add_epi32(accumulators[0], accumulators[1]));
        }
    }

    fn dtmf_steps(sums: &[ToneSums], limits: &DtmfLimits, window: &mut DtmfWindow, steps: &mut [DtmfStep]) {
        scalar::tones::dtmf_steps(sums, limits, window, steps);
    }
}

/// A pair of samples in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn pair(step: &[i16; TONE_STEP_SAMPLES], n: usize) -> __m512i {
    _mm512_set1_epi32(must_cast([step[2 * n], step[2 * n + 1]]))
}
