//! The family of companding kernels.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vectors;

use super::{Gain, Loudness};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::simd) use vectors::vectors;

/// ITU-T G.711 on slices. A kernel with two slices handles as many samples as the shorter one has.
///
/// `law` defines each code; the fused kernels are defined by the plain ones and [`Gain::apply`].
#[derive(Debug)]
pub struct G711 {
    /// Linear to mu-law.
    pub encode_ulaw: fn(pcm: &[i16], encoded: &mut [u8]),
    /// Linear to A-law.
    pub encode_alaw: fn(pcm: &[i16], encoded: &mut [u8]),
    /// Mu-law to linear.
    pub decode_ulaw: fn(encoded: &[u8], pcm: &mut [i16]),
    /// A-law to linear.
    pub decode_alaw: fn(encoded: &[u8], pcm: &mut [i16]),
    /// Mu-law to A-law by G.711 table 3.
    pub ulaw_to_alaw: fn(source: &[u8], target: &mut [u8]),
    /// A-law to mu-law by G.711 table 4.
    pub alaw_to_ulaw: fn(source: &[u8], target: &mut [u8]),
    /// As `ulaw_to_alaw`, where the codes lie.
    pub ulaw_to_alaw_in_place: fn(audio: &mut [u8]),
    /// As `alaw_to_ulaw`, where the codes lie.
    pub alaw_to_ulaw_in_place: fn(audio: &mut [u8]),
    /// Applies a gain, then encodes.
    pub encode_ulaw_gain: fn(pcm: &[i16], gain: Gain, encoded: &mut [u8]),
    /// Applies a gain, then encodes.
    pub encode_alaw_gain: fn(pcm: &[i16], gain: Gain, encoded: &mut [u8]),
    /// Decodes, applies a gain and measures what comes out.
    pub decode_ulaw_gain: fn(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness,
    /// Decodes, applies a gain and measures what comes out.
    pub decode_alaw_gain: fn(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness,
    /// The level of coded audio, without storing what it decodes to.
    pub measure_ulaw: fn(encoded: &[u8]) -> Loudness,
    /// The level of coded audio, without storing what it decodes to.
    pub measure_alaw: fn(encoded: &[u8]) -> Loudness,
    /// The largest magnitude in coded audio: the cheapest test for silence. 0 for no audio.
    pub peak_ulaw: fn(encoded: &[u8]) -> u16,
    /// The largest magnitude in coded audio, at least 8 as A-law has no zero. 0 for no audio.
    pub peak_alaw: fn(encoded: &[u8]) -> u16,
}

#[cfg(test)]
mod tests;
