//! Two clocks: monotonic nanoseconds for everything, and the offset that maps kernel timestamps onto it.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC) as u64
}

/// `CLOCK_REALTIME - CLOCK_MONOTONIC` in nanoseconds, read afresh for each batch because NTP may step the former.
/// The tightest of a few readings: a thread that loses the CPU between two of them would be off by milliseconds.
pub(crate) fn realtime_offset_ns() -> i64 {
    let (mut tightest_ns, mut offset_ns) = (i64::MAX, 0);
    for _ in 0..8 {
        let before = nanoseconds(ClockId::CLOCK_MONOTONIC);
        let realtime = nanoseconds(ClockId::CLOCK_REALTIME);
        let after = nanoseconds(ClockId::CLOCK_MONOTONIC);
        if after - before < tightest_ns {
            tightest_ns = after - before;
            offset_ns = realtime - (before + after) / 2;
        }
        if tightest_ns < 500 {
            break;
        }
    }
    offset_ns
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("the kernel has this clock");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}
