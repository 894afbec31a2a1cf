//! G.711.

use crate::simd::door::avx2;
use crate::simd::scalar;

avx2! {
    fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
        scalar::g711::encode_ulaw(pcm, encoded);
    }
}
