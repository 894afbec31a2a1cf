//! The one oscillator that all tones come from.

use std::f64::consts::TAU;

/// A sine that can change its frequency and level without a jump of phase.
#[derive(Clone, Debug)]
pub struct Oscillator {
    /// Where it is on its circle, of radius 1.
    phasor: [f64; 2],
    turn: [f64; 2],
    amplitude: f64,
}

impl Oscillator {
    /// A sine that begins at zero: its frequency, the sampling rate, and its level in dBm0, of which
    /// [`FULL_SCALE_DBM0`] is full scale.
    #[must_use]
    pub fn new(frequency_hz: f64, rate_hz: u32, level_dbm0: f64) -> Self {
        let mut oscillator = Self { phasor: [1.0, 0.0], turn: [1.0, 0.0], amplitude: 0.0 };
        oscillator.set_frequency(frequency_hz, rate_hz);
        oscillator.set_level(level_dbm0);
        oscillator
    }

    /// Changes the frequency from the next sample on.
    pub fn set_frequency(&mut self, frequency_hz: f64, rate_hz: u32) {
        let (sine, cosine) = (TAU * frequency_hz / f64::from(rate_hz)).sin_cos();
        self.turn = [cosine, sine];
    }

    /// Changes the level from the next sample on.
    pub fn set_level(&mut self, level_dbm0: f64) {
        self.amplitude = 32768.0 * 10f64.powf((level_dbm0 - FULL_SCALE_DBM0) / 20.0);
    }

    /// Turns the phase by half a circle, as the answering tone of ITU-T V.25 does.
    pub fn reverse_phase(&mut self) {
        self.phasor = self.phasor.map(|part| -part);
    }

    /// The next sample.
    #[inline]
    pub fn next_sample(&mut self) -> f64 {
        let [re, im] = self.phasor;
        let [cosine, sine] = self.turn;
        // Half of Newton's step for 1/sqrt keeps the radius at 1 without a root.
        let keep = 1.5 - 0.5 * (re * re + im * im);
        self.phasor = [(re * cosine - im * sine) * keep, (re * sine + im * cosine) * keep];
        im * self.amplitude
    }
}

/// The level of a sine of full scale (G.711 section 4).
#[expect(clippy::approx_constant, reason = "decibels, not pi")]
pub const FULL_SCALE_DBM0: f64 = 3.14;
