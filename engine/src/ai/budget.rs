//! How much bot audio may wait: the latency budget of one stream.

use super::config::{LatencyBudget, LatencyPolicy};
use super::line::Line;

/// Watches the queue's length. Counts samples.
#[derive(Debug)]
pub(super) struct Budget {
    policy: LatencyPolicy,
    limit: u64,
    /// The limit was exceeded, and the queue has not been below 80 % of it since.
    is_exceeded: bool,
    /// What [`Budget::pressure`] said last.
    is_high: bool,
}

impl Budget {
    pub(super) fn new(budget: LatencyBudget, line: Line) -> Self {
        Self {
            policy: budget.policy,
            limit: line.samples_in(budget.limit).max(1),
            is_exceeded: false,
            is_high: false,
        }
    }

    /// How much more may be queued.
    pub(super) fn room(&self, queued: u64) -> u64 {
        match self.policy {
            LatencyPolicy::Reject => self.limit.saturating_sub(queued),
            LatencyPolicy::Keep | LatencyPolicy::DropOldest | LatencyPolicy::BackPressure => u64::MAX,
        }
    }

    /// How much must be left out.
    pub(super) fn excess(&self, queued: u64) -> u64 {
        match self.policy {
            LatencyPolicy::DropOldest => queued.saturating_sub(self.limit),
            LatencyPolicy::Keep | LatencyPolicy::Reject | LatencyPolicy::BackPressure => 0,
        }
    }

    /// How much may be in the ring, where nothing can be left out any more.
    pub(super) fn ring(&self, ring: u64) -> u64 {
        match self.policy {
            LatencyPolicy::DropOldest => (self.limit / 2).clamp(ring / 4, ring),
            LatencyPolicy::Keep | LatencyPolicy::Reject | LatencyPolicy::BackPressure => ring,
        }
    }

    /// The queue's length, with what was refused; true if that is a new violation.
    pub(super) fn observe(&mut self, queued: u64) -> bool {
        if queued > self.limit {
            return !std::mem::replace(&mut self.is_exceeded, true);
        }
        self.is_exceeded &= queued >= self.low();
        false
    }

    /// What the backend is to be told: too much, or little enough again.
    pub(super) fn pressure(&mut self, queued: u64) -> Option<bool> {
        if self.policy != LatencyPolicy::BackPressure {
            return None;
        }
        let high = if self.is_high { queued >= self.low() } else { queued >= self.limit };
        (std::mem::replace(&mut self.is_high, high) != high).then_some(high)
    }

    fn low(&self) -> u64 {
        self.limit / 5 * 4
    }
}
