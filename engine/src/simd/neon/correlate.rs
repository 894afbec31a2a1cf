//! Correlation over many lags.

use crate::simd::door::neon;
use crate::simd::{Correlate, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: Correlate = Correlate { lags };

neon! {
    fn lags(window: &[f32], around: &[f32], products: &mut [f32]) {
        scalar::correlate::lags(window, around, products);
    }
}
