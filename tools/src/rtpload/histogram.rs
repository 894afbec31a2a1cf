//! Nanoseconds in an `HdrHistogram`: up to 10 s, three significant digits; and the buckets in which they are counted before.

use hdrhistogram::Histogram as Hdr;
use serde_json::{Value, json};

/// Latencies, or lateness.
#[derive(Clone)]
pub(super) struct Histogram(Hdr<u64>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self(Hdr::new_with_bounds(1, 10_000_000_000, 3).expect("bounds are valid"))
    }

    /// Many values at once.
    pub(super) fn record_n(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Value at a percentile in microseconds; 0 when nothing was recorded.
    pub(super) fn us(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }

    pub(super) fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// Number of values above a bound.
    pub(super) fn above_us(&self, bound_us: u64) -> u64 {
        self.0.len() - self.0.count_between(0, bound_us * 1_000)
    }

    /// `count`, `min_us`, `mean_us`, percentiles and `max_us`.
    pub(super) fn json(&self) -> Value {
        if self.0.is_empty() {
            return json!({ "count": 0 });
        }
        json!({
            "count": self.len(), "min_us": self.0.min() as f64 / 1e3, "mean_us": self.0.mean() / 1e3,
            "p50_us": self.us(50.0), "p90_us": self.us(90.0), "p99_us": self.us(99.0), "p99_9_us": self.us(99.9),
            "max_us": self.max_us(),
        })
    }

    /// One line of the report.
    pub(super) fn line(&self) -> String {
        if self.0.is_empty() {
            return "        -".to_owned();
        }
        format!(
            "{:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1}  {:>10}",
            self.us(50.0),
            self.us(90.0),
            self.us(99.0),
            self.us(99.9),
            self.max_us(),
            self.0.len()
        )
    }
}

/// Buckets that cover 32 bits of nanoseconds.
pub(super) const BUCKETS: usize = 1_024;

/// Bucket n is value n up to 31; then 32 buckets for each power of two. What is beyond 32 bits is in the last one.
pub(super) fn bucket(ns: u64) -> usize {
    let ns = ns.min(u32::MAX.into());
    let shift = ns.max(32).ilog2() - 5;
    (shift * 32) as usize + (ns >> shift) as usize
}

/// The value in the middle of a bucket.
pub(super) const fn middle(bucket: u64) -> u64 {
    match bucket / 32 {
        0 => bucket,
        power => {
            let shift = power - 1;
            ((32 + bucket % 32) << shift) + (1 << shift) / 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_three_per_cent_wide() {
        for value in [0, 5, 31, 32, 33, 100, 1_000, 12_345, 4_000_000_000] {
            let bucket = bucket(value);
            let middle = middle(bucket as u64);
            assert!(middle.abs_diff(value) <= value / 60 + 1, "{value} {middle}");
            assert!(bucket < BUCKETS);
        }
        assert_eq!(bucket(u64::MAX), bucket(u32::MAX.into()));
    }
}
