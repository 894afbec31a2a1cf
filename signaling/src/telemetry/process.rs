//! The process itself: memory, file descriptors, CPU time, from /proc.

use std::time::{Instant, SystemTime};

use super::exposition::Exposition;

/// Reports the process's figures and what was built.
pub fn collect_process(out: &mut Exposition, version: &str, started: (SystemTime, Instant)) {
    let arch = std::env::consts::ARCH;
    let labels = [("version", version), ("arch", arch)];
    out.gauge("sidetone_build_info", "What was built; always 1", &labels, 1u64);
    let start = started.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let help = "When the process started, in seconds since 1970-01-01 UTC";
    out.gauge("process_start_time_seconds", help, &[], start.as_secs_f64());
    let help = "Seconds since the process started";
    out.gauge("sidetone_uptime_seconds", help, &[], started.1.elapsed().as_secs_f64());
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // The listing itself holds one open.
        out.gauge("process_open_fds", "Open file descriptors", &[], entries.count().saturating_sub(1));
    }
    let (soft, _) = open_files_limit();
    out.gauge("process_max_fds", "Limit of open file descriptors", &[], soft);
    if let Some(memory) = resident_bytes() {
        out.gauge("process_resident_memory_bytes", "Resident memory", &[], memory);
    }
    if let Some(seconds) = cpu_seconds() {
        out.counter("process_cpu_seconds", "CPU time in user and kernel mode", &[], seconds);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/task") {
        out.gauge("process_threads", "Threads", &[], entries.count());
    }
}

/// The soft and the hard limit of open file descriptors.
#[must_use]
pub fn open_files_limit() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Files that so many calls may take at once: four sockets of a relay, or two of a stream and the one of an AI agent;
/// the rest is for SIP over TCP, HTTP and the process itself.
#[must_use]
pub const fn open_files_wanted(calls: usize) -> u64 {
    calls as u64 * 4 + 4096
}

/// Raises the soft limit of open file descriptors to the hard limit and returns it. Every call takes two
/// (RTP and RTCP), a call to an AI agent three.
pub fn raise_open_files_limit() -> u64 {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where the limit is already what it may be.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    open_files_limit().0
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): the name in brackets may hold anything; utime and stime are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some((user + kernel) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures_are_found() {
        let mut out = Exposition::default();
        collect_process(&mut out, "1.2.3", (SystemTime::now(), Instant::now()));
        let text = out.to_string();
        for name in ["process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing in\n{text}");
        }
        assert!(text.contains("version=\"1.2.3\""));
    }

    #[test]
    fn open_files_limit_rises_to_the_hard_limit() {
        let raised = raise_open_files_limit();
        let (soft, hard) = open_files_limit();
        assert_eq!((raised, raised), (soft, hard));
    }
}
