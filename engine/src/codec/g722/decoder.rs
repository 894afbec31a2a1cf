//! Octets to audio.

use super::band::{Band, multiply, saturate};
use super::{BLOCK, MEMORY};
use crate::simd::g722::tables::{
    HIGHER_OUTPUT, HIGHER_SCALE_STEP, LOWER_OUTPUT_48, LOWER_OUTPUT_56, LOWER_OUTPUT_64, LOWER_SCALE_STEP,
};
use crate::simd::kernels;

/// How many bits of an octet are audio; the rest may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All 8, mode 1. RTP knows only this one.
    #[default]
    Kbps64,
    /// The upper 7, mode 2.
    Kbps56,
    /// The upper 6, mode 3.
    Kbps48,
}

/// A decoder of G.722.
///
/// After a loss its state goes on from the last octet that came: feed it what comes next, and conceal the gap
/// outside of it.
#[derive(Clone, Debug)]
pub struct Decoder {
    lower: Band,
    higher: Band,
    memory: [i16; MEMORY],
    mode: Mode,
}

impl Decoder {
    /// A decoder that has heard silence so far.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_mode(Mode::Kbps64)
    }

    /// One that leaves out the lowest bits of an octet.
    #[must_use]
    pub const fn with_mode(mode: Mode) -> Self {
        Self { lower: Band::lower(), higher: Band::higher(), memory: [0; MEMORY], mode }
    }

    /// Decodes octets to two samples each at 16 kHz, as many as `payload` has and `pcm` has room for, and gives
    /// the number of samples written.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> usize {
        let octets = payload.len().min(pcm.len() / 2);
        for (payload, pcm) in payload[..octets].chunks(BLOCK).zip(pcm[..2 * octets].chunks_mut(2 * BLOCK)) {
            self.decode_block(payload, pcm);
        }
        2 * octets
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) {
        *self = Self::with_mode(self.mode);
    }

    fn decode_block(&mut self, payload: &[u8], pcm: &mut [i16]) {
        let mut bands = [0; MEMORY + 2 * BLOCK];
        let bands = &mut bands[..MEMORY + pcm.len()];
        bands[..MEMORY].copy_from_slice(&self.memory);
        for (bands, &octet) in bands[MEMORY..].as_chunks_mut::<2>().0.iter_mut().zip(payload) {
            let [lower, higher] = self.decode_bands(octet);
            // Two values of 15 bits: the sum has 16.
            *bands = [lower + higher, lower - higher];
        }
        self.memory.copy_from_slice(&bands[pcm.len()..]);
        (kernels().g722.join)(bands, pcm);
    }

    /// The lower and the higher band of an octet, each within 15 bits.
    #[inline(always)]
    pub(super) fn decode_bands(&mut self, octet: u8) -> [i16; 2] {
        [decode_lower(&mut self.lower, octet & 0x3F, self.mode), decode_higher(&mut self.higher, octet >> 6)]
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// INVQBL, RECONS and LIMIT; INVQAL, then the predictor.
#[inline(always)]
fn decode_lower(band: &mut Band, code: u8, mode: Mode) -> i16 {
    let output = match mode {
        Mode::Kbps64 => LOWER_OUTPUT_64[usize::from(code)],
        Mode::Kbps56 => LOWER_OUTPUT_56[usize::from(code >> 1)],
        Mode::Kbps48 => LOWER_OUTPUT_48[usize::from(code >> 2)],
    };
    let signal = limit(saturate(band.estimate + multiply(band.scale, i32::from(output))));
    let adapting = usize::from(code >> 2);
    let difference = multiply(band.scale, i32::from(LOWER_OUTPUT_48[adapting]));
    band.adapt(difference, LOWER_SCALE_STEP[adapting]);
    signal
}

/// INVQAH, RECONS and LIMIT, then the predictor.
#[inline(always)]
fn decode_higher(band: &mut Band, code: u8) -> i16 {
    let difference = multiply(band.scale, i32::from(HIGHER_OUTPUT[usize::from(code)]));
    let signal = limit(saturate(band.estimate + difference));
    band.adapt(difference, HIGHER_SCALE_STEP[usize::from(code)]);
    signal
}

/// LIMIT: to 15 bits.
#[inline(always)]
fn limit(signal: i32) -> i16 {
    signal.clamp(-16_384, 16_383) as i16
}
