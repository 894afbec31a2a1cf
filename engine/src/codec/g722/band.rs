//! What the encoder and the decoder of one band share: the adaptive predictor and the scale factor
//! (blocks 3 and 4 of the Recommendation, the same for both bands).
//!
//! All values are 16-bit words; they are held in 32 bits so that a saturation is a clamp. `multiply` is the
//! Recommendation's product of fractions.

use crate::simd::g722::tables::{HIGHER_SCALE_LIMIT, ILB, LOWER_SCALE_LIMIT};

/// The state of one band: 20 words and the signs.
#[derive(Clone, Debug)]
pub(super) struct Band {
    /// SL or SH: what the predictor expects next.
    pub(super) estimate: i32,
    /// DETL or DETH: the linear scale factor.
    pub(super) scale: i32,
    /// NBL or NBH: the logarithmic scale factor.
    log_scale: i32,
    /// SZL or SZH: the part of the estimate that comes from the zeros.
    zero_estimate: i32,
    /// DLT or DH: the last six quantized differences, the newest first.
    differences: [i32; 6],
    /// BL or BH: the coefficients of the zeros.
    zeros: [i32; 6],
    /// RLT or RH: the last reconstructed signal.
    reconstructed: i32,
    /// PLT or PH: the last two partly reconstructed signals, the newest first. Only their signs count.
    partial: [i32; 2],
    /// AL or AH: the coefficients of the poles.
    poles: [i32; 2],
    limits: Limits,
}

/// In what the bands differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The largest logarithmic scale factor.
    log_scale: i32,
    /// The exponent of a logarithmic scale factor of zero.
    exponent: i32,
}

impl Band {
    /// The lower band after a reset.
    pub(super) const fn lower() -> Self {
        Self::new(Limits { log_scale: LOWER_SCALE_LIMIT as i32, exponent: 9 })
    }

    /// The higher band after a reset.
    pub(super) const fn higher() -> Self {
        Self::new(Limits { log_scale: HIGHER_SCALE_LIMIT as i32, exponent: 11 })
    }

    const fn new(limits: Limits) -> Self {
        Self {
            estimate: 0,
            scale: linear_scale(0, limits.exponent),
            log_scale: 0,
            zero_estimate: 0,
            differences: [0; 6],
            zeros: [0; 6],
            reconstructed: 0,
            partial: [0; 2],
            poles: [0; 2],
            limits,
        }
    }

    /// Adapts to a quantized `difference` between the signal and the estimate, and to the `step` of the
    /// logarithmic scale factor that belongs to its code.
    #[inline(always)]
    pub(super) fn adapt(&mut self, difference: i32, step: i16) {
        self.adapt_scale(step);
        // PARREC, RECONS.
        let partial = saturate(difference + self.zero_estimate);
        let reconstructed = saturate(self.estimate + difference);
        self.adapt_zeros(difference);
        self.adapt_poles(partial);
        // FILTEZ, FILTEP, PREDIC.
        self.zero_estimate = self.filter_zeros(difference);
        let newest = multiply(self.poles[0], saturate(2 * reconstructed));
        let older = multiply(self.poles[1], saturate(2 * self.reconstructed));
        self.reconstructed = reconstructed;
        self.estimate = saturate(saturate(newest + older) + self.zero_estimate);
    }

    /// LOGSCL and SCALEL, LOGSCH and SCALEH.
    #[inline(always)]
    fn adapt_scale(&mut self, step: i16) {
        let log_scale = multiply(self.log_scale, 32_512) + i32::from(step);
        self.log_scale = log_scale.clamp(0, self.limits.log_scale);
        self.scale = linear_scale(self.log_scale, self.limits.exponent);
    }

    /// UPZERO. No coefficient can leave 16 bits.
    #[inline(always)]
    fn adapt_zeros(&mut self, difference: i32) {
        let step = if difference == 0 { 0 } else { 128 };
        for (zero, &past) in self.zeros.iter_mut().zip(&self.differences) {
            *zero = multiply(*zero, 32_640) + with_sign(step, difference ^ past);
        }
    }

    /// UPPOL2 and UPPOL1.
    #[inline(always)]
    fn adapt_poles(&mut self, partial: i32) {
        let [newest, older] = self.partial;
        let [first, second] = self.poles;
        let cross = saturate(with_sign(-4, partial ^ newest) * first) >> 7;
        let second = multiply(second, 32_512) + cross + with_sign(128, partial ^ older);
        let second = second.clamp(-12_288, 12_288);
        let bound = 15_360 - second;
        let first = multiply(first, 32_640) + with_sign(192, partial ^ newest);
        self.poles = [first.clamp(-bound, bound), second];
        self.partial = [partial, newest];
    }

    /// FILTEZ: takes the newest `difference` into the line and gives the sum of products, saturated after each
    /// addition from the oldest to the newest.
    #[inline(always)]
    fn filter_zeros(&mut self, difference: i32) -> i32 {
        let [d1, d2, d3, d4, d5, _] = self.differences;
        self.differences = [difference, d1, d2, d3, d4, d5];
        let mut products = [0; 6];
        for ((product, &zero), &difference) in products.iter_mut().zip(&self.zeros).zip(&self.differences) {
            // Twice a difference always fits 16 bits.
            *product = multiply(2 * difference, zero);
        }
        let [p1, p2, p3, p4, p5, p6] = products;
        if products.iter().map(|product| product.abs()).sum::<i32>() <= 32_767 {
            // No order of additions saturates, so that this one may be the quickest.
            return ((p1 + p2) + (p3 + p4)) + (p5 + p6);
        }
        products.iter().rev().fold(0, |sum, product| saturate(sum + product))
    }
}

/// The Recommendation's `*`: the product of two fractions of 15 bits, rounded down.
#[inline(always)]
pub(super) const fn multiply(a: i32, b: i32) -> i32 {
    (a * b) >> 15
}

#[inline(always)]
pub(super) fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// `value`, negated if `sign` is negative.
#[inline(always)]
const fn with_sign(value: i32, sign: i32) -> i32 {
    (value ^ (sign >> 31)) - (sign >> 31)
}

/// SCALEL and SCALEH: from a logarithm in 1/2048 to the linear scale.
#[inline(always)]
const fn linear_scale(log_scale: i32, exponent: i32) -> i32 {
    let fraction = ILB[((log_scale >> 6) & 31) as usize] as i32;
    ((fraction << 1) >> (exponent - (log_scale >> 11))) << 2
}
