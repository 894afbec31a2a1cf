//! The pitch of speech: the lag at which the end of a signal resembles what came before it the most.

use crate::simd::kernels;

/// How a signal repeats itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pitch {
    /// In samples; a multiple of the speaker's period if that is shorter than the search goes.
    pub period: usize,
    /// Normalised, -1 to 1: 1 repeats exactly.
    pub correlation: f32,
}

/// Searches lags of 5 to 15 ms with a window of 20 ms, at any rate: coarsely at 4 kHz, then sample by sample.
#[derive(Clone, Debug)]
pub struct PitchSearch {
    samples_per_ms: usize,
    /// The signal at 4 kHz.
    coarse: [f32; COARSE_SAMPLES],
}

impl PitchSearch {
    /// For a rate of so many samples per millisecond (8 to 48, a multiple of 4; others are taken as 8).
    #[must_use]
    pub const fn new(samples_per_ms: usize) -> Self {
        Self { samples_per_ms, coarse: [0.0; COARSE_SAMPLES] }
    }

    /// The shortest period that is found, in samples.
    #[must_use]
    pub const fn shortest(&self) -> usize {
        SHORTEST_MS * self.samples_per_ms
    }

    /// The longest period that is found, in samples.
    #[must_use]
    pub const fn longest(&self) -> usize {
        LONGEST_MS * self.samples_per_ms
    }

    /// The pitch at the end of `signal`, of which the last 35 ms are looked at; a shorter signal has none. Periods over
    /// `most` samples are not searched.
    pub fn find(&mut self, signal: &[f32], most: usize) -> Pitch {
        let longest = self.longest().min(most).max(self.shortest());
        let unvoiced = Pitch { period: longest, correlation: 0.0 };
        let needed = (WINDOW_MS + LONGEST_MS) * self.samples_per_ms;
        let Some(start) = signal.len().checked_sub(needed) else { return unvoiced };
        let signal = &signal[start..];
        let decimation = self.samples_per_ms / COARSE_PER_MS;
        for (coarse, samples) in self.coarse.iter_mut().zip(signal.chunks_exact(decimation)) {
            *coarse = samples.iter().sum::<f32>() / decimation as f32;
        }
        let coarse = best_lag(
            &self.coarse,
            WINDOW_MS * COARSE_PER_MS,
            SHORTEST_MS * COARSE_PER_MS,
            longest / decimation,
        );
        let Some(coarse) = coarse else { return unvoiced };
        let least = (coarse.period * decimation - decimation).max(self.shortest());
        let most = (coarse.period * decimation + decimation).min(longest);
        best_lag(signal, WINDOW_MS * self.samples_per_ms, least, most).unwrap_or(unvoiced)
    }
}

/// The lag from `least` to `most` at which the last `window` samples resemble earlier ones the most; `None` where
/// nothing is positively alike. At most [`LAGS`] lags.
fn best_lag(signal: &[f32], window: usize, least: usize, most: usize) -> Option<Pitch> {
    let mut products = [0f32; LAGS];
    let products = &mut products[..(most - least + 1).min(LAGS)];
    let end = signal.len();
    let recent = &signal[end - window..];
    // The first product is that of the longest lag.
    let around = &signal[end - window - most..end - least];
    (kernels().correlate.lags)(recent, around, products);
    let recent_energy = f64::from(energy(recent));
    let mut other_energy = f64::from(energy(&around[..window]));
    let mut best = None;
    let mut best_score = 0.0;
    for (n, &product) in products.iter().enumerate() {
        // The square of the correlation, without the part that all lags share.
        let score = f64::from(product) * f64::from(product) / (other_energy.max(0.0) + 1.0);
        if product > 0.0 && score >= best_score {
            best_score = score;
            let correlation = (score / (recent_energy + 1.0)).sqrt() as f32;
            best = Some(Pitch { period: most - n, correlation });
        }
        if let Some(&next) = around.get(n + window) {
            other_energy += f64::from(next) * f64::from(next) - f64::from(around[n]) * f64::from(around[n]);
        }
    }
    best
}

/// The sum of squares.
pub(super) fn energy(samples: &[f32]) -> f32 {
    let mut sum = [0.0];
    (kernels().correlate.lags)(samples, samples, &mut sum);
    sum[0]
}

const SHORTEST_MS: usize = 5;
const LONGEST_MS: usize = 15;
const WINDOW_MS: usize = 20;
const COARSE_PER_MS: usize = 4;
const COARSE_SAMPLES: usize = (WINDOW_MS + LONGEST_MS) * COARSE_PER_MS;
/// The coarse search has 41, the fine one at 48 kHz 25.
const LAGS: usize = (LONGEST_MS - SHORTEST_MS) * COARSE_PER_MS + 1;
