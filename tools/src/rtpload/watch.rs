//! Processor time of what is measured: the run time of each thread of some processes, as the scheduler counts it.

use std::fs;

use crate::callload::clock;

/// Nanoseconds that all threads of the processes have run; threads that are gone count no more.
pub(super) fn run_time_ns(processes: &[u32]) -> u64 {
    let threads = processes.iter().filter_map(|process| fs::read_dir(format!("/proc/{process}/task")).ok());
    threads
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// The processor time of some processes between the first and the last look.
pub(super) struct Watched<'a> {
    processes: &'a [u32],
    first: Option<(u64, u64)>,
    last: (u64, u64),
}

impl<'a> Watched<'a> {
    pub(super) fn new(processes: &'a [u32]) -> Self {
        Self { processes, first: None, last: (0, 0) }
    }

    pub(super) fn look(&mut self) {
        if !self.processes.is_empty() {
            self.last = (clock::now_ns(), run_time_ns(self.processes));
            self.first.get_or_insert(self.last);
        }
    }

    /// `None` if there is nothing to watch or no time has passed.
    pub(super) fn cores(&self) -> Option<f64> {
        let (first_ns, before_ns) = self.first?;
        let (last_ns, after_ns) = self.last;
        let elapsed_ns = last_ns - first_ns;
        (elapsed_ns > 0).then(|| after_ns.saturating_sub(before_ns) as f64 / elapsed_ns as f64)
    }
}

/// Datagrams that the UDP sockets on some local ports have dropped, in this network namespace.
pub(super) fn socket_drops(ports: &[u16]) -> u64 {
    let files = ["/proc/net/udp", "/proc/net/udp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let lines = files.iter().flat_map(|file| file.lines().skip(1));
    lines
        .filter_map(|line| {
            let port = line.split_whitespace().nth(1)?.rsplit(':').next()?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let drops: u64 = line.split_whitespace().last()?.parse().ok()?;
            ports.contains(&port).then_some(drops)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_this_process_grows() {
        let own = [std::process::id()];
        let before = run_time_ns(&own);
        let mut sum = 0u64;
        while run_time_ns(&own) == before {
            sum = (0..100_000u64).fold(sum, |sum, next| sum.wrapping_mul(31).wrapping_add(next));
        }
        assert_ne!(sum, 1);
        assert_eq!(run_time_ns(&[]), 0);
    }
}
