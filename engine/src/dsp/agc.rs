//! Automatic gain control: speech to a target level, slowly.
//!
//! The gain moves only while somebody speaks, as a voice activity detector says, so that pauses are not
//! pumped up; by at most 1.7 dB/s up and 6.8 dB/s down at 20 ms per frame, so that words keep their stress;
//! and within a range. A frame that would clip is turned down at once. Integers only: the same audio gives
//! the same bits everywhere.

use super::level::doublings;
use crate::simd::{NO_LEVEL, kernels};

/// What an [`Agc`] aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgcConfig {
    /// The level of active speech in dBov, -40 to -10.
    pub target_dbov: i8,
    /// The most it amplifies, in dB, up to 18.
    pub most_gain_db: u8,
    /// The most it attenuates, in dB, up to 40.
    pub most_loss_db: u8,
}

impl Default for AgcConfig {
    /// -23 dBov, +15 dB, -15 dB.
    fn default() -> Self {
        Self { target_dbov: -23, most_gain_db: 15, most_loss_db: 15 }
    }
}

/// Gain control of one call.
#[derive(Clone, Debug)]
pub struct Agc {
    /// In 1/256 of a doubling of power, 0 at full scale.
    target: i16,
    least: i32,
    most: i32,
    /// The level of speech so far, before the gain; [`NO_LEVEL`] until there was some.
    speech: i16,
    /// With 24 fractional bits.
    gain: i32,
}

impl Agc {
    /// A gain of one until speech has been heard. Values outside their range count as the nearest end.
    #[must_use]
    pub fn new(config: AgcConfig) -> Self {
        let factor = |decibels: f32| (10f32.powf(decibels / 20.0) * UNITY as f32) as i32;
        Self {
            target: ((i32::from(config.target_dbov.clamp(-40, -10)) * 21_771) >> 8) as i16,
            least: factor(-f32::from(config.most_loss_db.min(40))),
            most: factor(f32::from(config.most_gain_db.min(18))),
            speech: NO_LEVEL,
            gain: UNITY,
        }
    }

    /// Applies the gain where the samples lie; `speaking` is a detector's opinion of this frame.
    pub fn handle_frame(&mut self, pcm: &mut [i16], speaking: bool) {
        let loudness = (kernels().level.measure)(pcm);
        let level = doublings(loudness.sum_of_squares, pcm.len());
        let before = self.gain;
        if speaking && level != NO_LEVEL {
            self.follow(level);
            let reached = self.speech.saturating_add(gain_level(self.gain));
            if reached < self.target - NEAR_ENOUGH {
                self.gain = (self.gain + (self.gain >> 8)).min(self.most);
            } else if reached > self.target + NEAR_ENOUGH {
                self.gain = (self.gain - (self.gain >> 6)).max(self.least);
            }
        }
        // A peak beyond this would clip.
        let ceiling = i32::try_from((LOUDEST << 24) / i64::from(loudness.peak.max(1))).unwrap_or(i32::MAX);
        if self.gain > ceiling {
            self.gain = ceiling.max(self.least);
        }
        let start = before.min(ceiling.max(self.least));
        if (start, self.gain) != (UNITY, UNITY) {
            let step = (self.gain - start) / pcm.len().max(1) as i32;
            (kernels().mix.gain)(pcm, start, step);
        }
    }

    /// The gain in force, as a factor.
    #[must_use]
    pub fn factor(&self) -> f32 {
        self.gain as f32 / UNITY as f32
    }

    /// Follows the loud parts of speech quickly and the weak ones slowly, so that the estimate is the level
    /// of the syllables, not of the gaps between them.
    fn follow(&mut self, level: i16) {
        if self.speech == NO_LEVEL {
            self.speech = level;
        }
        let difference = i32::from(level) - i32::from(self.speech);
        let part = if difference > 0 { difference / 8 } else { difference / 128 };
        self.speech = (i32::from(self.speech) + part) as i16;
    }
}

/// The level that a factor adds.
fn gain_level(gain: i32) -> i16 {
    // Half the bits, so that the square fits; full scale of `doublings` is 2^15.
    let gain = u64::from(gain.unsigned_abs() >> 9);
    doublings(gain * gain, 1)
}

const UNITY: i32 = 1 << 24;
/// 1 dB either way.
const NEAR_ENOUGH: i16 = 85;
const LOUDEST: i64 = 32_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::Level;

    fn tone(peak: f64, n: usize) -> Vec<i16> {
        (0..160).map(|i| (peak * ((i + 160 * n) as f64 * 0.25).sin()) as i16).collect()
    }

    #[test]
    fn quiet_and_loud_speech_come_to_the_target() {
        for (peak, expected) in [(1000.0, -23), (12_000.0, -23), (32_000.0, -18), (100.0, -38)] {
            let mut agc = Agc::new(AgcConfig::default());
            let mut last = vec![];
            for n in 0..2000 {
                last = tone(peak, n);
                agc.handle_frame(&mut last, true);
            }
            let level = Level::of(&last).dbov();
            assert!((level - expected).abs() <= 1, "{peak}: {level} dBov");
        }
    }

    #[test]
    fn pauses_are_not_pumped_up() {
        let mut agc = Agc::new(AgcConfig::default());
        for n in 0..200 {
            agc.handle_frame(&mut tone(2000.0, n), true);
        }
        let gain = agc.factor();
        for n in 0..2000 {
            agc.handle_frame(&mut tone(50.0, n), false);
        }
        assert_eq!(agc.factor().to_bits(), gain.to_bits());
    }

    #[test]
    fn gain_is_one_until_somebody_speaks() {
        let mut agc = Agc::new(AgcConfig::default());
        let mut pcm = tone(500.0, 0);
        agc.handle_frame(&mut pcm, false);
        assert_eq!(pcm, tone(500.0, 0));
    }

    #[test]
    fn sudden_shout_does_not_clip() {
        let mut agc = Agc::new(AgcConfig::default());
        for n in 0..2000 {
            agc.handle_frame(&mut tone(500.0, n), true);
        }
        assert!(agc.factor() > 4.0);
        let mut shout = tone(30_000.0, 0);
        agc.handle_frame(&mut shout, true);
        assert!(shout.iter().all(|sample| (-32_100..=32_100).contains(sample)));
    }

    #[test]
    fn gain_moves_slowly() {
        let mut agc = Agc::new(AgcConfig::default());
        let mut before = agc.factor();
        for n in 0..500 {
            agc.handle_frame(&mut tone(if n % 2 == 0 { 300.0 } else { 9000.0 }, n), true);
            let change = 20.0 * (agc.factor() / before).log10();
            assert!((-0.14..=0.035).contains(&change), "{change}");
            before = agc.factor();
        }
    }

    #[test]
    fn extremes_and_nothing_are_handled() {
        let mut agc = Agc::new(AgcConfig { target_dbov: 127, most_gain_db: 255, most_loss_db: 255 });
        for frame in [&[i16::MIN; 480][..], &[], &[i16::MAX], &[0; 160], &[1, -1, 1]] {
            for _ in 0..300 {
                let mut pcm = frame.to_vec();
                agc.handle_frame(&mut pcm, true);
                assert!(agc.factor().is_finite() && agc.factor() > 0.0);
            }
        }
    }
}
