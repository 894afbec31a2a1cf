//! Keeps the rest of the machine off the relay's core while it is measured.
//!
//! Relay and generator run in real time. Linux takes a core that real-time threads fill away from them for 50 ms of each
//! second as long as an ordinary thread wants to run there (its fair server, since 6.12; throttling before), and the rings
//! of a relay hold some milliseconds.

use std::fs;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Every other thread is elsewhere until this is dropped.
#[derive(Debug)]
pub(super) struct Neighbours {
    moved: Vec<(Pid, CpuSet)>,
    /// What the kernel's own workers may use, as it was.
    workers: Option<String>,
}

impl Neighbours {
    /// Moves all threads that may run elsewhere off `core`; those that start later inherit that.
    pub(super) fn move_off(core: usize) -> Self {
        let mut moved = Vec::new();
        for thread in threads() {
            let Ok(before) = sched_getaffinity(Some(thread)) else { continue };
            let mut after = before;
            after.unset(core);
            // Threads of the kernel that belong to one core stay.
            if before.is_set(core) && after.count() > 0 && sched_setaffinity(Some(thread), &after).is_ok() {
                moved.push((thread, before));
            }
        }
        let workers = fs::read_to_string(WORKERS).ok().filter(|before| {
            let cores = u64::from_str_radix(before.trim().replace(',', "").as_str(), 16).unwrap_or(0);
            let others = cores & !(1 << core);
            others != 0 && fs::write(WORKERS, format!("{others:x}")).is_ok()
        });
        Self { moved, workers }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for (thread, before) in &self.moved {
            // It may have ended.
            let _ = sched_setaffinity(Some(*thread), before);
        }
        if let Some(before) = &self.workers {
            let _ = fs::write(WORKERS, before.trim());
        }
    }
}

/// All threads of all processes.
fn threads() -> impl Iterator<Item = Pid> {
    let numbers = |folder: String| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
    };
    numbers("/proc".to_owned())
        .flat_map(move |process| numbers(format!("/proc/{process}/task")))
        .filter_map(Pid::from_raw)
}

/// The cores of unbound kernel workers, as hexadecimal digits.
const WORKERS: &str = "/sys/devices/virtual/workqueue/cpumask";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_moved_and_put_back() {
        let own = || sched_getaffinity(None).expect("our own");
        let before = own();
        let Some(core) =
            (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core)).filter(|_| before.count() > 1)
        else {
            return;
        };
        // Only this thread: a test has no business with the rest of the machine.
        let mut elsewhere = before;
        elsewhere.unset(core);
        sched_setaffinity(None, &elsewhere).expect("permitted");
        let thread = rustix::thread::gettid();
        drop(Neighbours { moved: vec![(thread, before)], workers: None });
        assert_eq!(own(), before);
        assert!(threads().any(|other| other == thread));
    }
}
