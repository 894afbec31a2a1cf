//! Correlation over many lags.

use crate::simd::Correlate;

/// The family in this table.
pub(in crate::simd) const KERNELS: Correlate = Correlate { lags };

/// Lags that share the loads of the window.
const TOGETHER: usize = 4;
const LANES: usize = 16;

#[inline(always)]
pub(in crate::simd) fn lags(window: &[f32], around: &[f32], products: &mut [f32]) {
    let possible = if around.len() < window.len() { 0 } else { around.len() - window.len() + 1 };
    let (products, beyond) = products.split_at_mut(possible.min(products.len()));
    beyond.fill(0.0);
    let (together, single) = products.as_chunks_mut::<TOGETHER>();
    let mut first = 0;
    for products in together {
        *products = sums(window, &around[first..]);
        first += TOGETHER;
    }
    for product in single {
        [*product] = sums(window, &around[first..]);
        first += 1;
    }
}

/// The products at the first `LAGS` lags.
#[inline(always)]
fn sums<const LAGS: usize>(window: &[f32], around: &[f32]) -> [f32; LAGS] {
    let mut lanes = [[0f32; LANES]; LAGS];
    let (blocks, rest) = window.as_chunks::<LANES>();
    for (n, block) in blocks.iter().enumerate() {
        for (lag, lanes) in lanes.iter_mut().enumerate() {
            let Some(other) = around[n * LANES + lag..].first_chunk::<LANES>() else { return [0.0; LAGS] };
            for ((lane, &a), &b) in lanes.iter_mut().zip(block).zip(other) {
                *lane += a * b;
            }
        }
    }
    let done = blocks.len() * LANES;
    for (lag, lanes) in lanes.iter_mut().enumerate() {
        for ((lane, &a), &b) in lanes.iter_mut().zip(rest).zip(&around[done + lag..]) {
            *lane += a * b;
        }
    }
    lanes.map(|lanes| {
        let eight: [f32; 8] = std::array::from_fn(|n| lanes[n] + lanes[n + 8]);
        let four: [f32; 4] = std::array::from_fn(|n| eight[n] + eight[n + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    })
}
