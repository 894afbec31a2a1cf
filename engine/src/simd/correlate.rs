//! The family of correlation kernels.

/// Sums of products over many lags, in 32-bit floating point with a fixed order of additions.
#[derive(Debug)]
pub struct Correlate {
    /// `products[k]` becomes the sum of `window[n] * around[k + n]` over the whole window, for as many lags as
    /// `products` has places and `around` has samples for; the places after those become 0.
    ///
    /// Sample `n` is added to lane `n % 16`, and the lanes are added pairwise: 0 and 8, .. 7 and 15, then 0 and 4, ..
    pub lags: fn(window: &[f32], around: &[f32], products: &mut [f32]),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::simd::available;

    fn check(window: &[f32], around: &[f32], lags: usize) {
        let mut tables = available();
        let scalar = tables.next().expect("the scalar table");
        let mut expected = vec![f32::NAN; lags];
        (scalar.correlate.lags)(window, around, &mut expected);
        for table in tables {
            let mut products = vec![f32::NAN; lags];
            (table.correlate.lags)(window, around, &mut products);
            let bits = |products: &[f32]| products.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&products), bits(&expected), "{}: {} {}", table.name, window.len(), lags);
        }
    }

    #[test]
    fn sums_are_those_of_plain_arithmetic() {
        let around: Vec<f32> = (0..200i16).map(|n| f32::from(n * 37 % 101 - 50)).collect();
        for len in 0..70 {
            for table in available() {
                let mut products = [f32::NAN; 9];
                (table.correlate.lags)(&around[100..100 + len], &around[90..90 + len + 6], &mut products);
                for (lag, &product) in products.iter().enumerate().take(7) {
                    let sum: f32 = (0..len).map(|n| around[100 + n] * around[90 + lag + n]).sum();
                    assert_eq!(product, sum, "{} {len} {lag}", table.name);
                }
                assert_eq!(products[7..], [0.0, 0.0], "{} has no samples for them", table.name);
            }
        }
    }

    #[test]
    fn every_length_gives_the_same_bits() {
        let signal: Vec<f32> = (0..400).map(|n| ((n * 7919 % 1009) as f32 - 500.0) * 65.3).collect();
        for len in 0..100 {
            check(&signal[len % 5..][..len], &signal[len % 3..][..len + 41], 1 + len % 45);
        }
        check(&signal[..50], &signal[..40], 3);
        check(&[], &[], 2);
    }

    proptest! {
        #[test]
        fn any_values_give_the_same_bits(
            signal in proptest::collection::vec(-32_768f32..=32_767.0, 0..300),
            len in 0usize..300,
            lags in 0usize..50,
        ) {
            check(&signal[signal.len().saturating_sub(len)..], &signal, lags);
        }
    }
}
