//! Nanosecond values in an `HdrHistogram`: 1 us to 100 s, three significant digits.

use std::io::Write;

use hdrhistogram::Histogram as Hdr;
use serde_json::{Value, json};

/// Microsecond histogram with nanosecond input.
#[derive(Clone)]
pub(super) struct Histogram(Hdr<u64>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self(Hdr::new_with_bounds(1, 100_000_000, 3).expect("bounds are valid"))
    }

    pub(super) fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record((ns + 500) / 1_000);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn reset(&mut self) {
        self.0.reset();
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Value at a percentile in milliseconds; 0 when nothing was recorded.
    pub(super) fn ms(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1_000.0
    }

    /// Number of values above a bound.
    pub(super) fn above_ms(&self, bound_ms: u64) -> u64 {
        self.0.len() - self.0.count_between(0, bound_ms * 1_000)
    }

    /// `count`, `mean_ms`, percentiles and `max_ms`.
    pub(super) fn json(&self) -> Value {
        if self.0.is_empty() {
            return json!({ "count": 0 });
        }
        json!({
            "count": self.0.len(), "min_ms": self.0.min() as f64 / 1e3, "mean_ms": self.0.mean() / 1e3,
            "p50_ms": self.ms(50.0), "p90_ms": self.ms(90.0), "p99_ms": self.ms(99.0), "p99_9_ms": self.ms(99.9),
            "max_ms": self.0.max() as f64 / 1e3,
        })
    }

    /// One line of the report.
    pub(super) fn line(&self) -> String {
        if self.0.is_empty() {
            return "      -".to_owned();
        }
        format!(
            "{:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3}  {:>9}",
            self.ms(50.0),
            self.ms(90.0),
            self.ms(99.0),
            self.ms(99.9),
            self.0.max() as f64 / 1e3,
            self.0.len()
        )
    }

    /// The percentile table that HdrHistogram plotters read (`.hgrm`), values in milliseconds.
    pub(super) fn write_hgrm(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        for step in self.0.iter_quantiles(5) {
            let value = step.value_iterated_to() as f64 / 1e3;
            let quantile = step.quantile_iterated_to();
            let count = self.0.count_between(0, step.value_iterated_to());
            let inverse =
                if quantile < 1.0 { format!("{:14.2}", 1.0 / (1.0 - quantile)) } else { "inf".to_owned() };
            writeln!(out, "{value:12.3} {quantile:14.12} {count:10} {inverse:>14}")?;
        }
        writeln!(
            out,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
            self.0.mean() / 1e3,
            self.0.stdev() / 1e3
        )?;
        writeln!(out, "#[Max     = {:12.3}, Total count    = {:12}]", self.0.max() as f64 / 1e3, self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_set_are_right() {
        let mut histogram = Histogram::new();
        (1..=1_000u64).for_each(|ms| histogram.record_ns(ms * 1_000_000));
        assert!((histogram.ms(50.0) - 500.0).abs() <= 1.0);
        assert!((histogram.ms(99.0) - 990.0).abs() <= 1.0);
        assert_eq!(histogram.above_ms(900), 100);
        let mut text = Vec::new();
        histogram.write_hgrm(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("Total count    =         1000"));
    }
}
