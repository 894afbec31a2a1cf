//! Comfort noise (RFC 3389): a level and the spectrum of the background noise, as reflection coefficients.
//!
//! ```text
//!   0 1 2 3 4 5 6 7
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ..
//!  |0|  level      |  N1           | N2 ..
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ..
//! ```
//!
//! The level is in -dBov (section 3.1), coefficient `k` travels as `N = 127 k + 127` (section 3.2). Of the
//! two signs that textbooks have we take `k1 = -r1 / r0`, where the synthesis filter is `1 / (1 + a1 z^-1 + ..)` and
//! `a1 = k1` at order 1: so do the decoder of WebRTC and both sides of FFmpeg.

use crate::dsp::level::{Level, squares};

/// Coefficients that are heeded; a decoder may use fewer than it is sent (section 3.2).
pub const MAX_ORDER: usize = 10;

/// The generator: white noise through an all-pole lattice.
#[derive(Clone, Copy, Debug)]
pub struct ComfortNoise {
    state: u32,
    /// Of the white noise; 0 is silence.
    gain: f32,
    reflections: [f32; MAX_ORDER],
    order: usize,
    /// The lattice's backward errors, one sample old.
    backward: [f32; MAX_ORDER],
}

impl ComfortNoise {
    /// Silence until a level is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: 0x2545_F491,
            gain: 0.0,
            reflections: [0.0; MAX_ORDER],
            order: 0,
            backward: [0.0; MAX_ORDER],
        }
    }

    /// Takes the payload of a comfort noise packet; an empty one means silence, one octet white noise.
    pub fn handle_payload(&mut self, payload: &[u8]) {
        let level = payload.first().map_or(127, |first| first & 0x7F);
        let coefficients = payload.get(1..).unwrap_or_default();
        let mut reflections = [0.0; MAX_ORDER];
        // What the lattice amplifies the power of white noise by is 1 / product of (1 - k^2).
        let mut power = 1.0;
        for (k, &coefficient) in reflections.iter_mut().zip(coefficients) {
            // 255 is reserved: no coefficient.
            if coefficient < 255 {
                *k = ((f32::from(coefficient) - 127.0) / 127.0).clamp(-SHARPEST, SHARPEST);
            }
            power *= 1.0 - *k * *k;
        }
        if reflections != self.reflections {
            // The memory belongs to another filter.
            self.backward = [0.0; MAX_ORDER];
            self.reflections = reflections;
            self.order = coefficients.len().min(MAX_ORDER);
        }
        let rms = (32_767.0 * 10f32.powf(-f32::from(level) / 20.0)).min(LOUDEST);
        // 0 dBov is a square wave at full scale; uniform noise of peak 1 has the power 1/3.
        self.gain = if rms < 0.5 { 0.0 } else { rms * (3.0 * power).sqrt() };
    }

    /// Forgets the level.
    pub fn silence(&mut self) {
        self.gain = 0.0;
    }

    /// The next noise.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        if self.gain == 0.0 {
            return pcm.fill(0);
        }
        let order = self.order.min(MAX_ORDER);
        for sample in pcm {
            // Numerical Recipes' generator; its top half is random enough to be heard as noise.
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut forward = ((self.state as i32) >> 16) as f32 / 32_768.0 * self.gain;
            for stage in (0..order).rev() {
                let k = self.reflections[stage];
                forward -= k * self.backward[stage];
                if stage + 1 < order {
                    self.backward[stage + 1] = self.backward[stage] + k * forward;
                }
            }
            self.backward[0] = forward;
            *sample = forward.round().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16;
        }
    }
}

impl Default for ComfortNoise {
    fn default() -> Self {
        Self::new()
    }
}

/// The analysis: what the background sounds like, over about the last 160 ms of it.
#[derive(Clone, Copy, Debug)]
pub struct NoiseAnalysis {
    order: usize,
    correlation: [f64; MAX_ORDER + 1],
    power: f64,
    fresh: bool,
}

impl NoiseAnalysis {
    /// For that many coefficients, at most [`MAX_ORDER`]; 0 is the level alone.
    #[must_use]
    pub fn new(order: usize) -> Self {
        Self { order: order.min(MAX_ORDER), correlation: [0.0; MAX_ORDER + 1], power: 0.0, fresh: true }
    }

    /// Takes a frame in which nobody speaks. An empty one says nothing.
    pub fn handle_frame(&mut self, pcm: &[i16]) {
        if pcm.is_empty() {
            return;
        }
        let samples = pcm.len() as f64;
        let part = if self.fresh { 1.0 } else { 1.0 / 8.0 };
        self.fresh = false;
        self.power += part * (squares(pcm) as f64 / samples - self.power);
        for (lag, smoothed) in self.correlation.iter_mut().enumerate().take(self.order + 1) {
            let pairs = pcm.iter().zip(pcm.get(lag..).unwrap_or_default());
            let sum: i64 = pairs.map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
            *smoothed += part * (sum as f64 / samples - *smoothed);
        }
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Self::new(self.order);
    }

    /// Writes the payload: one octet and one per coefficient, as many as there is room for. Gives its length.
    #[must_use]
    pub fn write(&self, payload: &mut [u8]) -> usize {
        let Some((level, coefficients)) = payload.split_first_mut() else { return 0 };
        *level = Level::from_squares((self.power * 4096.0) as u64, 4096).value();
        let reflections = self.reflections();
        let mut written = 1;
        for (octet, k) in coefficients.iter_mut().zip(&reflections[..self.order]) {
            *octet = (127.0 + 127.0 * k).round().clamp(0.0, 254.0) as u8;
            written += 1;
        }
        written
    }

    /// The Levinson-Durbin recursion.
    fn reflections(&self) -> [f64; MAX_ORDER] {
        let mut reflections = [0.0; MAX_ORDER];
        let mut predictor = [0.0; MAX_ORDER + 1];
        predictor[0] = 1.0;
        // A little white noise, 40 dB down and half a step of the samples, keeps the recursion in hand.
        let mut error = self.correlation[0] * 1.0001 + 0.25;
        for order in 1..=self.order {
            let sum: f64 = (0..order).map(|i| predictor[i] * self.correlation[order - i]).sum();
            let k = (-sum / error).clamp(-1.0, 1.0);
            reflections[order - 1] = k;
            let before = predictor;
            for i in 1..=order {
                predictor[i] = before[i] + k * before[order - i];
            }
            error *= 1.0 - k * k;
            if error <= 0.0 {
                break;
            }
        }
        reflections
    }
}

/// Noise louder than -26 dBov comforts nobody; a peer that asks for it is not obeyed.
const LOUDEST: f32 = 1642.0;

/// Resonances sharper than this are tones, not noise, and take long to swing in.
const SHARPEST: f32 = 0.98;

#[cfg(test)]
mod tests;
