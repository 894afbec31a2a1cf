//! Pins a worker's thread to its CPU.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Pins the calling thread to `cpu`.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
