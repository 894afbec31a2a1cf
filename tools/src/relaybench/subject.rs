//! What is measured: how it is started and stopped, and what is known of it before.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::network::Host;

/// A relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Subject {
    /// rtpengine in user space, one thread.
    Rtpengine,
    /// sidetone by plain UDP sockets.
    Udp,
    /// sidetone by io_uring.
    IoUring,
    /// sidetone by one socket for all ports.
    SkLookup,
    /// sidetone by AF_XDP; every packet comes to its worker.
    AfXdp,
    /// sidetone by AF_XDP; the kernel forwards.
    InKernel,
    /// Frames sent back by AF_XDP and nothing else: what the rings can do.
    Ceiling,
}

impl Subject {
    pub(super) const ALL: [Self; 7] = [
        Self::Rtpengine,
        Self::Udp,
        Self::IoUring,
        Self::SkLookup,
        Self::AfXdp,
        Self::InKernel,
        Self::Ceiling,
    ];

    /// For the table.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Rtpengine => "rtpengine, user space",
            Self::Udp => "sidetone, `udp`",
            Self::IoUring => "sidetone, `io_uring`",
            Self::SkLookup => "sidetone, `sk_lookup`",
            Self::AfXdp => "sidetone, `af_xdp`",
            Self::InKernel => "sidetone, `af_xdp`, in-kernel relay",
            Self::Ceiling => "bare AF_XDP forwarding",
        }
    }

    /// What its ratio to rtpengine is called.
    pub(super) const fn ratio(self) -> Option<&'static str> {
        match self {
            Self::Rtpengine | Self::Ceiling => None,
            Self::Udp => Some("relay_udp"),
            Self::IoUring => Some("relay_io_uring"),
            Self::SkLookup => Some("relay_sk_lookup"),
            Self::AfXdp => Some("relay_afxdp"),
            Self::InKernel => Some("relay_inkernel"),
        }
    }

    /// Calls to begin the search with.
    pub(super) const fn guess(self) -> u32 {
        match self {
            Self::Rtpengine => 1_500,
            Self::Udp | Self::IoUring => 2_000,
            Self::SkLookup => 2_500,
            Self::AfXdp | Self::Ceiling => 7_000,
            Self::InKernel => 12_000,
        }
    }

    /// Whether it takes calls by NG; else it sends everything back.
    pub(super) const fn speaks_ng(self) -> bool {
        !matches!(self, Self::Ceiling)
    }

    const fn device(self) -> Option<&'static str> {
        match self {
            Self::Rtpengine | Self::Ceiling => None,
            Self::Udp => Some("udp"),
            Self::IoUring => Some("io_uring"),
            Self::SkLookup => Some("sk_lookup"),
            Self::AfXdp | Self::InKernel => Some("af_xdp"),
        }
    }
}

/// What sidetone's worker does with nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Looks again: for latency.
    Busy,
    /// Looks for a while, then sleeps: the default.
    Adaptive,
    /// Sleeps: what its processor time says is work.
    Sleep,
}

/// How sidetone's worker goes through its day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace<'a> {
    pub(super) wait: Wait,
    /// How long it lets packets gather under load, as the configuration has it.
    pub(super) tick: &'a str,
}

/// Where ours are.
#[derive(Clone, Copy)]
pub(super) struct Programs<'a> {
    pub(super) sidetone: &'a Path,
    pub(super) rtpload: &'a Path,
}

/// A relay that runs; stopped when dropped.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

/// Starts a relay on a host.
pub(super) fn start(
    subject: Subject,
    host: &Host,
    programs: Programs<'_>,
    pace: Pace<'_>,
    scratch: &Path,
) -> anyhow::Result<Running> {
    let log = scratch.join("relay.log");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let core = host.core.to_string();
    let mut command = match (subject, subject.device()) {
        (Subject::Ceiling, _) => {
            let rtpload = programs.rtpload.to_str().context("--rtpload is no text")?;
            let forward = [rtpload, "forward", "--interface", &host.interface];
            host.command(&[&["chrt", "-f", "30", "taskset", "-c", &core][..], &forward].concat())
        }
        (_, None) => rtpengine(host, &core),
        (_, Some(device)) => {
            let config = scratch.join("sidetone.toml");
            fs::write(&config, configuration(subject, device, host, pace, scratch))?;
            let sidetone = programs.sidetone.to_str().context("--sidetone is no text")?;
            host.command(&[sidetone, "--config", config.to_str().context("the scratch folder is no text")?])
        }
    };
    command.stdout(output.try_clone()?).stderr(output).stdin(Stdio::null());
    // Ctrl-C ends us, and we end it.
    command.process_group(0);
    let child = command.spawn().context("cannot start the relay")?;
    let mut running = Running { child, log };
    std::thread::sleep(Duration::from_millis(300));
    running.ensure_alive()?;
    Ok(running)
}

/// As a userspace relay that only relays: no kernel module, one thread for media, no log to speak of.
fn rtpengine(host: &Host, core: &str) -> std::process::Command {
    let interface = format!("--interface={}", host.ip);
    let ng = format!("--listen-ng={}:{NG_PORT}", host.ip);
    let (low, high) = (format!("--port-min={}", PORTS.0), format!("--port-max={}", PORTS.1));
    host.command(&[
        "chrt",
        "-f",
        "30",
        "taskset",
        "-c",
        core,
        "rtpengine",
        "--table=-1",
        "--foreground",
        "--log-stderr",
        "--log-level=1",
        &interface,
        &ng,
        &low,
        &high,
        "--num-threads=1",
        "--media-num-threads=1",
        "--endpoint-learning=off",
        "--delete-delay=0",
        "--timeout=600",
        "--silent-timeout=600",
        "--offer-timeout=600",
    ])
}

/// One worker on the relay's core at the priority that rtpengine has; signalling, which has nothing to do while it is
/// measured, on the parties'.
fn configuration(subject: Subject, device: &str, host: &Host, pace: Pace<'_>, scratch: &Path) -> String {
    let wait = match pace.wait {
        Wait::Busy => "busy",
        Wait::Adaptive => "adaptive",
        Wait::Sleep => "sleep",
    };
    format!(
        "data_dir = \"{data}\"\n\
         [log]\nlevel = \"warn\"\n\
         [sip]\nbind = [\"127.0.0.1:0\"]\n\
         [http]\nbind = \"127.0.0.1:0\"\n\
         [ng]\nbind = \"{ip}:{NG_PORT}\"\nallow = [\"198.18.0.0/24\"]\n\
         [calls]\nmax = {calls}\n\
         [signaling]\ncpus = \"{signaling}\"\n\
         [media]\naddress = [\"{ip}\"]\nports = \"{low}-{high}\"\ndevice = \"{device}\"\n{interface}\
         kernel_relay = {in_kernel}\nwait = \"{wait}\"\ntick = \"{tick}\"\ncpus = \"{core}\"\npriority = \"30\"\n",
        data = scratch.join("data").display(),
        ip = host.ip,
        calls = MOST_CALLS,
        interface =
            if device == "af_xdp" { format!("interface = \"{}\"\n", host.interface) } else { String::new() },
        core = host.core,
        tick = pace.tick,
        signaling = host.core + 1,
        low = PORTS.0,
        high = PORTS.1,
        in_kernel = subject == Subject::InKernel,
    )
}

impl Running {
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the relay ended by itself: {}", self.last_words());
        Ok(())
    }

    /// What went wrong with it, and what it said.
    pub(super) fn blame(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow::anyhow!("{error:#} (it said: {})", self.last_words())
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("; ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not asked to end: it would let its calls go on for a while.
        let _ = kill(Pid::from_raw(-self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

pub(super) const NG_PORT: u16 = 22_222;
/// What the ports have room for.
const MOST_CALLS: u16 = (PORTS.1 - PORTS.0) / 4;
/// What the parties use lies below.
const PORTS: (u16, u16) = (27_000, 65_534);
