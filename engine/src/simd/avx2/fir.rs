//! Polyphase filters: 16 taps of an output in two instructions.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::door::avx2;
use crate::simd::fir::ROW;
use crate::simd::scalar;
use crate::simd::{Fir, FirBank};

pub(in crate::simd) const KERNELS: Fir = Fir { polyphase };

avx2! {
    fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
        let outputs = bank.outputs(phase, window.len(), output.len());
        let origin = bank.start(phase);
        let (mut row, mut group) = (phase, 0);
        for sample in &mut output[..outputs] {
            let window = &window[group + bank.start(row) - origin..][..bank.width];
            let fine = dot(&bank.fine[row * bank.width..][..bank.width], window);
            let coarse = &bank.coarse[row * bank.coarse_width..][..bank.coarse_width];
            let coarse = dot(coarse, &window[bank.coarse_first..][..bank.coarse_width]);
            *sample = scalar::fir::finish(bank, fine, coarse);
            row += 1;
            if row == bank.phases {
                row = 0;
                group += bank.step;
            }
        }
    }
}

/// The sum of products of two slices of one length, a multiple of [`ROW`].
#[inline]
#[target_feature(enable = "avx2")]
fn dot(coefficients: &[i16], samples: &[i16]) -> i32 {
    let mut sum = _mm256_setzero_si256();
    for (&coefficients, &samples) in
        coefficients.as_chunks::<ROW>().0.iter().zip(samples.as_chunks::<ROW>().0)
    {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(must_cast(coefficients), must_cast(samples)));
    }
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<1>(sum)))
}
