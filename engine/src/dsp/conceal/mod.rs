//! Packet loss concealment, after ITU-T G.711 Appendix I and better: for any speech rate, without delay.
//!
//! ```text
//!   history -> pitch -> the last 1, 2, 3 periods of the residual --+
//!      |   \-> envelope (linear prediction)                        +--> envelope --> fade --> audio
//!      |              \-> noise, the more the less voiced ---------+                   |
//!      +--> quietest 20 ms of late -> noise like the background -----------------------+
//! ```
//!
//! As in the appendix one pitch period is repeated, then two, then three, and the level falls by a sixth each 10 ms; but
//! the next period comes after 20 ms, not after 10. Here it is the residual that is repeated, so that the beginning needs
//! no overlap with audio not yet sent, noise takes the place of a buzz, and what is left after 60 ms is the background and
//! not a hole.

mod background;
mod envelope;
#[cfg(test)]
mod tests;

use super::pitch::{PitchSearch, energy};
use background::Background;
use envelope::{Envelope, ORDER};

/// Hears what is played, and makes up what is missing.
#[derive(Clone, Debug)]
pub struct Concealer {
    samples_per_ms: usize,
    /// What was played, real or not: the last [`Concealer::history`] of `filled` samples.
    heard: Box<[i16]>,
    filled: usize,
    search: PitchSearch,
    background: Background,
    window: Box<[f32]>,
    /// The history in floating point, then windowed audio: only while the loss is analysed.
    scratch: Box<[f32]>,
    voice: Voice,
    noise: Noise,
    /// Samples made up in a row.
    elapsed: usize,
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

/// The last voice heard, going on.
#[derive(Clone, Debug)]
struct Voice {
    envelope: Envelope,
    memory: [f32; ORDER],
    residual: Box<[f32]>,
    period: usize,
    /// Periods in use.
    periods: usize,
    /// Position in them.
    next: usize,
    /// 0 to 1.
    voiced: f32,
    noise_amplitude: f32,
    /// By what the level fell from the period before the last to the last, per sample.
    decay: f32,
    level: f32,
    random: Random,
}

/// The background going on.
#[derive(Clone, Debug)]
struct Noise {
    envelope: Envelope,
    memory: [f32; ORDER],
    amplitude: f32,
    random: Random,
}

impl Concealer {
    /// For a rate of 8, 16, 24, 32 or 48 samples per millisecond. Takes all the memory it will need.
    #[must_use]
    pub fn new(samples_per_ms: usize) -> Self {
        let samples_per_ms = (samples_per_ms / 4 * 4).clamp(8, 48);
        let kept = HISTORY_MS * samples_per_ms + ORDER;
        Self {
            samples_per_ms,
            heard: vec![0; 2 * kept].into_boxed_slice(),
            filled: kept,
            search: PitchSearch::new(samples_per_ms),
            background: Background::new(samples_per_ms),
            window: window(WINDOW_MS * samples_per_ms),
            scratch: vec![0.0; kept].into_boxed_slice(),
            voice: Voice {
                envelope: Envelope::FLAT,
                memory: [0.0; ORDER],
                residual: vec![0.0; kept - ORDER].into_boxed_slice(),
                period: 1,
                periods: 1,
                next: 0,
                voiced: 0.0,
                noise_amplitude: 0.0,
                decay: 1.0,
                level: 1.0,
                random: Random(0x2545_F491),
            },
            noise: Noise {
                envelope: Envelope::FLAT,
                memory: [0.0; ORDER],
                amplitude: 0.0,
                random: Random(0x9E37_79B9),
            },
            elapsed: 0,
            state: State::Inactive,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.heard.fill(0);
        self.filled = self.kept();
        self.background.reset();
        self.state = State::Inactive;
    }

    /// Takes audio that is played. After a loss its beginning is changed: cross-faded with what would have been made
    /// up, 4 ms and 4 ms more for each 10 ms lost, up to 10 ms (Appendix I).
    pub fn hear(&mut self, pcm: &mut [i16]) {
        self.recover(pcm);
        self.remember(pcm);
        if self.state == State::Inactive {
            let kept = self.kept();
            self.background.hear(&self.heard[self.filled - kept..self.filled], pcm.len());
        }
    }

    /// Fills `pcm` with what may have been said.
    pub fn conceal(&mut self, pcm: &mut [i16]) {
        if self.state != State::Active {
            self.begin();
        }
        self.synthesize(pcm);
        self.remember(pcm);
    }

    /// What comes next does not follow what was heard last: it will be faded in as after a loss.
    pub fn interrupt(&mut self) {
        if self.state != State::Active {
            self.begin();
        }
    }

    /// How many samples [`Concealer::hear`] still has to change.
    #[must_use]
    pub fn pending_recovery(&self) -> usize {
        match self.state {
            State::Inactive => 0,
            State::Active => self.recovery_samples(),
            State::Recovering { done, total } => total - done,
        }
    }

    /// What was played last: 52 ms at 8 kHz, a little over 50 ms at any rate.
    #[must_use]
    pub fn history(&self) -> &[i16] {
        &self.heard[self.filled - self.kept()..self.filled]
    }

    fn kept(&self) -> usize {
        HISTORY_MS * self.samples_per_ms + ORDER
    }

    /// Analyses what was last heard.
    fn begin(&mut self) {
        let kept = self.kept();
        let history = &self.heard[self.filled - kept..self.filled];
        for (sample, &pcm) in self.scratch.iter_mut().zip(history) {
            *sample = f32::from(pcm);
        }
        let pitch = self.search.find(&self.scratch, self.search.longest());
        let voice = &mut self.voice;
        keep(&mut voice.memory, &self.scratch);
        let mut windowed = [0f32; WINDOW_MS * MOST_PER_MS + ORDER];
        let len = self.window.len();
        voice.envelope = analyse(&self.window, &self.scratch[kept - len..], &mut windowed);
        voice.envelope.residual(&self.scratch, &mut voice.residual);
        voice.period = pitch.period;
        voice.periods = 1;
        voice.next = 0;
        voice.voiced = ((pitch.correlation - UNVOICED) / (VOICED - UNVOICED)).clamp(0.0, 1.0);
        let residual = &voice.residual[kept - ORDER - pitch.period..];
        voice.noise_amplitude = rms(residual) * UNIFORM_PEAK;
        let last = rms(&self.scratch[kept - pitch.period..]);
        let before = rms(&self.scratch[kept - 2 * pitch.period..kept - pitch.period]);
        let trend = ((last + 1.0) / (before + 1.0)).clamp(TREND_LEAST, 1.0);
        voice.decay = 1.0 - (1.0 - trend) / pitch.period as f32;
        voice.level = 1.0;
        match self.background.audio() {
            Some(audio) => {
                let mut signal = [0f32; WINDOW_MS * MOST_PER_MS + ORDER];
                let mut residual = [0f32; WINDOW_MS * MOST_PER_MS];
                for (sample, &pcm) in signal.iter_mut().zip(audio) {
                    *sample = f32::from(pcm);
                }
                self.noise.envelope = analyse(&self.window, &signal[..len], &mut windowed);
                self.noise.envelope.residual(&signal[..len], &mut residual[..len - ORDER]);
                self.noise.amplitude = rms(&residual[..len - ORDER]) * UNIFORM_PEAK;
            }
            None => self.noise.amplitude = 0.0,
        }
        self.noise.memory = [0.0; ORDER];
        self.elapsed = 0;
        self.state = State::Active;
    }

    fn synthesize(&mut self, pcm: &mut [i16]) {
        // Each begins with the output before.
        let (mut voice, mut noise) = ([0f32; ORDER + PIECE], [0f32; ORDER + PIECE]);
        for piece in pcm.chunks_mut(PIECE) {
            let (voice, noise) = (&mut voice[..ORDER + piece.len()], &mut noise[..ORDER + piece.len()]);
            let ms = self.samples_per_ms;
            if self.elapsed < FADE_TO_MS * ms {
                self.voice.periods = (1 + self.elapsed / (EXTEND_MS * ms)).min(3);
                self.voice.fill(voice);
            } else {
                voice.fill(0.0);
            }
            self.noise.fill(noise);
            let (from, to) = ((FADE_FROM_MS * ms) as f32, (FADE_TO_MS * ms) as f32);
            let (voice, noise) = (&voice[ORDER..], &noise[ORDER..]);
            for (n, sample) in piece.iter_mut().enumerate() {
                let gain = ((to - (self.elapsed + n) as f32) / (to - from)).clamp(0.0, 1.0);
                *sample = (voice[n] * gain + noise[n] * (1.0 - gain)).round_ties_even() as i16;
            }
            self.elapsed += piece.len();
        }
    }

    fn recover(&mut self, pcm: &mut [i16]) {
        if self.state == State::Active {
            self.state = State::Recovering { done: 0, total: self.recovery_samples() };
        }
        let State::Recovering { mut done, total } = self.state else { return };
        let mut made_up = [0; PIECE];
        let left = (total - done).min(pcm.len());
        for piece in pcm[..left].chunks_mut(PIECE) {
            let made_up = &mut made_up[..piece.len()];
            self.synthesize(made_up);
            for (sample, &made_up) in piece.iter_mut().zip(made_up.iter()) {
                done += 1;
                let weight = done as f32 / (total + 1) as f32;
                let blended = f32::from(made_up) * (1.0 - weight) + f32::from(*sample) * weight;
                *sample = blended.round_ties_even() as i16;
            }
        }
        self.state = if done == total { State::Inactive } else { State::Recovering { done, total } };
    }

    fn recovery_samples(&self) -> usize {
        let lost_ms = self.elapsed / self.samples_per_ms;
        (4 + lost_ms / 10 * 4).min(10) * self.samples_per_ms
    }

    fn remember(&mut self, pcm: &[i16]) {
        let kept = self.kept();
        let pcm = &pcm[pcm.len().saturating_sub(kept)..];
        if self.filled + pcm.len() > self.heard.len() {
            let stays = kept - pcm.len();
            self.heard.copy_within(self.filled - stays..self.filled, 0);
            self.filled = stays;
        }
        self.heard[self.filled..self.filled + pcm.len()].copy_from_slice(pcm);
        self.filled += pcm.len();
    }
}

impl Voice {
    /// Fills `samples` behind the first [`ORDER`].
    fn fill(&mut self, samples: &mut [f32]) {
        let len = self.period * self.periods;
        let pattern = &self.residual[self.residual.len() - len..];
        let noise_amplitude = self.noise_amplitude * (1.0 - self.voiced * self.voiced).sqrt();
        let (before, new) = samples.split_at_mut(ORDER);
        before.copy_from_slice(&self.memory);
        for sample in new {
            *sample = pattern[self.next] * self.voiced + self.random.next() * noise_amplitude;
            self.next = if self.next + 1 == len { 0 } else { self.next + 1 };
        }
        self.envelope.synthesize(samples);
        keep(&mut self.memory, samples);
        for sample in &mut samples[ORDER..] {
            self.level *= self.decay;
            *sample *= self.level;
        }
    }
}

impl Noise {
    /// Fills `samples` behind the first [`ORDER`].
    fn fill(&mut self, samples: &mut [f32]) {
        if self.amplitude == 0.0 {
            return samples.fill(0.0);
        }
        let (before, new) = samples.split_at_mut(ORDER);
        before.copy_from_slice(&self.memory);
        for sample in new {
            *sample = self.random.next() * self.amplitude;
        }
        self.envelope.synthesize(samples);
        keep(&mut self.memory, samples);
    }
}

fn keep(memory: &mut [f32; ORDER], samples: &[f32]) {
    if let Some(last) = samples.last_chunk() {
        *memory = *last;
    }
}

/// White noise, evenly distributed.
#[derive(Clone, Copy, Debug)]
struct Random(u32);

impl Random {
    /// -1 to 1.
    fn next(&mut self) -> f32 {
        // Numerical Recipes' generator, of which the upper half is used.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((self.0 as i32) >> 16) as f32 / 32_768.0
    }
}

fn analyse(window: &[f32], signal: &[f32], windowed: &mut [f32]) -> Envelope {
    for ((out, sample), weight) in windowed.iter_mut().zip(signal).zip(window) {
        *out = sample * weight;
    }
    windowed[window.len()..window.len() + ORDER].fill(0.0);
    Envelope::of(&windowed[..window.len() + ORDER])
}

/// Rises slowly and falls fast: what was heard last counts most.
fn window(len: usize) -> Box<[f32]> {
    let peak = len * 3 / 4;
    (0..len)
        .map(|n| {
            let (distance, side) = if n < peak { (peak - n, peak) } else { (n - peak, len - peak) };
            (0.5 + 0.5 * (std::f32::consts::PI * distance as f32 / (side + 1) as f32).cos()).sqrt()
        })
        .collect()
}

fn rms(samples: &[f32]) -> f32 {
    (energy(samples) / samples.len().max(1) as f32).sqrt()
}

/// Three periods of 15 ms and the pitch search's window find room.
const HISTORY_MS: usize = 50;
/// What the envelope is taken from.
const WINDOW_MS: usize = 20;
const MOST_PER_MS: usize = 48;
/// Samples made at once.
const PIECE: usize = 80;
/// Each so long without audio, one period more is repeated. The appendix takes half of it; measured on speech, the
/// newest period is the better guess for longer.
const EXTEND_MS: usize = 20;
const FADE_FROM_MS: usize = 0;
const FADE_TO_MS: usize = 60;
/// Correlations below are noise, and above are voice.
const UNVOICED: f32 = 0.0;
const VOICED: f32 = 0.4;
/// Evenly distributed noise of this peak has a mean square of 1.
/// A level that fell by more within a period will not go on falling so fast.
const TREND_LEAST: f32 = 0.3;
const UNIFORM_PEAK: f32 = 1.732_050_8;
