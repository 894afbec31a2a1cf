//! The short-term spectrum of speech as an all-pole filter (linear prediction).

use crate::simd::kernels;

/// Coefficients of the filter `1 / (1 + a1 z^-1 + .. + a16 z^-16)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    coefficients: [f32; ORDER],
    /// The other way round.
    reversed: [f32; ORDER],
}

impl Envelope {
    pub(super) const FLAT: Self = Self { coefficients: [0.0; ORDER], reversed: [0.0; ORDER] };

    /// From a windowed signal that is followed by [`ORDER`] zeros: autocorrelation and Levinson-Durbin.
    pub(super) fn of(windowed: &[f32]) -> Self {
        let Some(len) = windowed.len().checked_sub(ORDER) else { return Self::FLAT };
        let mut products = [0f32; ORDER + 1];
        (kernels().correlate.lags)(&windowed[..len], windowed, &mut products);
        let mut correlation = products.map(f64::from);
        // A floor of noise 40 dB down and a little width for each peak keep the filter tame.
        correlation[0] = correlation[0] * 1.0001 + 1.0;
        let mut a = [0f64; ORDER];
        let mut error = correlation[0];
        for order in 0..ORDER {
            let sum: f64 = (0..order).map(|k| a[k] * correlation[order - k]).sum();
            let reflection = -(correlation[order + 1] + sum) / error;
            if !(-0.9999..0.9999).contains(&reflection) {
                break;
            }
            let before = a;
            for k in 0..order {
                a[k] = before[k] + reflection * before[order - 1 - k];
            }
            a[order] = reflection;
            error *= 1.0 - reflection * reflection;
        }
        let mut width = 1.0;
        let coefficients = a.map(|a| {
            width *= PEAK_WIDTH;
            (a * width) as f32
        });
        let mut reversed = coefficients;
        reversed.reverse();
        Self { coefficients, reversed }
    }

    /// What the filter would have to be fed to give `signal` after its first [`ORDER`] samples.
    pub(super) fn residual(&self, signal: &[f32], residual: &mut [f32]) {
        for (block, out) in residual.chunks_mut(TOGETHER).enumerate() {
            let Some(signal) = signal.get(block * TOGETHER..block * TOGETHER + ORDER + out.len()) else {
                return;
            };
            out.copy_from_slice(&signal[ORDER..]);
            for (k, coefficient) in self.coefficients.iter().enumerate() {
                for (sum, sample) in out.iter_mut().zip(&signal[ORDER - 1 - k..]) {
                    *sum += coefficient * sample;
                }
            }
        }
    }

    /// Filters what follows the first [`ORDER`] samples, which are the output before, in place.
    pub(super) fn synthesize(&self, samples: &mut [f32]) {
        let [c1, c2, c3, c4, ..] = self.coefficients;
        let Some(&[.., mut y4, mut y3, mut y2, mut y1]) = samples.first_chunk::<ORDER>() else { return };
        for n in ORDER..samples.len() {
            let (before, rest) = samples.split_at_mut(n);
            let Some(before) = before.last_chunk::<ORDER>() else { return };
            let mut lanes = [0f32; 4];
            for quarter in 0..ORDER / 4 - 1 {
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    *sum += self.reversed[quarter * 4 + lane] * before[quarter * 4 + lane];
                }
            }
            // What is newest stays in registers and is used last: the next sample waits for it.
            let older = ((lanes[0] + lanes[2]) + (lanes[1] + lanes[3])) + (c4 * y4 + c3 * y3);
            let out = ((rest[0] - older) - c2 * y2) - c1 * y1;
            (y4, y3, y2, y1) = (y3, y2, y1, out);
            rest[0] = out;
        }
    }
}

/// Poles of the filter.
pub(super) const ORDER: usize = 16;
/// Samples of the residual that are made side by side.
const TOGETHER: usize = 16;
const PEAK_WIDTH: f64 = 0.997;
