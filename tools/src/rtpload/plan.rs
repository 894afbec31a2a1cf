//! When which packet is due, and what came of it.

use serde_json::{Value, json};

use super::check::Received;
use super::histogram::Histogram;

/// One run: flow after flow, evenly spread, round after round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The first flows of all that are set up.
    pub(super) flows: u32,
    /// The calls whose packets these are: more than half the flows if they send at a higher rate instead.
    pub(super) calls: u32,
    pub(super) interval_ns: u64,
    pub(super) payload_bytes: usize,
    /// Index of the first packet; runs that follow each other go on counting.
    pub(super) first_index: u32,
    /// Rounds that do not count, before those that do.
    pub(super) warm_rounds: u32,
    pub(super) rounds: u32,
}

impl Plan {
    pub(super) fn packets(&self) -> u64 {
        u64::from(self.warm_rounds + self.rounds) * u64::from(self.flows)
    }

    pub(super) fn warm_packets(&self) -> u64 {
        u64::from(self.warm_rounds) * u64::from(self.flows)
    }

    /// First index that counts.
    pub(super) fn warm_index(&self) -> u32 {
        self.first_index + self.warm_rounds
    }

    /// When packet `number` of the run is due, in ns after its start.
    pub(super) fn due_ns(&self, number: u64) -> u64 {
        let flows = u64::from(self.flows);
        number / flows * self.interval_ns + number % flows * self.interval_ns / flows
    }

    /// How many packets are due `elapsed_ns` after the start.
    pub(super) fn due_by(&self, elapsed_ns: u64) -> u64 {
        let flows = u64::from(self.flows);
        let (round, rest) = (elapsed_ns / self.interval_ns, elapsed_ns % self.interval_ns);
        (round * flows + rest * flows / self.interval_ns + 1).min(self.packets())
    }

    /// Flow and index of packet `number`.
    pub(super) fn at(&self, number: u64) -> (u32, u32) {
        let flows = u64::from(self.flows);
        ((number % flows) as u32, self.first_index + (number / flows) as u32)
    }

    pub(super) fn seconds(&self) -> f64 {
        f64::from(self.rounds) * self.interval_ns as f64 / 1e9
    }
}

/// What came of a run; everything without the warm-up.
pub(super) struct Outcome {
    pub(super) plan: Plan,
    pub(super) sent: u64,
    /// Packets that the kernel refused.
    pub(super) send_errors: u64,
    /// Packets that could not be sent in time at all.
    pub(super) unsent: u64,
    /// Datagrams that this program's own queues dropped.
    pub(super) own_drops: u64,
    pub(super) received: Received,
    /// Flows of which nothing came back.
    pub(super) silent: usize,
    pub(super) latency: Histogram,
    /// How late packets left.
    pub(super) lateness: Histogram,
    /// Processor time of what is watched, in cores.
    pub(super) watched_cores: Option<f64>,
}

impl Outcome {
    pub(super) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received.unique + self.received.wrong)
    }

    pub(super) fn loss_percent(&self) -> f64 {
        100.0 * self.lost() as f64 / (self.sent as f64).max(1.0)
    }

    /// Packets that came too late to be played, and those that did not come, in percent.
    pub(super) fn useless_percent(&self) -> f64 {
        let late = self.latency.above_us(USELESS_US);
        100.0 * (self.lost() + late) as f64 / (self.sent as f64).max(1.0)
    }

    /// Whether every packet that came back was the right one.
    pub(super) fn is_intact(&self) -> bool {
        self.received.wrong == 0 && self.received.stray == 0 && self.received.duplicate == 0
    }

    /// Why this program itself is to blame for what the figures say.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let late = self.lateness.above_us(LATE_US);
        if late > self.lateness.len() / 1_000 + 5 {
            doubts.push(format!(
                "{late} of {} packets left more than {} ms late (99.9th percentile {:.1} ms)",
                self.lateness.len(),
                LATE_US / 1_000,
                self.lateness.us(99.9) / 1e3
            ));
        }
        for (count, what) in [
            (self.unsent, "packets were not sent: this program cannot send so many"),
            (self.send_errors, "packets were refused by the kernel when sent"),
            (self.own_drops, "datagrams were dropped by this program's own queues"),
            (self.received.untimed, "packets came back before they were sent: the clocks disagree"),
        ] {
            if count > 0 {
                doubts.push(format!("{count} {what}"));
            }
        }
        doubts
    }

    pub(super) fn json(&self) -> Value {
        let seconds = self.plan.seconds();
        json!({
            "calls": self.plan.calls, "flows": self.plan.flows, "seconds": seconds,
            "interval_ms": self.plan.interval_ns as f64 / 1e6, "payload_bytes": self.plan.payload_bytes,
            "offered_per_s": self.sent as f64 / seconds, "received_per_s": self.received.unique as f64 / seconds,
            "sent": self.sent, "lost": self.lost(), "loss_percent": self.loss_percent(),
            "late": self.latency.above_us(USELESS_US),
            "received": self.received.json(), "silent_flows": self.silent,
            "latency": self.latency.json(),
            "watched_cores": self.watched_cores,
            "instrument": {
                "trusted": self.doubts().is_empty(), "doubts": self.doubts(), "lateness": self.lateness.json(),
                "send_errors": self.send_errors, "unsent": self.unsent, "own_drops": self.own_drops,
            },
        })
    }
}

/// A packet two packet times late is of no use to a jitter buffer of that length. A relay that lags behind what is offered
/// shows by this long before its buffers overflow. (rtpengine holds some flows back by one packet time when it transcodes.)
const USELESS_US: u64 = 40_000;
/// A packet that leaves later than this is late: those behind it come in a burst that a queue may not hold.
const LATE_US: u64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_spread_evenly_and_counted_as_due_at_their_time() {
        let plan = Plan {
            flows: 6,
            calls: 3,
            interval_ns: 20_000_000,
            payload_bytes: 160,
            first_index: 40,
            warm_rounds: 2,
            rounds: 3,
        };
        assert_eq!(plan.packets(), 30);
        assert_eq!((plan.warm_packets(), plan.warm_index()), (12, 42));
        for number in 0..30 {
            let due_ns = plan.due_ns(number);
            assert_eq!(plan.due_by(due_ns + 1), number + 1);
            assert!(due_ns == 0 || plan.due_by(due_ns - 1) == number);
        }
        assert_eq!(plan.at(0), (0, 40));
        assert_eq!(plan.at(13), (1, 42));
        assert_eq!(plan.due_by(u64::MAX / 8), 30);
    }
}
