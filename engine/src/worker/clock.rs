//! The only reader of clocks in the engine's media part.

use rustix::thread::clock_nanosleep_absolute;
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

/// Sleeps, whatever comes. Interrupted, it returns early.
pub(super) fn sleep_until(at: Instant) {
    const SECOND: u64 = 1_000_000_000;
    let (seconds, nanos) = (at.as_nanos() / SECOND, at.as_nanos() % SECOND);
    let at = Timespec { tv_sec: seconds.cast_signed(), tv_nsec: nanos.cast_signed() };
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}

/// Both clocks are positive on any system that runs this.
fn nanos(time: Timespec) -> u64 {
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
