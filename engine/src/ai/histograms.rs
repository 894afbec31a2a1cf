//! What all AI streams of a process were like, as Prometheus counts it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Duration;

/// A histogram that many threads may add to, with bounds in microseconds. Two relaxed adds each.
#[derive(Debug)]
pub struct Buckets<const N: usize> {
    bounds_us: [u64; N],
    /// How many were at most the bound and above the one before.
    counts: [AtomicU64; N],
    above: AtomicU64,
    sum_us: AtomicU64,
}

impl<const N: usize> Buckets<N> {
    /// Empty, with these bounds, in rising order.
    #[must_use]
    pub const fn new(bounds_us: [u64; N]) -> Self {
        Self {
            bounds_us,
            counts: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    /// Adds one.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds_us.partition_point(|&bound| bound < micros);
        self.counts.get(bucket).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// The bounds in seconds, each with how many were at most that.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        self.bounds_us.iter().zip(&self.counts).map(move |(&bound, count)| {
            total += count.load(Ordering::Relaxed);
            (bound as f64 / 1e6, total)
        })
    }

    /// How many were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        let within: u64 = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        within + self.above.load(Ordering::Relaxed)
    }

    /// Their sum in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// The histograms of all AI streams of an [`super::AiRuntime`].
#[derive(Debug)]
pub struct AiHistograms {
    /// From a worker queueing caller audio to its write on the connection.
    pub uplink_latency: Buckets<8>,
    /// From the first attempt to connect to the session's readiness.
    pub connect: Buckets<8>,
    /// From readiness to the bot's first sample on its way to the caller.
    pub first_audio: Buckets<8>,
    /// From the end of the caller's speech to the bot's first sample on its way.
    pub response: Buckets<8>,
    /// From the decision to interrupt to the last packet with bot audio.
    pub barge_in_stop: Buckets<8>,
}

impl AiHistograms {
    /// Calls `visit` with the name, the help text and each histogram.
    pub fn for_each(&self, mut visit: impl FnMut(&'static str, &'static str, &Buckets<8>)) {
        visit(
            "uplink_latency",
            "From a worker queueing caller audio to its write on the WebSocket, in seconds",
            &self.uplink_latency,
        );
        visit("connect", "From the first attempt to the session's readiness, in seconds", &self.connect);
        visit(
            "first_audio",
            "From the session's readiness to the bot's first sample on its way, in seconds",
            &self.first_audio,
        );
        visit(
            "response",
            "From the end of the caller's speech to the bot's first sample on its way, in seconds",
            &self.response,
        );
        visit(
            "barge_in_stop",
            "From the decision to interrupt to the last packet with bot audio, in seconds",
            &self.barge_in_stop,
        );
    }
}

impl Default for AiHistograms {
    fn default() -> Self {
        Self {
            uplink_latency: Buckets::new([500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000]),
            connect: Buckets::new(SECONDS_US),
            first_audio: Buckets::new(SECONDS_US),
            response: Buckets::new(SECONDS_US),
            barge_in_stop: Buckets::new([5_000, 10_000, 20_000, 30_000, 40_000, 60_000, 100_000, 300_000]),
        }
    }
}

/// What a caller waits for: from unnoticed to unbearable.
const SECONDS_US: [u64; 8] = [50_000, 100_000, 200_000, 500_000, 1_000_000, 1_500_000, 2_500_000, 5_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_is_at_most_their_bound() {
        let buckets = Buckets::new([1_000, 5_000]);
        for micros in [0, 1_000, 1_001, 5_000, 5_001, 90_000] {
            buckets.record(Duration::from_micros(micros));
        }
        assert_eq!(buckets.up_to().collect::<Vec<_>>(), [(0.001, 2), (0.005, 4)]);
        assert_eq!(buckets.count(), 6);
        assert!((buckets.sum() - 0.102_002).abs() < 1e-9, "{}", buckets.sum());
    }

    #[test]
    fn bounds_rise() {
        AiHistograms::default().for_each(|name, _, buckets| {
            assert!(buckets.bounds_us.is_sorted_by(|a, b| a < b), "{name}");
        });
    }
}
