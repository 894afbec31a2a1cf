//! Sines: made, and found again in what came out.

use std::f64::consts::TAU;

/// `amplitude * sin(TAU * hertz * time + phase)`.
#[derive(Clone, Copy, Debug)]
pub struct Sine {
    pub hertz: f64,
    pub amplitude: f64,
    pub phase: f64,
}

impl Sine {
    pub fn at(&self, time: f64) -> f64 {
        self.amplitude * (TAU * self.hertz * time + self.phase).sin()
    }
}

/// The sine of that frequency that is nearest to the samples (least squares), the first of which is at
/// `start` seconds.
pub fn fit(samples: &[f64], rate: f64, start: f64, hertz: f64) -> Sine {
    let (mut ss, mut sc, mut cc, mut sy, mut cy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, &sample) in samples.iter().enumerate() {
        let (sin, cos) = (TAU * hertz * (start + n as f64 / rate)).sin_cos();
        ss += sin * sin;
        sc += sin * cos;
        cc += cos * cos;
        sy += sin * sample;
        cy += cos * sample;
    }
    let determinant = ss * cc - sc * sc;
    let (sin, cos) = if determinant.abs() < 1e-6 {
        (0.0, 0.0)
    } else {
        ((sy * cc - cy * sc) / determinant, (cy * ss - sy * sc) / determinant)
    };
    Sine { hertz, amplitude: sin.hypot(cos), phase: cos.atan2(sin) }
}

pub fn power(samples: &[f64]) -> f64 {
    samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len().max(1) as f64
}

/// Decibels of a ratio of powers.
pub fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.max(1e-14).log10()
}

/// To the nearest 16-bit sample.
pub fn quantise(sample: f64) -> i16 {
    sample.round().clamp(-32_768.0, 32_767.0) as i16
}

/// To the interval from -half to half a turn.
pub fn wrapped(phase: f64) -> f64 {
    phase - TAU * (phase / TAU).round()
}

/// The magnitudes of the lower half of a spectrum, by the definition: short blocks only.
pub fn magnitudes(block: &[f64]) -> Vec<f64> {
    let n = block.len();
    let (table_sin, table_cos): (Vec<f64>, Vec<f64>) =
        (0..n).map(|k| (TAU * k as f64 / n as f64).sin_cos()).unzip();
    (0..=n / 2)
        .map(|bin| {
            let (mut real, mut imaginary, mut at) = (0.0, 0.0, 0);
            for &sample in block {
                real += sample * table_cos[at];
                imaginary -= sample * table_sin[at];
                at = (at + bin) % n;
            }
            f64::hypot(real, imaginary)
        })
        .collect()
}
