//! Digits as audio.

use super::{FREQUENCIES_HZ, KEYS};
use crate::command::Digit;
use crate::dsp::tone::Oscillator;

/// How strong the two tones of a digit are, in dBm0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DtmfLevels {
    /// The lower tone.
    pub row_dbm0: f64,
    /// The upper tone.
    pub column_dbm0: f64,
}

impl Default for DtmfLevels {
    /// -9 and -7 dBm0: lines weaken the upper tone more (ETSI ES 201 235-2 section 4.2.4).
    fn default() -> Self {
        Self { row_dbm0: -9.0, column_dbm0: -7.0 }
    }
}

/// One digit and the pause after it, in frames of any length.
#[derive(Clone, Debug)]
pub struct DtmfGenerator {
    row: Oscillator,
    column: Oscillator,
    tone_samples: usize,
    pause_samples: usize,
}

impl DtmfGenerator {
    /// A digit at `rate_hz`: so many samples of tone, then so many of silence.
    #[must_use]
    pub fn new(
        digit: Digit,
        levels: DtmfLevels,
        rate_hz: u32,
        tone_samples: usize,
        pause_samples: usize,
    ) -> Self {
        let key =
            KEYS.iter().position(|&key| char::from(key) == digit.as_char()).expect("every digit has a key");
        Self {
            row: Oscillator::new(FREQUENCIES_HZ[key / 4], rate_hz, levels.row_dbm0),
            column: Oscillator::new(FREQUENCIES_HZ[4 + key % 4], rate_hz, levels.column_dbm0),
            tone_samples,
            pause_samples,
        }
    }

    /// Writes the next samples; returns how many, fewer than `pcm` has at the end.
    pub fn fill(&mut self, pcm: &mut [i16]) -> usize {
        let tone = pcm.len().min(self.tone_samples);
        for sample in &mut pcm[..tone] {
            *sample = (self.row.next_sample() + self.column.next_sample()).round() as i16;
        }
        self.tone_samples -= tone;
        let pause = (pcm.len() - tone).min(self.pause_samples);
        pcm[tone..tone + pause].fill(0);
        self.pause_samples -= pause;
        tone + pause
    }

    /// Whether tone and pause are over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.tone_samples == 0 && self.pause_samples == 0
    }
}
