//! G.722.

use crate::simd::door::avx512;
use crate::simd::scalar;

/// The family in this table.
pub(in crate::simd) const KERNELS: crate::simd::G722 = crate::simd::G722 { split, join };

avx512! {
    fn split(audio: &[i16], lower: &mut [i16], higher: &mut [i16]) {
        scalar::g722::split(audio, lower, higher);
    }

    fn join(bands: &[i16], audio: &mut [i16]) {
        scalar::g722::join(bands, audio);
    }
}
