//! Metrics as Prometheus text (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// What a metric's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows. The name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl MetricKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Collects samples and writes them by family, whoever reported them first.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricKind,
    lines: String,
}

/// Label names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Adds a number that only grows; `name` is without the `_total` that it gets.
    pub fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: impl Into<Number>) {
        let name = format!("{name}_total");
        self.sample(&name.clone(), &name, help, MetricKind::Counter, labels, value.into());
    }

    /// Adds a number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: impl Into<Number>) {
        self.sample(name, name, help, MetricKind::Gauge, labels, value.into());
    }

    /// Adds a histogram: pairs of an upper bound and the number of values up to it, ascending, and the
    /// count and sum of all values.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let sample = format!("{name}_bucket");
        let mut bucket = |bound: &str, value: u64| {
            let labels = [labels, &[("le", bound)]].concat();
            self.sample(&sample, name, help, MetricKind::Histogram, &labels, value.into());
        };
        // Read while it grows, a bucket may be ahead of the count; a parser would refuse that.
        let mut total = 0;
        for (bound, up_to) in buckets {
            total = up_to.max(total);
            bucket(&bound.to_string(), total);
        }
        total = total.max(count);
        bucket("+Inf", total);
        self.sample(&format!("{name}_sum"), name, help, MetricKind::Histogram, labels, sum.into());
        self.sample(&format!("{name}_count"), name, help, MetricKind::Histogram, labels, total.into());
    }

    fn sample(
        &mut self,
        sample: &str,
        family: &str,
        help: &str,
        kind: MetricKind,
        labels: Labels<'_>,
        value: Number,
    ) {
        let family = self.families.entry(family.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            lines: String::new(),
        });
        let lines = &mut family.lines;
        lines.push_str(sample);
        for (index, (name, value)) in labels.iter().enumerate() {
            lines.push(if index == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(lines, "{name}=\"{value}\"");
        }
        if !labels.is_empty() {
            lines.push('}');
        }
        let _ = writeln!(lines, " {value}");
    }
}

impl fmt::Display for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, family) in &self.families {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            writeln!(f, "# HELP {name} {help}")?;
            writeln!(f, "# TYPE {name} {}", family.kind.word())?;
            f.write_str(&family.lines)?;
        }
        Ok(())
    }
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A whole number, written in full.
    Whole(u64),
    /// Any number.
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
        }
    }
}

type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// Everyone who has something to report. They are asked when somebody looks, so counting costs nothing else.
#[derive(Default)]
pub struct Registry {
    collectors: Mutex<Vec<Collector>>,
}

impl Registry {
    /// Adds a reporter. It must not block.
    pub fn register(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(collector));
    }

    /// Asks everyone.
    #[must_use]
    pub fn collect(&self) -> Exposition {
        let mut out = Exposition::default();
        for collector in self.collectors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            collector(&mut out);
        }
        out
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_once_with_all_their_samples() {
        let mut out = Exposition::default();
        for worker in ["0", "1"] {
            out.counter("sidetone_worker_packets", "Packets", &[("worker", worker)], 7u64);
            out.gauge("sidetone_calls", "Calls", &[], 2usize);
        }
        let text = out.to_string();
        assert_eq!(text.matches("# TYPE sidetone_worker_packets_total counter").count(), 1);
        assert!(text.contains(
            "sidetone_worker_packets_total{worker=\"0\"} 7\nsidetone_worker_packets_total{worker=\"1\"} 7\n"
        ));
    }

    #[test]
    fn label_values_and_help_are_escaped() {
        let mut out = Exposition::default();
        out.gauge("x", "a\nb\\", &[("l", "q\"u\\o\nte")], 1u64);
        assert_eq!(out.to_string(), "# HELP x a\\nb\\\\\n# TYPE x gauge\nx{l=\"q\\\"u\\\\o\\nte\"} 1\n");
    }

    #[test]
    fn histogram_buckets_never_shrink_and_end_with_the_count() {
        let mut out = Exposition::default();
        out.histogram("h_seconds", "H", &[], [(0.25, 3), (1.0, 2)], 2, 0.5);
        let text = out.to_string();
        assert!(text.contains("h_seconds_bucket{le=\"0.25\"} 3\nh_seconds_bucket{le=\"1\"} 3\n"), "{text}");
        assert!(
            text.contains("h_seconds_bucket{le=\"+Inf\"} 3\nh_seconds_sum 0.5\nh_seconds_count 3\n"),
            "{text}"
        );
    }
}
