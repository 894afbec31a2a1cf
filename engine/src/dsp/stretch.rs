//! Shorter and longer speech at the same pitch: pitch periods are left out or repeated, and the ends overlapped (WSOLA).
//!
//! ```text
//!   shorten:  ahead  |~~~~~~~ period ~~~~~~~|~~~~        lengthen:  before ~~~~ period ~~~~| ahead ~~~~~~~
//!             faded out \______             |                              \__ once more, _/
//!                              \__ faded in |~~~~ ->                           faded in here ~~~~ ->
//! ```

use super::pitch::{Pitch, PitchSearch, energy};
use crate::simd::kernels;

/// Finds where a signal may be cut, and joins the ends. Work is bounded: a pitch search and a correlation of at most 2 ms.
#[derive(Clone, Debug)]
pub struct Stretch {
    samples_per_ms: usize,
    search: PitchSearch,
    /// Before and ahead, in floating point.
    scratch: Box<[f32]>,
}

/// What a signal must be like to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Voice of a clear pitch, or nearly silence; no steady tone, in which a cut could be heard.
    Unheard,
    /// Anything: there is no other way.
    Forced,
}

impl Stretch {
    /// For a rate of 8, 16, 24, 32 or 48 samples per millisecond. Takes all the memory it will need.
    #[must_use]
    pub fn new(samples_per_ms: usize) -> Self {
        let samples_per_ms = (samples_per_ms / 4 * 4).clamp(8, 48);
        let scratch = vec![0.0; (BEFORE_MS + LONGEST_MS + OVERLAP_MS) * samples_per_ms].into_boxed_slice();
        Self { samples_per_ms, search: PitchSearch::new(samples_per_ms), scratch }
    }

    /// The longest overlap, in samples: 15 ms.
    #[must_use]
    pub const fn overlap(&self) -> usize {
        OVERLAP_MS * self.samples_per_ms
    }

    /// How much a cut changes the length at most, in samples: 15 ms.
    #[must_use]
    pub const fn longest(&self) -> usize {
        LONGEST_MS * self.samples_per_ms
    }

    /// Leaves out one period of at most `most` samples, or where there is no pitch as many as `wanted`, at the beginning of `ahead`, which follows `before` (25 ms and more):
    /// fills `joined` and returns how many samples were left out. What comes after is `ahead[joined.len() + left_out..]`.
    /// `joined` holds 2.5 ms to [`Stretch::overlap`], and `ahead` `most` more than that (or
    /// [`Stretch::longest`], if that is less). `None`, and
    /// nothing is changed, where `cut` does not allow it.
    pub fn shorten(
        &mut self,
        before: &[i16],
        ahead: &[i16],
        joined: &mut [i16],
        most: usize,
        wanted: usize,
        cut: Cut,
    ) -> Option<usize> {
        let len = joined.len();
        let most = most.min(self.longest());
        let end = most + len;
        let ahead = ahead.get(..end)?;
        let start = self.load(before, ahead, len)?;
        let wanted = wanted.min(most);
        let (mut pitch, near) = match self.judge(start + end, most, cut)? {
            Found::Pitch(pitch) => (pitch, self.samples_per_ms),
            Found::Noise => (Pitch { period: wanted, correlation: 0.0 }, 0),
        };
        if pitch.period == 0 {
            return None;
        }
        pitch = refine(&self.scratch[start..start + end], len, pitch, near, most);
        let (out, then) = (&ahead[..len], &ahead[pitch.period..pitch.period + len]);
        join(out, then, pitch.correlation, joined);
        Some(pitch.period)
    }

    /// Repeats one period of at most `joined.len()` samples between `before` (40 ms and more) and `ahead` (at least
    /// `joined.len()`): fills `joined` and returns how many samples came in addition. What comes after is
    /// `ahead[joined.len() - repeated..]`. Otherwise as [`Stretch::shorten`].
    pub fn lengthen(&mut self, before: &[i16], ahead: &[i16], joined: &mut [i16], cut: Cut) -> Option<usize> {
        let len = joined.len();
        let ahead = ahead.get(..len)?;
        let start = self.load(before, ahead, len)?;
        let pitch = match self.judge(start + len, len, cut)? {
            Found::Pitch(pitch) => pitch,
            Found::Noise => Pitch { period: self.search.shortest().min(len), correlation: 0.0 },
        };
        let from = before.len() - pitch.period;
        let repeated = before[from..].iter().chain(ahead).copied();
        let mut again = [0; OVERLAP_MS * MOST_PER_MS];
        for (sample, repeated) in again.iter_mut().zip(repeated.take(len)) {
            *sample = repeated;
        }
        join(ahead, &again[..len], pitch.correlation, joined);
        Some(pitch.period)
    }

    /// Puts what is looked at into the scratch memory and says where `ahead` begins there.
    fn load(&mut self, before: &[i16], ahead: &[i16], overlap: usize) -> Option<usize> {
        let shortest = self.search.shortest();
        if !(shortest / 2..=self.overlap()).contains(&overlap) {
            return None;
        }
        let kept = BEFORE_MS * self.samples_per_ms;
        let before = &before[before.len().checked_sub(kept)?..];
        for (sample, &pcm) in self.scratch.iter_mut().zip(before.iter().chain(ahead)) {
            *sample = f32::from(pcm);
        }
        Some(kept)
    }

    /// What is at `end`, if some of it may be left out or repeated: periods of at most `most`.
    fn judge(&mut self, end: usize, most: usize, cut: Cut) -> Option<Found> {
        let signal = &self.scratch[..end];
        let block = STEADY_MS * self.samples_per_ms;
        let power = |samples: &[f32]| energy(samples) / samples.len() as f32;
        let level = power(&signal[end - block..]);
        if level < QUIET_POWER {
            return Some(Found::Noise);
        }
        let pitch = self.search.find(signal, most);
        if pitch.correlation < CLEAR {
            return (cut == Cut::Forced).then_some(Found::Noise);
        }
        let before = power(&signal[end - 2 * block..end - block]);
        let steady = (STEADY_LEAST..STEADY_MOST).contains(&(level / before)) && pitch.correlation > PURE;
        let allowed = most >= self.search.shortest() && (!steady || cut == Cut::Forced);
        allowed.then_some(Found::Pitch(pitch))
    }
}

/// What a signal is like where it may be cut.
enum Found {
    Pitch(Pitch),
    /// Or nearly silence: any length will do.
    Noise,
}

/// The lag within 1 ms of the pitch at which the first `len` samples of `now` resemble later ones the most.
fn refine(now: &[f32], len: usize, pitch: Pitch, near: usize, most: usize) -> Pitch {
    let least = pitch.period.saturating_sub(near).max(1);
    let most = (pitch.period + near).min(now.len() - len).min(most.max(least));
    let mut products = [0f32; 2 * MOST_PER_MS + 1];
    let products = &mut products[..most - least + 1];
    (kernels().correlate.lags)(&now[..len], &now[least..most + len], products);
    let own = energy(&now[..len]) + 1.0;
    let mut best = Pitch { period: pitch.period.clamp(least, most), correlation: 0.0 };
    for (n, product) in products.iter().enumerate() {
        let other = energy(&now[least + n..][..len]) + 1.0;
        let correlation = product / own.sqrt() / other.sqrt();
        if correlation > best.correlation {
            best = Pitch { period: least + n, correlation };
        }
    }
    best
}

/// Fades from one signal to the other; their correlation says how the level falls on the way, which is made good.
fn join(from: &[i16], to: &[i16], correlation: f32, joined: &mut [i16]) {
    let correlation = correlation.clamp(0.0, 1.0);
    let step = 1.0 / (joined.len() + 1) as f32;
    for (n, ((joined, &from), &to)) in joined.iter_mut().zip(from).zip(to).enumerate() {
        let weight = (n + 1) as f32 * step;
        let rest = 1.0 - weight;
        let power = rest * rest + weight * weight + 2.0 * rest * weight * correlation;
        let sum = f32::from(from) * rest + f32::from(to) * weight;
        *joined = (sum / power.sqrt()).round_ties_even() as i16;
    }
}

const LONGEST_MS: usize = 15;
const OVERLAP_MS: usize = 15;
/// With 2.5 ms ahead the pitch search and the two blocks of the steadiness have what they need.
const BEFORE_MS: usize = 40;
const MOST_PER_MS: usize = 48;
/// Below this correlation a join can be heard.
const CLEAR: f32 = 0.6;
/// -48 dBFS.
const QUIET_POWER: f32 = 128.0 * 128.0;
/// A signal whose level changes by no more than 0.4 dB from one such block to the next, and which repeats itself so
/// purely, is a tone.
const STEADY_MS: usize = 20;
const STEADY_LEAST: f32 = 0.91;
const STEADY_MOST: f32 = 1.1;
const PURE: f32 = 0.97;

#[cfg(test)]
mod tests;
