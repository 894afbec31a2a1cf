//! What one AI stream was like for its caller.

use hdrhistogram::Histogram;

use crate::time::Duration;

/// Figures of one stream, at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AiFigures {
    /// From the first attempt to connect to the session's readiness.
    pub connect: Duration,
    /// Connections made after the first.
    pub reconnects: u32,
    /// From readiness to the first sample of the bot on its way to the caller.
    pub first_audio: Option<Duration>,
    /// From the end of the caller's speech to the bot's first sample.
    pub response: Distribution,
    /// From the speech that interrupts, or the backend's clear, to the last packet with bot audio.
    pub barge_in_stop: Distribution,
    /// How much bot audio waited, each time that some was queued.
    pub queue: Distribution,
    /// Times that the caller interrupted the bot.
    pub barge_ins: u64,
    /// Marks answered.
    pub marks: u64,
    /// Bot audio dropped, other than by a clear or an interruption.
    pub bot_audio_dropped: Duration,
    /// Caller audio dropped.
    pub caller_audio_dropped: Duration,
    /// Times that the latency budget was exceeded.
    pub budget_exceeded: u64,
    /// Gaps inside spurts of bot audio.
    pub underruns: u64,
}

/// What an HdrHistogram says of some durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Half are at most this.
    pub p50: Duration,
    /// 90 % are at most this.
    pub p90: Duration,
    /// 99 % are at most this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Collects the figures of one stream. Shared by its pump, which writes, and its session, which looks now and
/// then.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) figures: AiFigures,
    response: Measured,
    barge_in_stop: Measured,
    queue: Measured,
}

impl Record {
    pub(super) fn response(&mut self, duration: Duration) {
        self.response.add(duration);
    }

    pub(super) fn barge_in_stop(&mut self, duration: Duration) {
        self.barge_in_stop.add(duration);
    }

    pub(super) fn queue(&mut self, duration: Duration) {
        self.queue.add(duration);
    }

    /// The figures now.
    pub(super) fn snapshot(&self) -> AiFigures {
        AiFigures {
            response: self.response.distribution(),
            barge_in_stop: self.barge_in_stop.distribution(),
            queue: self.queue.distribution(),
            ..self.figures.clone()
        }
    }
}

/// Durations in steps of 0.1 ms, to two digits, up to ten minutes. Made when the first one comes.
#[derive(Debug, Default)]
struct Measured(Option<Histogram<u32>>);

impl Measured {
    fn add(&mut self, duration: Duration) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, LONGEST_STEPS, 2).ok();
        }
        if let Some(histogram) = &mut self.0 {
            let steps = u64::try_from(duration.as_micros() / STEP_US).unwrap_or(u64::MAX);
            histogram.saturating_record(steps.min(LONGEST_STEPS));
        }
    }

    fn distribution(&self) -> Distribution {
        let Some(histogram) = &self.0 else { return Distribution::default() };
        let duration = |steps: u64| Duration::from_micros(steps * STEP_US as u64);
        let quantile = |quantile| duration(histogram.value_at_quantile(quantile).min(histogram.max()));
        Distribution {
            count: histogram.len(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: duration(histogram.max()),
        }
    }
}

const STEP_US: u128 = 100;
const LONGEST_STEPS: u64 = 6_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_right_to_two_digits() {
        let mut record = Record::default();
        for ms in 1..=1000 {
            record.response(Duration::from_millis(ms));
        }
        let response = record.snapshot().response;
        assert_eq!(response.count, 1000);
        for (value, expected_ms) in
            [(response.p50, 500.0), (response.p90, 900.0), (response.p99, 990.0), (response.max, 1000.0)]
        {
            let error = (value.as_secs_f64() * 1e3 / expected_ms - 1.0).abs();
            assert!(error < 0.01, "{value:?} instead of {expected_ms} ms");
        }
        assert_eq!(record.snapshot().barge_in_stop, Distribution::default());
    }

    #[test]
    fn endless_durations_do_no_harm() {
        let mut record = Record::default();
        record.queue(Duration::MAX);
        record.queue(Duration::ZERO);
        assert_eq!(record.snapshot().queue.count, 2);
    }
}
