//! Polyphase filters.

use crate::simd::FirBank;
use crate::simd::door::avx2;
use crate::simd::scalar;

avx2! {
    fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
        scalar::fir::polyphase(bank, phase, window, output);
    }
}
