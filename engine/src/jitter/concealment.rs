//! Packet loss concealment in the manner of G.711 Appendix I: the last pitch periods are repeated, fade
//! within 60 ms, and are cross-faded into what comes next. Unlike the appendix nothing is delayed: the seam
//! at the beginning is closed by a decaying correction instead of an overlap with audio not yet sent.

/// Audio that the pitch search sees.
pub(super) const HISTORY_SAMPLES: usize = 400;

/// Makes audio up where there is none.
#[derive(Clone, Debug)]
pub(super) struct Concealer {
    pattern: [i16; PATTERN_CAPACITY],
    pattern_len: usize,
    next: usize,
    elapsed: usize,
    correction: f32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The audio is real.
    Inactive,
    /// The audio is made up.
    Active,
    /// Real audio is being faded in: so many samples of so many.
    Recovering { done: usize, total: usize },
}

impl Concealer {
    pub(super) const fn new() -> Self {
        Self {
            pattern: [0; PATTERN_CAPACITY],
            pattern_len: 1,
            next: 0,
            elapsed: 0,
            correction: 0.0,
            state: State::Inactive,
        }
    }

    /// Whether audio is being made up, so that [`Concealer::begin`] would start over.
    pub(super) fn is_active(&self) -> bool {
        self.state == State::Active
    }

    /// How many samples of real audio still have to pass through [`Concealer::recover`].
    pub(super) fn pending_recovery(&self) -> usize {
        match self.state {
            State::Inactive => 0,
            State::Active => self.recovery_samples(),
            State::Recovering { done, total } => total - done,
        }
    }

    /// Finds the pitch of what was last heard.
    pub(super) fn begin(&mut self, history: &[i16; HISTORY_SAMPLES]) {
        let period = pitch(history);
        // Several periods in turn buzz less than one; at least 10 ms.
        let len = period * (MINIMUM_PATTERN.div_ceil(period));
        let overlap = period / 4;
        let start = HISTORY_SAMPLES - len;
        self.pattern_len = len;
        self.pattern[..len].copy_from_slice(&history[start..]);
        // The end of the pattern leads over to its beginning, as the audio before the beginning did.
        for n in 0..overlap {
            let weight = (n + 1) as f32 / (overlap + 1) as f32;
            let (end, before) = (history[HISTORY_SAMPLES - overlap + n], history[start - overlap + n]);
            self.pattern[len - overlap + n] = blend(end, before, weight);
        }
        self.correction = f32::from(history[HISTORY_SAMPLES - 1]) - f32::from(history[start - 1]);
        self.next = 0;
        self.elapsed = 0;
        self.state = State::Active;
    }

    /// The next made-up samples.
    pub(super) fn synthesize(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            *sample = self.next_sample();
        }
    }

    /// Cross-fades the beginning of real audio with what would have been made up.
    pub(super) fn recover(&mut self, pcm: &mut [i16]) {
        if self.state == State::Active {
            self.state = State::Recovering { done: 0, total: self.recovery_samples() };
        }
        let State::Recovering { mut done, total } = self.state else { return };
        for sample in pcm.iter_mut().take(total - done) {
            done += 1;
            let made_up = self.next_sample();
            *sample = blend(made_up, *sample, done as f32 / (total + 1) as f32);
        }
        self.state = if done == total { State::Inactive } else { State::Recovering { done, total } };
    }

    /// 4 ms, and 4 ms more for each 10 ms without audio, up to 10 ms (Appendix I).
    fn recovery_samples(&self) -> usize {
        (32 + self.elapsed / 80 * 32).min(80)
    }

    fn next_sample(&mut self) -> i16 {
        let gain = match self.elapsed {
            0..FADE_FROM => 1.0,
            FADE_FROM..FADE_TO => (FADE_TO - self.elapsed) as f32 / (FADE_TO - FADE_FROM) as f32,
            _ => return 0,
        };
        let value = f32::from(self.pattern[self.next]) + self.correction;
        self.correction *= CORRECTION_DECAY;
        self.elapsed += 1;
        self.next = (self.next + 1) % self.pattern_len;
        (value * gain) as i16
    }
}

/// The lag, 5 to 15 ms, at which the last 20 ms resemble what came before them the most.
fn pitch(history: &[i16; HISTORY_SAMPLES]) -> usize {
    let mut samples = [0f32; HISTORY_SAMPLES];
    for (sample, &pcm) in samples.iter_mut().zip(history) {
        *sample = f32::from(pcm);
    }
    let coarse = best_lag(&samples, (PITCH_LEAST..=PITCH_MOST).step_by(2), 2);
    best_lag(&samples, (coarse - 1).max(PITCH_LEAST)..=(coarse + 1).min(PITCH_MOST), 1)
}

fn best_lag(samples: &[f32; HISTORY_SAMPLES], lags: impl Iterator<Item = usize>, stride: usize) -> usize {
    let recent = &samples[HISTORY_SAMPLES - WINDOW..];
    let mut best = (PITCH_LEAST, f32::MIN);
    for lag in lags {
        let earlier = &samples[HISTORY_SAMPLES - WINDOW - lag..][..WINDOW];
        let (mut product, mut energy) = (0.0, 1.0);
        for (a, b) in recent.iter().zip(earlier).step_by(stride) {
            product += a * b;
            energy += b * b;
        }
        let score = product / energy.sqrt();
        if score > best.1 {
            best = (lag, score);
        }
    }
    best.0
}

fn blend(from: i16, to: i16, weight: f32) -> i16 {
    (f32::from(from) * (1.0 - weight) + f32::from(to) * weight) as i16
}

const PITCH_LEAST: usize = 40;
const PITCH_MOST: usize = 120;
const WINDOW: usize = 160;
const MINIMUM_PATTERN: usize = 80;
const PATTERN_CAPACITY: usize = 160;
const FADE_FROM: usize = 80;
const FADE_TO: usize = 480;
/// A step is gone after about 3 ms.
const CORRECTION_DECAY: f32 = 0.88;

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f64, samples: std::ops::Range<usize>) -> Vec<i16> {
        samples.map(|n| (8000.0 * (n as f64 * hertz * std::f64::consts::TAU / 8000.0).sin()) as i16).collect()
    }

    fn begun(hertz: f64) -> Concealer {
        let mut concealer = Concealer::new();
        concealer.begin(&tone(hertz, 0..HISTORY_SAMPLES).try_into().expect("length"));
        concealer
    }

    fn largest_step(pcm: &[i16]) -> i32 {
        pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().expect("samples")
    }

    #[test]
    fn tone_is_continued_without_a_click_and_fades_within_60_ms() {
        for hertz in [75.0, 110.0, 200.0, 333.0] {
            let mut concealer = begun(hertz);
            let mut pcm = tone(hertz, 0..HISTORY_SAMPLES);
            let natural = largest_step(&pcm);
            let mut made_up = [0; 560];
            concealer.synthesize(&mut made_up);
            pcm.extend_from_slice(&made_up);
            assert!(largest_step(&pcm) <= natural * 3 / 2, "{hertz}: {} {natural}", largest_step(&pcm));
            assert!(made_up[..80].iter().any(|&s| s > 7000), "{hertz} keeps its level for 10 ms");
            assert!(made_up[480..].iter().all(|&s| s == 0), "{hertz} is silent after 60 ms");
        }
    }

    #[test]
    fn first_10_ms_of_a_lost_tone_are_nearly_right() {
        let mut concealer = begun(100.0);
        let mut made_up = [0; 80];
        concealer.synthesize(&mut made_up);
        let real = tone(100.0, HISTORY_SAMPLES..HISTORY_SAMPLES + 80);
        for (made_up, real) in made_up.iter().zip(&real) {
            assert!((i32::from(*made_up) - i32::from(*real)).abs() < 400, "{made_up} {real}");
        }
    }

    #[test]
    fn recovery_is_spread_over_short_pieces() {
        let mut concealer = begun(100.0);
        concealer.synthesize(&mut [0; 160]);
        assert_eq!(concealer.pending_recovery(), 80);
        let mut pieces = vec![];
        for _ in 0..12 {
            let mut piece = [1000; 10];
            concealer.recover(&mut piece);
            pieces.extend_from_slice(&piece);
        }
        assert!(!concealer.is_active());
        assert_eq!(concealer.pending_recovery(), 0);
        assert!(pieces[80..].iter().all(|&s| s == 1000));
        assert!(largest_step(&pieces) < 1200);
    }

    #[test]
    fn noise_and_full_scale_do_not_overflow() {
        let mut history = [0; HISTORY_SAMPLES];
        for (n, sample) in history.iter_mut().enumerate() {
            *sample = if n * n % 7 < 3 { i16::MAX } else { i16::MIN };
        }
        let mut concealer = Concealer::new();
        concealer.begin(&history);
        concealer.synthesize(&mut [0; 700]);
        concealer.recover(&mut [i16::MIN; 100]);
    }
}
