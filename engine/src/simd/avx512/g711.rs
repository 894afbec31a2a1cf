//! G.711.

use crate::simd::door::avx512;
use crate::simd::scalar;

avx512! {
    fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
        scalar::g711::encode_ulaw(pcm, encoded);
    }
}
