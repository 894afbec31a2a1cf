//! Audio to octets.

use super::band::{Band, multiply, saturate};
use super::{BLOCK, MEMORY};
use crate::simd::g722::tables::{
    HIGHER_OUTPUT, HIGHER_SCALE_STEP, LOWER_OUTPUT_48, LOWER_SCALE_STEP, Q2, Q6,
};
use crate::simd::kernels;

/// An encoder of G.722 at 64 kbit/s (mode 1).
#[derive(Clone, Debug)]
pub struct Encoder {
    lower: Band,
    higher: Band,
    memory: [i16; MEMORY],
}

impl Encoder {
    /// An encoder that has heard silence so far.
    #[must_use]
    pub const fn new() -> Self {
        Self { lower: Band::lower(), higher: Band::higher(), memory: [0; MEMORY] }
    }

    /// Encodes pairs of samples at 16 kHz, as many as `pcm` has and `encoded` has room for, and gives the number
    /// of octets written. An odd last sample is not taken.
    pub fn encode(&mut self, pcm: &[i16], encoded: &mut [u8]) -> usize {
        let octets = (pcm.len() / 2).min(encoded.len());
        for (pcm, encoded) in pcm[..2 * octets].chunks(2 * BLOCK).zip(encoded[..octets].chunks_mut(BLOCK)) {
            self.encode_block(pcm, encoded);
        }
        octets
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    fn encode_block(&mut self, pcm: &[i16], encoded: &mut [u8]) {
        let mut audio = [0; MEMORY + 2 * BLOCK];
        let audio = &mut audio[..MEMORY + pcm.len()];
        audio[..MEMORY].copy_from_slice(&self.memory);
        audio[MEMORY..].copy_from_slice(pcm);
        self.memory.copy_from_slice(&audio[pcm.len()..]);
        let (mut lower, mut higher) = ([0; BLOCK], [0; BLOCK]);
        (kernels().g722.split)(audio, &mut lower, &mut higher);
        for ((encoded, &lower), &higher) in encoded.iter_mut().zip(&lower).zip(&higher) {
            *encoded = self.encode_bands(lower, higher);
        }
    }

    /// An octet of the two bands, each within 15 bits.
    #[inline(always)]
    pub(super) fn encode_bands(&mut self, lower: i16, higher: i16) -> u8 {
        encode_higher(&mut self.higher, higher) << 6 | encode_lower(&mut self.lower, lower)
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// SUBTRA, QUANTL and INVQAL, then the predictor.
#[inline(always)]
fn encode_lower(band: &mut Band, signal: i16) -> u8 {
    let difference = saturate(i32::from(signal) - band.estimate);
    let magnitude = difference ^ (difference >> 31);
    // Every level is tried: that is quicker than to guess the branches of a search.
    let level =
        Q6[1..].iter().map(|&level| i32::from(multiply(8 * i32::from(level), band.scale) <= magnitude));
    // From 1 to 30.
    let interval = 1 + level.sum::<i32>() as u8;
    // Tables 13 and 14: codes fall as intervals go outwards; the two innermost negative ones are set apart.
    let code = match (difference < 0, interval) {
        (false, _) => 62 - interval,
        (true, 1 | 2) => 64 - interval,
        (true, _) => 34 - interval,
    };
    let adapting = usize::from(code >> 2);
    let difference = multiply(band.scale, i32::from(LOWER_OUTPUT_48[adapting]));
    band.adapt(difference, LOWER_SCALE_STEP[adapting]);
    code
}

/// SUBTRA, QUANTH and INVQAH, then the predictor.
#[inline(always)]
fn encode_higher(band: &mut Band, signal: i16) -> u8 {
    let difference = saturate(i32::from(signal) - band.estimate);
    let magnitude = difference ^ (difference >> 31);
    let inner = u8::from(magnitude < multiply(8 * i32::from(Q2), band.scale));
    let code = 2 * u8::from(difference >= 0) + inner;
    let difference = multiply(band.scale, i32::from(HIGHER_OUTPUT[usize::from(code)]));
    band.adapt(difference, HIGHER_SCALE_STEP[usize::from(code)]);
    code
}
