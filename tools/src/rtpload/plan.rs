//! When which packet is due, and what came of it.

use serde_json::{Value, json};

use super::check::Received;
use super::histogram::Histogram;
use super::slots::Account;

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
}

/// A plan on the clock. Who is held up does not catch up, because the burst would be more than a queue holds: the schedule moves on by what
/// it was late, and what is offered is what was sent by the time that it took.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    plan: Plan,
    start_ns: u64,
    /// By how much the schedule was moved on.
    moved_ns: u64,
    /// So much of it since what counts began.
    pub(super) counted_ns: u64,
}

/// What is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Packets up to this one, exclusive.
    pub(super) until: u64,
    /// How late the next one is.
    pub(super) late_ns: u64,
    /// Whether that was too late, and the schedule was moved on.
    pub(super) held_up: bool,
}

impl Schedule {
    pub(super) const fn new(plan: Plan, start_ns: u64) -> Self {
        Self { plan, start_ns, moved_ns: 0, counted_ns: 0 }
    }

    /// What is due if packet `next` is the next one.
    pub(super) fn due(&mut self, next: u64, now_ns: u64) -> Due {
        let late_ns = now_ns.saturating_sub(self.at_ns(next));
        let held_up = late_ns > HELD_NS;
        if held_up {
            self.moved_ns += late_ns;
            if next >= self.plan.warm_packets() {
                self.counted_ns += late_ns;
            }
        }
        let elapsed_ns = now_ns.checked_sub(self.start_ns + self.moved_ns);
        let until = elapsed_ns.map_or(0, |elapsed_ns| self.plan.due_by(elapsed_ns));
        // A due time is rounded down.
        let until = until.max(next + u64::from(now_ns >= self.at_ns(next)));
        Due { until, late_ns, held_up }
    }

    /// When packet `number` is due.
    pub(super) fn at_ns(&self, number: u64) -> u64 {
        self.start_ns + self.moved_ns + self.plan.due_ns(number)
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
    /// Loss and latency without what was sent while this program was held up.
    pub(super) account: Account,
    /// How late packets left.
    pub(super) lateness: Histogram,
    /// By how much the schedule was moved on, because packets were too late.
    pub(super) moved_ns: u64,
    /// The most packets that were sent within 0.1 ms; 0 if nobody counted.
    pub(super) largest_burst: u64,
    /// Processor time of what is watched, in cores.
    pub(super) watched_cores: Option<f64>,
}

impl Outcome {
    /// All that was lost.
    pub(super) fn all_lost(&self) -> u64 {
        self.sent.saturating_sub(self.received.unique + self.received.wrong)
    }

    pub(super) fn all_loss_percent(&self) -> f64 {
        100.0 * self.all_lost() as f64 / (self.sent as f64).max(1.0)
    }

    /// What was lost while this program was not held up.
    pub(super) fn lost(&self) -> u64 {
        self.account.sent.saturating_sub(self.account.received + self.received.wrong)
    }

    pub(super) fn loss_percent(&self) -> f64 {
        100.0 * self.lost() as f64 / (self.account.sent as f64).max(1.0)
    }

    /// Packets that came too late to be played, and those that did not come, in percent.
    pub(super) fn useless_percent(&self) -> f64 {
        let late = self.account.latency.above_us(USELESS_US);
        100.0 * (self.lost() + late) as f64 / (self.account.sent as f64).max(1.0)
    }

    /// The time in which packets were really offered: pauses are in it.
    pub(super) fn seconds(&self) -> f64 {
        let sent = self.plan.packets() - self.unsent;
        let planned_ns = self.plan.due_ns(sent).saturating_sub(self.plan.due_ns(self.plan.warm_packets()));
        (planned_ns + self.moved_ns) as f64 / 1e9
    }

    /// Packets/s that were really offered.
    pub(super) fn offered_per_s(&self) -> f64 {
        self.sent as f64 / self.seconds().max(1e-9)
    }

    /// The calls whose packets were really offered.
    pub(super) fn offered_calls(&self) -> f64 {
        f64::from(self.plan.calls) * self.offered_per_s() * self.plan.interval_ns as f64
            / 1e9
            / f64::from(self.plan.flows)
    }

    /// Whether every packet that came back was the right one.
    pub(super) fn is_intact(&self) -> bool {
        self.received.wrong == 0 && self.received.stray == 0 && self.received.duplicate == 0
    }

    /// Whether this program cannot send so many, though nothing held it up.
    pub(super) fn is_too_slow(&self) -> bool {
        let slow_ns = self.moved_ns.saturating_sub(self.account.held_ns) as f64;
        self.unsent > 0 || slow_ns > SLOW * self.seconds() * 1e9
    }

    /// Whether the same run again may be better: this program was disturbed.
    pub(super) fn is_spoiled(&self) -> bool {
        self.account.left_out_share() > MOST_LEFT_OUT
            || self.send_errors + self.own_drops + self.received.untimed > 0
    }

    /// Why this program itself is to blame for what the figures say.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.account.left_out_share() > MOST_LEFT_OUT {
            doubts.push(format!(
                "left out {} of {} slots, more than {:.0} %: this program was held up too often",
                self.account.left_out,
                self.account.slots,
                MOST_LEFT_OUT * 100.0
            ));
        }
        if self.is_too_slow() {
            let nominal = f64::from(self.plan.flows) * 1e9 / self.plan.interval_ns as f64;
            doubts.push(format!(
                "{:.0} packets/s were offered, {nominal:.0} wanted: this program cannot send so many",
                self.offered_per_s()
            ));
        }
        for (count, what) in [
            (self.unsent, "packets were not sent"),
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
        let account = &self.account;
        json!({
            "calls": self.plan.calls, "flows": self.plan.flows, "seconds": self.seconds(),
            "interval_ms": self.plan.interval_ns as f64 / 1e6, "payload_bytes": self.plan.payload_bytes,
            "offered_calls": self.offered_calls(), "offered_per_s": self.offered_per_s(),
            "received_per_s": self.received.unique as f64 / self.seconds().max(1e-9),
            "sent": self.sent, "lost": self.lost(), "loss_percent": self.loss_percent(),
            "all_lost": self.all_lost(), "all_loss_percent": self.all_loss_percent(),
            "late": account.latency.above_us(USELESS_US), "useless_percent": self.useless_percent(),
            "received": self.received.json(), "silent_flows": self.silent,
            "latency": account.latency.json(),
            "watched_cores": self.watched_cores,
            "instrument": {
                "trusted": self.doubts().is_empty(), "doubts": self.doubts(), "lateness": self.lateness.json(),
                "send_errors": self.send_errors, "unsent": self.unsent, "own_drops": self.own_drops,
                "slots": account.slots, "left_out": account.left_out,
                "left_out_sent": self.sent.saturating_sub(account.sent),
                "left_out_received": self.received.unique.saturating_sub(account.received),
                "held_ms": account.held_ns as f64 / 1e6, "longest_held_ms": account.longest_held_ns as f64 / 1e6,
                "moved_ms": self.moved_ns as f64 / 1e6, "largest_burst": self.largest_burst,
            },
        })
    }
}

/// A packet two packet times late is of no use to a jitter buffer of that length. A relay that lags behind what is offered
/// shows by this long before its buffers overflow. (rtpengine holds some flows back by one packet time when it transcodes.)
const USELESS_US: u64 = 40_000;
/// A sender in user space that is later than this was held up; a few wake-ups in a row are less.
pub(super) const HELD_NS: u64 = 2_000_000;
/// What is more says more of this program than of the relay.
const MOST_LEFT_OUT: f64 = 0.2;
/// Who is behind by this share of the time without being held up is too slow.
const SLOW: f64 = 0.03;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtpload::slots::Slots;

    const PLAN: Plan = Plan {
        flows: 6,
        calls: 3,
        interval_ns: 20_000_000,
        payload_bytes: 160,
        first_index: 40,
        warm_rounds: 2,
        rounds: 3,
    };

    #[test]
    fn packets_are_spread_evenly_and_counted_as_due_at_their_time() {
        let plan = PLAN;
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

    #[test]
    fn who_was_held_up_goes_on_at_the_same_rate() {
        let mut schedule = Schedule::new(PLAN, 1_000);
        assert_eq!(schedule.due(0, 999).until, 0);
        assert_eq!(schedule.due(0, 1_000), Due { until: 1, late_ns: 0, held_up: false });
        // A little late: it catches up.
        let due_ns = schedule.at_ns(1);
        assert_eq!(schedule.due(1, due_ns + HELD_NS), Due { until: 2, late_ns: HELD_NS, held_up: false });
        // In the warm-up, and then in what counts: everything that follows moves.
        for (next, counted_ns) in [(5, 0), (15, 50_000_000)] {
            let (due_ns, following_ns) = (schedule.at_ns(next), schedule.at_ns(next + 1));
            let due = schedule.due(next, due_ns + 50_000_000);
            assert_eq!(due, Due { until: next + 1, late_ns: 50_000_000, held_up: true });
            assert_eq!(schedule.at_ns(next + 1), following_ns + 50_000_000);
            assert_eq!(schedule.counted_ns, counted_ns);
        }
    }

    #[test]
    fn what_is_offered_is_what_was_sent_by_the_time_it_took() {
        let mut slots = Slots::new(22);
        slots.send(0, 18);
        slots.hold_up(0, 15_000_000);
        let mut outcome = Outcome {
            plan: PLAN,
            sent: 18,
            send_errors: 0,
            unsent: 0,
            own_drops: 0,
            received: Received::default(),
            silent: 0,
            account: slots.account(),
            lateness: Histogram::new(),
            moved_ns: 15_000_000,
            largest_burst: 0,
            watched_cores: None,
        };
        assert!((outcome.seconds() - 0.075).abs() < 1e-9);
        assert!((outcome.offered_per_s() - 240.0).abs() < 1e-6);
        assert!((outcome.offered_calls() - 2.4).abs() < 1e-6);
        // The only slot was left out: nothing is said of the loss, but all of it is told.
        assert_eq!((outcome.lost(), outcome.all_lost(), outcome.is_too_slow()), (0, 18, false));
        assert_eq!(outcome.doubts().len(), 1);
        outcome.moved_ns = 25_000_000;
        assert!(outcome.is_too_slow(), "it was late without being held up");
    }
}
