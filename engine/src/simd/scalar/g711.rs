//! G.711, sample by sample.

#[inline(always)]
pub(in crate::simd) fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
    for (byte, &sample) in encoded.iter_mut().zip(pcm) {
        let sign = (sample >> 15) as u16 & 0x80;
        let magnitude = (sample ^ (sample >> 15)) >> 2;
        // 33 moves every segment to a power of two (G.711 table 2).
        let biased = (magnitude + 33).min(0x1FFF) as u16;
        let segment = 10 - biased.leading_zeros() as u16;
        let step = (biased >> (segment + 1)) & 0x0F;
        *byte = !(sign | segment << 4 | step) as u8;
    }
}
