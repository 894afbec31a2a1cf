//! What the NG server has done.

use std::time::Duration;

use engine::Counter;

use super::command::Command;

xdp::counters! {
    /// What the NG server has done, besides [`CommandCounters`].
    pub struct NgCounters {
        received: "Datagrams that came from an address that is allowed",
        forbidden: "Datagrams dropped because ng.allow does not name their source",
        without_cookie: "Datagrams dropped because nobody can be answered: no cookie",
        malformed: "Messages that hold no dictionary, or no command",
        unknown_commands: "Messages with a command that is not served",
        duplicates: "Commands answered from the cache of replies",
        duplicates_running: "Commands that came again while they were executed",
        overloaded: "Commands dropped because too many were being executed",
        transmit_errors: "Replies that could not be sent",
        too_large: "Replies that no datagram can hold",
        calls: "Calls that an offer made",
        calls_refused: "Offers of calls refused because there were as many as allowed, or draining",
        calls_deleted: "Calls ended by a delete",
        calls_timed_out: "Calls ended because no media came",
        calls_ended: "Calls ended through the API, by a drain, or because their media failed",
        branches: "Dialogues within calls: one per fork",
        ignored_keys: "Keys, flags and values that are unknown or not served and were ignored",
        interfaces_ignored: "Interface names that were ignored: there is one interface",
    }
}

/// How often a command was executed, and how long that took.
#[derive(Debug, Default)]
pub struct CommandCounters {
    commands: [OneCommand; Command::ALL.len()],
}

/// The figures of one command.
#[derive(Debug, Default)]
pub struct OneCommand {
    /// How often it was executed.
    pub count: Counter,
    /// How often with an error.
    pub errors: Counter,
    nanos: Counter,
    buckets: [Counter; Self::BOUNDS.len()],
}

impl CommandCounters {
    /// The figures of a command.
    #[must_use]
    pub fn of(&self, command: Command) -> &OneCommand {
        // There are as many as commands.
        self.commands.get(command.index()).unwrap_or(&self.commands[0])
    }
}

impl OneCommand {
    /// The upper bounds of the buckets.
    pub const BOUNDS: [Duration; 10] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(50),
        Duration::from_millis(250),
        Duration::from_secs(1),
    ];

    pub(super) fn observe(&self, took: Duration, is_error: bool) {
        for (bucket, bound) in self.buckets.iter().zip(Self::BOUNDS) {
            if took <= bound {
                bucket.increment();
            }
        }
        self.nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.count.increment();
        if is_error {
            self.errors.increment();
        }
    }

    /// The upper bound of each bucket in seconds and how many took no longer.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        Self::BOUNDS.iter().map(Duration::as_secs_f64).zip(self.buckets.iter().map(Counter::value))
    }

    /// The sum of all times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos.value())
    }
}
