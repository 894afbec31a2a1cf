//! Hears where the caller's speech begins and ends, by its energy against an adapting noise floor.

use engine::codec::g711::ULAW_TO_LINEAR;

/// Fed with caller audio of any length, looks at it in frames of 10 ms. Time is audio time.
#[derive(Debug)]
pub(super) struct Ear {
    /// The energy of the frame that is being collected.
    energy: f64,
    samples: usize,
    /// The level of the background, in dB of full scale.
    noise_db: f64,
    /// The last frames, one bit each, the newest lowest: speech by the normal and by the strict threshold.
    speech: u32,
    loud: u32,
    /// How long it has been quiet.
    quiet_samples: usize,
}

impl Ear {
    pub(super) fn new() -> Self {
        Self { energy: 0.0, samples: 0, noise_db: START_NOISE_DB, speech: 0, loud: 0, quiet_samples: 0 }
    }

    pub(super) fn listen(&mut self, pcmu: &[u8]) {
        for &byte in pcmu {
            let sample = f64::from(ULAW_TO_LINEAR[usize::from(byte)]);
            self.energy += sample * sample;
            self.samples += 1;
            if self.samples == FRAME_SAMPLES {
                self.finish_frame();
            }
        }
    }

    /// The caller has begun to speak: 60 ms of speech within the last 100.
    pub(super) fn hears_speech(&self) -> bool {
        (self.speech & mask(10)).count_ones() >= 6
    }

    /// The caller talks over what is being played: 120 ms within the last 200, louder than an echo of it.
    pub(super) fn hears_interruption(&self) -> bool {
        (self.loud & mask(20)).count_ones() >= 12
    }

    /// For how long nothing was heard, in samples.
    pub(super) fn quiet_samples(&self) -> usize {
        self.quiet_samples
    }

    /// Forgets what was heard, not what the background sounds like.
    pub(super) fn forget(&mut self) {
        self.speech = 0;
        self.loud = 0;
        self.quiet_samples = 0;
    }

    fn finish_frame(&mut self) {
        let mean = self.energy / FRAME_SAMPLES as f64 / (32_768.0 * 32_768.0);
        self.energy = 0.0;
        self.samples = 0;
        let level_db = (10.0 * mean.max(1e-12).log10()).max(LOWEST_NOISE_DB);

        let is_speech = level_db > (self.noise_db + SPEECH_OVER_NOISE_DB).max(QUIETEST_SPEECH_DB);
        let is_loud = level_db > (self.noise_db + LOUD_OVER_NOISE_DB).max(QUIETEST_INTERRUPTION_DB);
        self.speech = self.speech << 1 | u32::from(is_speech);
        self.loud = self.loud << 1 | u32::from(is_loud);
        self.quiet_samples = if is_speech { 0 } else { self.quiet_samples + FRAME_SAMPLES };

        // Falls quickly and rises slowly, so that speech does not become its own background.
        let step = if level_db < self.noise_db {
            (level_db - self.noise_db) * 0.2
        } else {
            (level_db - self.noise_db).min(NOISE_RISE_DB)
        };
        self.noise_db = (self.noise_db + step).clamp(LOWEST_NOISE_DB, HIGHEST_NOISE_DB);
    }
}

const fn mask(frames: u32) -> u32 {
    (1 << frames) - 1
}

/// 10 ms.
const FRAME_SAMPLES: usize = 80;
const START_NOISE_DB: f64 = -60.0;
const LOWEST_NOISE_DB: f64 = -75.0;
const HIGHEST_NOISE_DB: f64 = -35.0;
/// 2 dB per second.
const NOISE_RISE_DB: f64 = 0.02;
const SPEECH_OVER_NOISE_DB: f64 = 10.0;
const QUIETEST_SPEECH_DB: f64 = -48.0;
const LOUD_OVER_NOISE_DB: f64 = 15.0;
const QUIETEST_INTERRUPTION_DB: f64 = -36.0;

#[cfg(test)]
mod tests {
    use engine::codec::g711::ulaw_from_linear;

    use super::*;

    fn noise(seconds: f64, amplitude: f64) -> Vec<u8> {
        let mut state = 1u32;
        (0..(seconds * 8000.0) as usize)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ulaw_from_linear((amplitude * (f64::from(state >> 16) / 32_768.0 - 1.0)) as i16)
            })
            .collect()
    }

    #[test]
    fn silence_is_no_speech() {
        let mut ear = Ear::new();
        ear.listen(&[0xff; 8000]);
        assert!(!ear.hears_speech() && !ear.hears_interruption());
        assert_eq!(ear.quiet_samples(), 8000);
    }

    #[test]
    fn speech_is_heard_within_a_tenth_of_a_second() {
        let mut ear = Ear::new();
        ear.listen(&noise(1.0, 20.0));
        ear.listen(&noise(0.1, 4000.0));
        assert!(ear.hears_speech() && !ear.hears_interruption());
        ear.listen(&noise(0.1, 4000.0));
        assert!(ear.hears_interruption());
        ear.listen(&noise(0.5, 20.0));
        assert!(!ear.hears_speech() && ear.quiet_samples() >= 3900);
    }

    #[test]
    fn loud_background_is_learned() {
        let mut ear = Ear::new();
        ear.listen(&noise(15.0, 300.0));
        assert!(!ear.hears_speech());
        ear.listen(&noise(0.2, 6000.0));
        assert!(ear.hears_speech());
    }

    #[test]
    fn faint_echo_is_no_interruption() {
        let mut ear = Ear::new();
        ear.listen(&noise(1.0, 400.0));
        assert!(!ear.hears_interruption());
    }

    #[test]
    fn click_is_no_speech() {
        let mut ear = Ear::new();
        ear.listen(&noise(1.0, 20.0));
        ear.listen(&noise(0.03, 20_000.0));
        ear.listen(&noise(0.03, 20.0));
        assert!(!ear.hears_speech());
    }
}
