//! The signals of the benches, made from nothing: the same on every run.

use std::f64::consts::TAU;

/// Speech-like audio: a gliding voice of 24 harmonics under three formants, syllables, a pause in every two
/// seconds, and noise below.
pub fn speech(rate: u32, seconds: f64) -> Vec<i16> {
    let rate = f64::from(rate);
    let mut noise = Noise::new(1);
    let mut phase = 0.0;
    (0..(rate * seconds) as usize)
        .map(|n| {
            let time = n as f64 / rate;
            let pitch = 110.0 + 25.0 * (TAU * 0.7 * time).sin();
            phase += pitch / rate;
            let speaking = time % 2.0 < 1.5;
            let syllable = if speaking { 0.5 + 0.5 * (TAU * 3.1 * time).sin() } else { 0.002 };
            let voice: f64 = (1..=24)
                .map(|harmonic| {
                    let h = f64::from(harmonic);
                    let gain = [(600.0, 500.0, 1.0), (1700.0, 500.0, 0.6), (2700.0, 600.0, 0.1)]
                        .map(|(centre, width, gain)| gain * (-((pitch * h - centre) / width).powi(2)).exp());
                    gain.iter().sum::<f64>() * (TAU * phase * h + h * h * 0.3).sin()
                })
                .sum();
            let sample = voice * syllable * 5000.0 + noise.uniform() * 120.0;
            sample.clamp(-32_768.0, 32_767.0) as i16
        })
        .collect()
}

/// A small generator (xorshift) that gives the same numbers everywhere.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From -1 to 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}
