//! Programs in the kernel: loading, attaching, running for a test.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Code, Error};
use crate::sys::bpf::{self, Kind, TestRun};

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// Sees every frame that an interface receives (context: `struct xdp_md`); answers a [`Verdict`].
    Xdp,
    /// Chooses the socket of a new datagram or connection (context: `struct bpf_sk_lookup`); answers 1 (go on) or
    /// 0 (drop).
    SocketLookup,
}

/// What an XDP program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Dropped, and counted as an error of the program.
    Aborted = 0,
    /// Dropped.
    Drop = 1,
    /// Goes on to the kernel.
    Pass = 2,
    /// Goes back out of the interface that it came from.
    Transmit = 3,
    /// Goes where a helper said.
    Redirect = 4,
}

impl Verdict {
    /// As the kernel numbers them.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Aborted,
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            _ => return None,
        })
    }
}

/// Where on the way in an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// Behind that, on every driver.
    Generic,
}

/// A program that the verifier has taken.
#[derive(Debug)]
pub struct Program {
    descriptor: OwnedFd,
    kind: Kind,
}

/// An attached program. It is detached when this is dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct Link {
    descriptor: OwnedFd,
}

/// What a test run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// What the program answered.
    pub verdict: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Nanoseconds per run.
    pub nanoseconds: u32,
}

/// Where frames of a live run seem to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The interface's index.
    pub interface: u32,
    /// Its receive queue.
    pub queue: u32,
}

impl Program {
    /// Loads a program.
    ///
    /// # Errors
    /// [`Error::Load`], with the last lines of what the verifier said.
    pub fn load(name: &str, kind: ProgramKind, code: &Code<'_>) -> Result<Self, Error> {
        let kind = match kind {
            ProgramKind::Xdp => Kind::Xdp,
            ProgramKind::SocketLookup => Kind::SocketLookup,
        };
        let source = match bpf::program_load(name, kind, code.slots(), &mut []) {
            Ok(descriptor) => return Ok(Self { descriptor, kind }),
            Err(source) => source,
        };
        let mut log = Vec::new();
        // The kernel speaks only if asked; without the right to load there is nothing to ask.
        if source.raw_os_error() != Some(libc::EPERM) {
            log.resize(LOG_BYTES, 0);
            if let Ok(descriptor) = bpf::program_load(name, kind, code.slots(), &mut log) {
                return Ok(Self { descriptor, kind });
            }
        }
        Err(Error::Load { name: name.to_owned(), source, log: trimmed(&log) })
    }

    /// Attaches an XDP program to an interface, where no other may be.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn attach(&self, interface: u32, mode: Mode) -> Result<Link, Error> {
        let flags = match mode {
            Mode::Generic => 1 << 1,
            Mode::Native => 1 << 2,
        };
        self.link(interface, flags)
    }

    /// Attaches a sk_lookup program to a network namespace, behind those that are there.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn attach_to_namespace(&self, namespace: BorrowedFd<'_>) -> Result<Link, Error> {
        self.link(namespace.as_raw_fd().cast_unsigned(), 0)
    }

    fn link(&self, target: u32, flags: u32) -> Result<Link, Error> {
        match bpf::link_create(self.descriptor.as_fd(), self.kind, target, flags) {
            Ok(descriptor) => Ok(Link { descriptor }),
            Err(source) => Err(Error::Attach { source }),
        }
    }

    /// Runs an XDP program once on a copy of one frame of at least 14 bytes, attached to nothing. Its maps are the real
    /// ones. A signal does not interrupt it: the kernel looks for one only between repetitions.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test(&self, frame: &[u8]) -> io::Result<Tested> {
        let mut out = vec![0; frame.len() + 256];
        let run = TestRun { data: frame, context: &[], repeat: 1, flags: 0, batch: 0 };
        let ran = bpf::test_run(self.descriptor.as_fd(), &run, &mut out, &mut [])?;
        out.truncate(ran.data_bytes);
        Ok(Tested { verdict: ran.verdict, frame: out, nanoseconds: ran.duration })
    }

    /// As [`Program::test`], as if the frame came from an interface of this network namespace.
    ///
    /// # Errors
    /// The kernel's; EINVAL for an interface or queue that is not there.
    pub fn test_from(&self, frame: &[u8], ingress: Ingress) -> io::Result<Tested> {
        let mut out = vec![0; frame.len() + 256];
        let context = ingress.context(frame.len());
        let run = TestRun { data: frame, context: &context, repeat: 1, flags: 0, batch: 0 };
        let ran = bpf::test_run(self.descriptor.as_fd(), &run, &mut out, &mut [])?;
        out.truncate(ran.data_bytes);
        Ok(Tested { verdict: ran.verdict, frame: out, nanoseconds: ran.duration })
    }

    /// Runs an XDP program on `repeat` copies of a frame, at most `batch` (to 256) at a time, and does what it answers:
    /// passes, transmits or redirects them as if they came from `ingress`. Frames are reused, so the program sees what
    /// it wrote into them before. Returns when all went.
    ///
    /// # Errors
    /// The kernel's; `Interrupted` after a signal.
    pub fn run_live(&self, frame: &[u8], ingress: Ingress, repeat: u32, batch: u32) -> io::Result<()> {
        let context = ingress.context(frame.len());
        let run = TestRun { data: frame, context: &context, repeat, flags: FLAG_LIVE, batch };
        bpf::test_run(self.descriptor.as_fd(), &run, &mut [], &mut []).map(drop)
    }

    /// Runs a sk_lookup program on a context (`struct bpf_sk_lookup`, at least its first 64 bytes). Answers its verdict
    /// and whether it chose a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test_lookup(&self, context: &[u8]) -> io::Result<(u32, bool)> {
        let mut out = [0; 256];
        let run = TestRun { data: &[], context, repeat: 1, flags: 0, batch: 0 };
        let ran = bpf::test_run(self.descriptor.as_fd(), &run, &mut [], &mut out)?;
        // The kernel leaves the cookie of the chosen socket in the first eight bytes.
        Ok((ran.verdict, out.iter().take(8).any(|byte| *byte != 0)))
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Link {
    /// Detaches now and says whether it worked; dropping does the same silently.
    ///
    /// # Errors
    /// The kernel's; the interface may be gone.
    pub fn detach(self) -> io::Result<()> {
        bpf::link_detach(self.descriptor.as_fd())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Ingress {
    /// `struct xdp_md` of linux/bpf.h: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    fn context(self, len: usize) -> [u8; 24] {
        let mut context = [0; 24];
        let fields = [0, len as u32, 0, self.interface, self.queue, 0];
        for (to, field) in context.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_ne_bytes());
        }
        context
    }
}

/// The last lines of a verifier log: the first ones are instructions that were fine.
pub(super) fn trimmed(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("processed ")).collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    lines[first..].join("\n")
}

/// Enough for one path through any program of ours.
const LOG_BYTES: usize = 1 << 20;
const LOG_LINES: usize = 12;
/// BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18).
const FLAG_LIVE: u32 = 1 << 1;
