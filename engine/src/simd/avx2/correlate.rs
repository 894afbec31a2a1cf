//! Correlation over many lags.

use crate::simd::door::avx2;
use crate::simd::scalar;

avx2! {
    fn lags(window: &[f32], around: &[f32], products: &mut [f32]) {
        scalar::correlate::lags(window, around, products);
    }
}
