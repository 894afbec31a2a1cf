//! How a worker's thread runs: on which CPU, and how exactly its waits end.

use std::io;
use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

/// Pins the calling thread to `cpu`.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Makes the calling thread's waits end on time, and not up to 50 us later to save wake-ups.
pub(super) fn be_punctual() {
    // A kernel that refuses makes deadlines a little late, which is counted.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}
