//! Keeps the rest of the machine off the relay's core while it is measured.
//!
//! Relay and generator run in real time. Linux takes a core that real-time threads fill away from them for 50 ms of each
//! second as long as an ordinary thread wants to run there (its fair server, since 6.12; throttling before), and the rings
//! of a relay hold some milliseconds.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Every other thread is elsewhere until this is dropped, or this process ends in whatever way: a process of its own puts them back when it
/// hears no more of us.
#[derive(Debug)]
pub(super) struct Neighbours(Child);

impl Neighbours {
    /// Moves all threads that may run elsewhere off `core`; those that start later inherit that.
    pub(super) fn move_off(core: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program again")?;
        let mut guard = Command::new(program);
        guard.args(["--guard", &core.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is not meant for it.
        let mut guard = guard.process_group(0).spawn().context("cannot start this program again")?;
        let mut line = String::new();
        if let Some(output) = guard.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        ensure!(line == READY, "the other programs could not be moved off core {core}");
        Ok(Self(guard))
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What the process of its own does: moves, says so, waits for the end of its input, puts back.
pub(super) fn guard(core: usize) -> anyhow::Result<ExitCode> {
    let moved = Moved::off(core);
    print!("{READY}");
    std::io::Write::flush(&mut std::io::stdout())?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    moved.put_back();
    Ok(ExitCode::SUCCESS)
}

struct Moved {
    /// Where they might run, before and then.
    threads: Vec<(Pid, CpuSet, CpuSet)>,
    all: HashSet<Pid>,
    /// What the kernel's own workers may use, as it was.
    workers: Option<String>,
}

impl Moved {
    fn off(core: usize) -> Self {
        let all: HashSet<Pid> = threads().collect();
        let mut moved = Vec::new();
        for &thread in &all {
            let Ok(before) = sched_getaffinity(Some(thread)) else { continue };
            let mut after = before;
            after.unset(core);
            // Threads of the kernel that belong to one core stay.
            if before.is_set(core) && after.count() > 0 && sched_setaffinity(Some(thread), &after).is_ok() {
                moved.push((thread, before, after));
            }
        }
        let workers = fs::read_to_string(WORKERS).ok().filter(|before| {
            let cores = u64::from_str_radix(before.trim().replace(',', "").as_str(), 16).unwrap_or(0);
            let others = cores & !(1 << core);
            others != 0 && fs::write(WORKERS, format!("{others:x}")).is_ok()
        });
        Self { threads: moved, all, workers }
    }

    fn put_back(&self) {
        for (thread, before, _) in &self.threads {
            // It may have ended.
            let _ = sched_setaffinity(Some(*thread), before);
        }
        // What one of them has started since is where it was then.
        for thread in threads().filter(|thread| !self.all.contains(thread)) {
            let Ok(now) = sched_getaffinity(Some(thread)) else { continue };
            if let Some((_, before, _)) = self.threads.iter().find(|(_, _, after)| *after == now) {
                let _ = sched_setaffinity(Some(thread), before);
            }
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

/// What the guard says when all are moved.
const READY: &str = "moved\n";
/// The cores of unbound kernel workers, as hexadecimal digits.
const WORKERS: &str = "/sys/devices/virtual/workqueue/cpumask";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_what_they_started_are_put_back() {
        let own = || sched_getaffinity(None).expect("our own");
        let before = own();
        let Some(core) =
            (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core)).filter(|_| before.count() > 1)
        else {
            return;
        };
        let thread = rustix::thread::gettid();
        let all: HashSet<Pid> = threads().collect();
        assert!(all.contains(&thread));
        // Only this thread: a test has no business with the rest of the machine.
        let mut elsewhere = before;
        elsewhere.unset(core);
        sched_setaffinity(None, &elsewhere).expect("permitted");
        let (started, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let later = std::thread::spawn(move || {
            started.0.send(rustix::thread::gettid()).expect("heard");
            let _ = wait.1.recv();
        });
        let child = started.1.recv().expect("it runs");
        assert_eq!(sched_getaffinity(Some(child)).expect("it runs"), elsewhere);
        Moved { threads: vec![(thread, before, elsewhere)], all, workers: None }.put_back();
        assert_eq!(own(), before);
        assert_eq!(sched_getaffinity(Some(child)).expect("it runs"), before);
        drop(wait.0);
        later.join().expect("it ends");
    }
}
