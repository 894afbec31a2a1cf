//! The only reader of clocks in the engine's media part.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::{Instant, WallClock};

/// The monotonic time, the same for all threads.
pub(super) fn now() -> Instant {
    Instant::from_nanos(nanos(clock_gettime(ClockId::Monotonic)))
}

/// The time of day that belongs to `at`, which has just been read.
pub(super) fn wall(at: Instant) -> WallClock {
    WallClock { at, unix_nanos: nanos(clock_gettime(ClockId::Realtime)) }
}

/// Both clocks are positive on any system that runs this.
fn nanos(time: Timespec) -> u64 {
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
