//! The short-term spectrum of speech as an all-pole filter (linear prediction).

use crate::simd::kernels;

/// Coefficients of the filter `1 / (1 + a1 z^-1 + .. + a16 z^-16)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    coefficients: [f32; ORDER],
}

impl Envelope {
    pub(super) const FLAT: Self = Self { coefficients: [0.0; ORDER] };

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
        Self {
            coefficients: a.map(|a| {
                width *= PEAK_WIDTH;
                (a * width) as f32
            }),
        }
    }

    /// What the filter would have to be fed to give `signal` after its first [`ORDER`] samples.
    pub(super) fn residual(&self, signal: &[f32], residual: &mut [f32]) {
        for (window, out) in signal.windows(ORDER + 1).zip(residual) {
            let mut sum = window[ORDER];
            for (k, coefficient) in self.coefficients.iter().enumerate() {
                sum += coefficient * window[ORDER - 1 - k];
            }
            *out = sum;
        }
    }

    /// Filters in place; `memory` is the last output, newest first.
    pub(super) fn synthesize(&self, memory: &mut [f32; ORDER], samples: &mut [f32]) {
        for sample in samples {
            // The newest output is used last: the next sample waits for it alone.
            let mut lanes = [0f32; 4];
            for k in (4..ORDER).step_by(4) {
                for lane in 0..4 {
                    lanes[lane] += self.coefficients[k + lane] * memory[k + lane];
                }
            }
            for lane in 1..4 {
                lanes[lane] += self.coefficients[lane] * memory[lane];
            }
            let earlier = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
            let out = (*sample - earlier) - self.coefficients[0] * memory[0];
            memory.copy_within(..ORDER - 1, 1);
            memory[0] = out;
            *sample = out;
        }
    }
}

/// Poles of the filter.
pub(super) const ORDER: usize = 16;
const PEAK_WIDTH: f64 = 0.997;
