//! Polyphase filters.

use crate::simd::FirBank;
use crate::simd::door::neon;
use crate::simd::scalar;

neon! {
    fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
        scalar::fir::polyphase(bank, phase, window, output);
    }
}
