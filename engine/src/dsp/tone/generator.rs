//! Cadences as audio.

use super::{Oscillator, ToneBurst, ToneKind, TonePlan};

/// Plays bursts one after the other, again and again, in frames of any length.
#[derive(Clone, Debug)]
pub struct ToneGenerator {
    bursts: &'static [ToneBurst],
    rate_hz: u32,
    level_dbm0: f64,
    repeats: bool,
    /// The burst that sounds, and how many samples of it were played.
    current: usize,
    played: u64,
    oscillators: [Oscillator; MOST_TONES],
}

impl ToneGenerator {
    /// A tone of a plan, each frequency at `level_dbm0`; side tones of a modulated one are 6 dB softer.
    #[must_use]
    pub fn new(plan: &TonePlan, kind: ToneKind, rate_hz: u32, level_dbm0: f64) -> Self {
        let repeats = kind != ToneKind::SpecialInformation;
        Self::with_bursts(plan.cadence(kind), repeats, rate_hz, level_dbm0)
    }

    /// Any bursts, once or without end.
    #[must_use]
    pub fn with_bursts(bursts: &'static [ToneBurst], repeats: bool, rate_hz: u32, level_dbm0: f64) -> Self {
        let silent = Oscillator::new(0.0, rate_hz, level_dbm0);
        let oscillators = std::array::from_fn(|_| silent.clone());
        let mut generator = Self { bursts, rate_hz, level_dbm0, repeats, current: 0, played: 0, oscillators };
        generator.tune();
        generator
    }

    /// Writes the next samples; returns how many, fewer than `pcm` has at the end of what does not repeat.
    pub fn fill(&mut self, pcm: &mut [i16]) -> usize {
        let mut written = 0;
        while let Some(burst) = self.bursts.get(self.current)
            && written < pcm.len()
        {
            let on = match burst.on_ms {
                ToneBurst::ENDLESS => u64::MAX,
                on_ms => self.samples(on_ms),
            };
            let end = on.saturating_add(self.samples(burst.off_ms));
            let tones = burst.frequencies_hz.len().min(MOST_TONES);
            for sample in &mut pcm[written..] {
                if self.played >= end {
                    break;
                }
                *sample = 0;
                if self.played < on {
                    let sum: f64 = self.oscillators[..tones].iter_mut().map(Oscillator::next_sample).sum();
                    *sample = sum.round() as i16;
                }
                self.played += 1;
                written += 1;
            }
            if self.played >= end {
                self.next_burst(end == 0);
            }
        }
        written
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.current >= self.bursts.len()
    }

    fn next_burst(&mut self, is_empty: bool) {
        self.played = 0;
        self.current += 1;
        // Bursts without length would go round for ever.
        if self.current == self.bursts.len() && self.repeats && !is_empty {
            self.current = 0;
        }
        self.tune();
    }

    /// Frequencies change without a jump of phase.
    fn tune(&mut self) {
        let Some(burst) = self.bursts.get(self.current) else { return };
        let modulated = burst.frequencies_hz.len() == 3;
        for (n, (oscillator, &frequency)) in self.oscillators.iter_mut().zip(burst.frequencies_hz).enumerate()
        {
            oscillator.set_frequency(frequency, self.rate_hz);
            oscillator.set_level(self.level_dbm0 - if modulated && n > 0 { 6.0 } else { 0.0 });
        }
    }

    fn samples(&self, milliseconds: u32) -> u64 {
        u64::from(milliseconds) * u64::from(self.rate_hz) / 1000
    }
}

/// Tones that sound together.
const MOST_TONES: usize = 4;
