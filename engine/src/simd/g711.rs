//! The family of companding kernels.

/// ITU-T G.711 on slices. Each kernel handles as many samples as the shorter slice has.
#[derive(Debug)]
pub struct G711 {
    /// Linear to mu-law.
    pub encode_ulaw: fn(pcm: &[i16], encoded: &mut [u8]),
}
