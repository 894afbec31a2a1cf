//! The family of loudness kernels, and what they measure and apply.

use std::ops::Add;

/// Loudness of 16-bit samples.
#[derive(Debug)]
pub struct Levels {
    /// Measures.
    pub measure: fn(pcm: &[i16]) -> Loudness,
    /// Applies a gain where the samples lie and measures the result.
    pub amplify: fn(pcm: &mut [i16], gain: Gain) -> Loudness,
}

/// How loud some samples are, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loudness {
    /// The squares of all samples, summed. It cannot overflow before 2^33 samples.
    pub sum_of_squares: u64,
    /// The largest magnitude, 0 to 32,768.
    pub peak: u16,
}

impl Loudness {
    /// The level of one sample.
    #[inline(always)]
    #[must_use]
    pub const fn of(sample: i16) -> Self {
        let peak = sample.unsigned_abs();
        Self { sum_of_squares: peak as u64 * peak as u64, peak }
    }
}

impl Add for Loudness {
    type Output = Self;

    /// The level of both runs of samples taken together.
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self {
            sum_of_squares: self.sum_of_squares.saturating_add(other.sum_of_squares),
            peak: self.peak.max(other.peak),
        }
    }
}

/// What samples are multiplied with: 0 to 7.9998 (+18 dB) in steps of 1/4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gain(i16);

impl Gain {
    /// Nothing is heard.
    pub const MUTE: Self = Self(0);
    /// Leaves every sample as it is.
    pub const UNITY: Self = Self(1 << Self::FRACTION_BITS);
    /// The greatest.
    pub const MAX: Self = Self(i16::MAX);

    pub(in crate::simd) const FRACTION_BITS: u32 = 12;

    /// The nearest gain to a factor; outside 0 to 8 the nearest end, and not a number is [`Gain::UNITY`].
    #[must_use]
    pub fn from_factor(factor: f32) -> Self {
        if factor.is_nan() {
            return Self::UNITY;
        }
        let steps = factor * f32::from(Self::UNITY.0);
        Self(steps.round().clamp(0.0, f32::from(i16::MAX)) as i16)
    }

    /// The nearest gain to that many decibels; below -78 dB it is [`Gain::MUTE`], above 18 dB [`Gain::MAX`].
    #[must_use]
    pub fn from_decibels(decibels: f32) -> Self {
        Self::from_factor(10f32.powf(decibels / 20.0))
    }

    /// The gain as a factor.
    #[must_use]
    pub fn factor(self) -> f32 {
        f32::from(self.0) / f32::from(Self::UNITY.0)
    }

    /// In steps of 1/4096.
    pub(crate) const fn steps(self) -> i16 {
        self.0
    }

    /// One sample with this gain: rounded half up, limited to 16 bits.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, sample: i16) -> i16 {
        let product = sample as i32 * self.0 as i32;
        let rounded = (product + (1 << (Self::FRACTION_BITS - 1))) >> Self::FRACTION_BITS;
        if rounded > i16::MAX as i32 {
            i16::MAX
        } else if rounded < i16::MIN as i32 {
            i16::MIN
        } else {
            rounded as i16
        }
    }
}

impl Default for Gain {
    fn default() -> Self {
        Self::UNITY
    }
}

#[cfg(test)]
mod tests;
