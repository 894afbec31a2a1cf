//! How the calling thread runs: on which CPUs, and how exactly its waits end.

use std::io;
use std::num::NonZeroU64;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{
    CapabilitySet, CpuSet, capabilities, sched_getaffinity, sched_setaffinity, set_current_timer_slack,
};

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

/// Gives the calling thread a real-time priority (SCHED_FIFO, 1 to 99), above every ordinary thread.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_NICE and with a lower RLIMIT_RTPRIO.
pub fn be_real_time(priority: u8) -> io::Result<()> {
    crate::sys::schedule::set_fifo(priority)
}

/// Has the calling thread run beside workers: at the ordinary priority, and not on their CPUs if there are others,
/// whatever it has inherited.
///
/// # Errors
/// The operating system's; then it runs as it did.
pub fn stand_aside(workers: &[usize]) -> io::Result<()> {
    crate::sys::schedule::set_ordinary()?;
    let besides =
        |cpus: Vec<usize>| cpus.into_iter().filter(|cpu| !workers.contains(cpu)).collect::<Vec<_>>();
    let inherited = allowed_cpus();
    if !inherited.iter().any(|cpu| workers.contains(cpu)) {
        return Ok(());
    }
    let mut cpus = besides(inherited.clone());
    if cpus.is_empty() {
        // All that the kernel lets this process have.
        pin(&(0..CpuSet::MAX_CPU).collect::<Vec<_>>())?;
        cpus = besides(allowed_cpus());
    }
    pin(if cpus.is_empty() { &inherited } else { &cpus })
}

/// Keeps all memory of the process in RAM, also what it takes later.
///
/// # Errors
/// `PermissionDenied` without CAP_IPC_LOCK and with any limit of locked memory (RLIMIT_MEMLOCK).
pub fn lock_memory() -> io::Result<()> {
    let limit = getrlimit(Resource::Memlock).current;
    let is_privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // Below a limit it would succeed now, and allocations fail later.
    if limit.is_some() && !is_privileged {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}
