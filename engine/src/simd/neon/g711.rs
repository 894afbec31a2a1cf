//! G.711.

use crate::simd::door::neon;
use crate::simd::scalar;

neon! {
    fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
        scalar::g711::encode_ulaw(pcm, encoded);
    }
}
