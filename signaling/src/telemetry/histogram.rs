//! Durations sorted into fixed buckets, written by any thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::{Exposition, Labels};

/// A histogram of durations: one relaxed add per bucket, count and sum.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    /// A histogram with these upper bounds, ascending.
    #[must_use]
    pub fn new(bounds: &'static [Duration]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum_us: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn record(&self, value: Duration) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Reports the histogram in seconds.
    pub fn collect(&self, out: &mut Exposition, name: &str, help: &str, labels: Labels<'_>) {
        let mut total = 0;
        let mut up_to: Vec<u64> = Vec::with_capacity(self.buckets.len());
        for bucket in &self.buckets {
            total += bucket.load(Ordering::Relaxed);
            up_to.push(total);
        }
        let buckets = self.bounds.iter().map(Duration::as_secs_f64).zip(up_to);
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        out.histogram(name, help, labels, buckets, total, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];

    #[test]
    fn value_on_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(BOUNDS);
        for ms in [1, 2, 10, 11] {
            histogram.record(Duration::from_millis(ms));
        }
        let mut out = Exposition::default();
        histogram.collect(&mut out, "t_seconds", "T", &[]);
        let text = out.to_string();
        assert!(text.contains("le=\"0.001\"} 1\n"), "{text}");
        assert!(text.contains("le=\"0.01\"} 3\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 4\n"), "{text}");
        assert!(text.contains("t_seconds_sum 0.024\nt_seconds_count 4\n"), "{text}");
    }
}
