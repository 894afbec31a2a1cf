//! Processor time of what is measured: the run time of each thread of some processes, as the scheduler counts it.

use std::fs;

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
