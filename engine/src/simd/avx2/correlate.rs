//! Correlation over many lags.

use crate::simd::door::avx2;
use crate::simd::{Correlate, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: Correlate = Correlate { lags };

avx2! {
    fn lags(window: &[f32], around: &[f32], products: &mut [f32]) {
        scalar::correlate::lags(window, around, products);
    }
}
