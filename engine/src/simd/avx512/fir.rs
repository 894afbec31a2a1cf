//! Polyphase filters.

use crate::simd::FirBank;
use crate::simd::door::avx512;
use crate::simd::scalar;

avx512! {
    fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
        scalar::fir::polyphase(bank, phase, window, output);
    }
}
