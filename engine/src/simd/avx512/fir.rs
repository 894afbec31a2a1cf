//! Polyphase filters.

use crate::simd::Fir;
use crate::simd::FirBank;
use crate::simd::door::avx512;
use crate::simd::scalar;

/// The family in this table.
pub(in crate::simd) const KERNELS: Fir = Fir { polyphase };

avx512! {
    fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
        scalar::fir::polyphase(bank, phase, window, output);
    }
}
