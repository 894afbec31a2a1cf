//! The 20 ms of a line that has no worker: what is due, and what is too late.

use tokio::time::Instant;

use crate::time::Duration;

/// Counts frames from its start, so that a late timer moves nothing that follows.
#[derive(Debug)]
pub(super) struct Clock {
    next: Instant,
}

/// What a look at the clock tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Frames to be made now.
    pub(super) frames: u64,
    /// How many of these should have been made at least a frame earlier.
    pub(super) late: u64,
    /// Frames that are not made any more.
    pub(super) left_out: u64,
}

impl Clock {
    /// The first frame is due at once.
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// When the next frame is due.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// What is due; it is taken for made.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let Some(behind) = now.checked_duration_since(self.next) else { return Due::default() };
        let all = (behind.as_nanos() / FRAME.as_nanos()) as u64 + 1;
        let frames = all.min(MOST_AT_ONCE);
        self.next += Duration::from_nanos(all.saturating_mul(FRAME.as_nanos() as u64));
        Due { frames, late: frames.min(all - 1), left_out: all - frames }
    }
}

pub(super) const FRAME: Duration = Duration::from_millis(20);
/// What is made at once after a stall: about what a phone's jitter buffer takes.
pub(super) const MOST_AT_ONCE: u64 = 5;
