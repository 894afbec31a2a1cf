//! Voice activity by earshot's network: 16 kHz, frames of 16 ms, about 8 KiB per call.

use std::fmt;

use earshot::Detector;

/// A rate that [`NeuralVad`] does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the neural voice activity detector takes 8000 and 16000 Hz, not {0}")]
pub struct UnsupportedRate(pub u32);

/// The detector of one call. The decision on a frame is the network's on the last whole 16 ms that it
/// completed.
pub struct NeuralVad {
    detector: Box<Detector>,
    doubler: Option<Doubler>,
    /// At 16 kHz, filling up.
    frame: [i16; FRAME],
    filled: usize,
    score: f32,
    /// Network frames that still count as speech.
    active: u8,
}

impl NeuralVad {
    /// A detector for audio at 8,000 or 16,000 Hz. All memory is taken here.
    ///
    /// # Errors
    ///
    /// Any other rate.
    pub fn new(rate_hz: u32) -> Result<Self, UnsupportedRate> {
        let doubler = match rate_hz {
            8000 => Some(Doubler::default()),
            16_000 => None,
            other => return Err(UnsupportedRate(other)),
        };
        Ok(Self {
            detector: Detector::default_boxed(),
            doubler,
            frame: [0; FRAME],
            filled: 0,
            score: 0.0,
            active: 0,
        })
    }

    /// Whether somebody speaks in this frame, or did in the last 160 ms. Takes frames of any length.
    pub fn handle_frame(&mut self, pcm: &[i16]) -> bool {
        for &sample in pcm {
            if let Some(doubler) = &mut self.doubler {
                for sample in doubler.double(sample) {
                    self.push(sample);
                }
            } else {
                self.push(sample);
            }
        }
        self.active > 0
    }

    /// The network's last opinion, 0 to 1.
    #[must_use]
    pub const fn score(&self) -> f32 {
        self.score
    }

    fn push(&mut self, sample: i16) {
        self.frame[self.filled] = sample;
        self.filled += 1;
        if self.filled == FRAME {
            self.filled = 0;
            self.score = self.detector.predict_i16(&self.frame);
            self.active = if self.score >= SPEECH { HANG } else { self.active.saturating_sub(1) };
        }
    }
}

impl fmt::Debug for NeuralVad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NeuralVad")
            .field("score", &self.score)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

/// Twice the rate, by a windowed sinc of eight taps: images are 30 dB down where the network listens, which
/// is all it needs.
#[derive(Clone, Debug, Default)]
struct Doubler {
    history: [i16; 8],
}

impl Doubler {
    fn double(&mut self, sample: i16) -> [i16; 2] {
        self.history.copy_within(1.., 0);
        self.history[7] = sample;
        let h = self.history.map(i32::from);
        // 15 fractional bits; symmetric, sum 1.
        let between =
            20_005 * (h[3] + h[4]) - 4792 * (h[2] + h[5]) + 1284 * (h[1] + h[6]) - 113 * (h[0] + h[7]);
        let between = (between + 0x4000) >> 15;
        [self.history[3], between.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16]
    }
}

/// Samples of the network's frame.
const FRAME: usize = 256;
/// The score from which on it is speech.
const SPEECH: f32 = 0.5;
/// 160 ms.
const HANG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_rates_are_refused() {
        assert_eq!(NeuralVad::new(44_100).err(), Some(UnsupportedRate(44_100)));
    }

    #[test]
    fn doubling_keeps_a_tone_and_never_wraps() {
        let mut doubler = Doubler::default();
        let tone = |n: f64| 10_000.0 * (n * std::f64::consts::TAU * 1000.0 / 8000.0).sin();
        for n in 0..200 {
            let [here, between] = doubler.double(tone(f64::from(n)) as i16);
            if n > 8 {
                assert!((f64::from(here) - tone(f64::from(n) - 4.0)).abs() < 2.0);
                assert!((f64::from(between) - tone(f64::from(n) - 3.5)).abs() < 100.0);
            }
        }
        for sample in
            [i16::MIN, i16::MAX, i16::MIN, i16::MIN, i16::MAX, i16::MAX, i16::MIN, i16::MIN, i16::MAX]
        {
            doubler.double(sample);
        }
    }

    #[test]
    fn length_of_frames_does_not_matter() {
        let pcm: Vec<i16> = (0..8000).map(|i| ((i * i) % 3001 - 1500) as i16).collect();
        let score = |frame| {
            let mut vad = NeuralVad::new(8000).expect("a rate it takes");
            pcm.chunks(frame).for_each(|frame| {
                vad.handle_frame(frame);
            });
            vad.score().to_bits()
        };
        assert_eq!(score(160), score(1));
        assert_eq!(score(160), score(481));
        assert_eq!(score(160), score(8000));
    }
}
