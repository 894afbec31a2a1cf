//! A limit on how often something may be done.

use std::time::{Duration, Instant};

/// So many at once, and so many per second.
#[derive(Debug)]
pub(super) struct Limit {
    burst: u32,
    interval: Duration,
    /// When all of the burst is there again.
    full: Instant,
}

impl Limit {
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst, interval: Duration::from_secs(1) / per_second, full: now }
    }

    /// Whether it may be done now; if so, it counts as done.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + self.interval;
        let allowed = full - now <= self.interval * self.burst;
        if allowed {
            self.full = full;
        }
        allowed
    }
}
