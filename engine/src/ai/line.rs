//! The audio that the rings of an AI stream carry: that of the call's line, so that G.711 goes through untouched.

use super::dialect::{AudioFormat, Encoding};
use crate::codec::Law;
use crate::simd::Loudness;
use crate::time::Duration;

/// What is on the line. The only place that knows how its samples lie in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    format: AudioFormat,
    law: Law,
}

impl Line {
    /// A line with this audio. Legs speak G.711 as yet, so anything else is mu-law.
    pub(super) const fn new(format: AudioFormat) -> Self {
        match format.encoding {
            Encoding::Pcma => Self { format: AudioFormat::PCMA, law: Law::A },
            Encoding::Pcmu | Encoding::L16 => Self { format: AudioFormat::PCMU, law: Law::Mu },
        }
    }

    pub(super) const fn format(self) -> AudioFormat {
        self.format
    }

    pub(super) const fn law(self) -> Law {
        self.law
    }

    /// Whole samples in so many bytes.
    pub(super) const fn samples(self, bytes: usize) -> u64 {
        (bytes / self.format.encoding.sample_bytes()) as u64
    }

    /// Bytes of so many samples.
    pub(super) const fn bytes(self, samples: u64) -> usize {
        samples as usize * self.format.encoding.sample_bytes()
    }

    /// Samples in a time.
    pub(super) fn samples_in(self, duration: Duration) -> u64 {
        self.samples(self.format.bytes(duration))
    }

    /// Makes it silent.
    pub(super) fn silence(self, audio: &mut [u8]) {
        audio.fill(self.law.silence());
    }

    /// How loud it is.
    pub(super) fn loudness(self, audio: &[u8]) -> Loudness {
        self.law.measure(audio)
    }

    /// Lets the sample that `last` is fade to silence over the first 5 ms of `audio`, the rest of which is left
    /// as it is.
    pub(super) fn fade(self, last: u8, audio: &mut [u8]) {
        let mut level = [0];
        self.law.decode(&[last], &mut level);
        let level = i32::from(level[0]);
        for (n, byte) in (1..FADE_SAMPLES).zip(audio) {
            // Falls as the square, so that it ends without a corner.
            let left = FADE_SAMPLES - n;
            let sample = level * left * left / (FADE_SAMPLES * FADE_SAMPLES);
            self.law.encode(&[sample as i16], std::slice::from_mut(byte));
        }
    }
}

/// 5 ms at 8 kHz.
const FADE_SAMPLES: i32 = 40;
