//! How the calling thread runs: on which CPUs, and how exactly its waits end.

use std::io;
use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};

/// Pins the calling thread to `cpus`; threads that it starts are there, too, until they pin themselves.
///
/// # Errors
/// A CPU does not exist, is offline, or is none of those that this process may use (cpuset).
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The CPUs that the calling thread may use.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Makes the calling thread's waits end on time, and not up to 50 us later to save wake-ups.
pub fn be_punctual() {
    // A kernel that refuses makes deadlines a little late, which is counted.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}
