//! Processor time of threads, and where they run.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};

/// A thread, what it is called and how long it has run.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) ran_ns: u64,
}

/// All threads of a process.
pub(super) fn threads(process: u32) -> anyhow::Result<Vec<Thread>> {
    let folder = format!("/proc/{process}/task");
    let mut threads = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let path = entry?.path();
        // It may have ended meanwhile.
        let (Ok(name), Ok(schedstat)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        let ran_ns = schedstat.split_whitespace().next().and_then(|number| number.parse().ok());
        let ran_ns =
            ran_ns.context("/proc says nothing of processor time: the kernel needs CONFIG_SCHED_INFO")?;
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
        threads.push(Thread { id, name: name.trim().to_owned(), ran_ns });
    }
    ensure!(!threads.is_empty(), "{folder} is empty");
    Ok(threads)
}

/// The processor time of the threads whose name begins so.
pub(super) fn ran_ns(threads: &[Thread], name: &str) -> u64 {
    threads.iter().filter(|thread| thread.name.starts_with(name)).map(|thread| thread.ran_ns).sum()
}

/// The resident memory of a process in MiB.
pub(super) fn memory_mib(process: u32) -> f64 {
    status_mib(process, "VmRSS:")
}

/// The most that it has been.
pub(super) fn peak_memory_mib(process: u32) -> f64 {
    status_mib(process, "VmHWM:")
}

fn status_mib(process: u32, name: &str) -> f64 {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Lets a thread, 0 being this one, run on one CPU only.
pub(super) fn pin(thread: i32, cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(thread), &set).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// Lets this thread run anywhere again.
pub(super) fn unpin() -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    (0..cpus()).try_for_each(|cpu| set.set(cpu)).context("too many CPUs")?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot run on all CPUs")
}

/// How many CPUs the machine has, whatever this thread may use.
pub(super) fn cpus() -> usize {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|online| usize::try_from(online).ok()).unwrap_or(1)
}
