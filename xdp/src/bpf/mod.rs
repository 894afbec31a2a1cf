//! eBPF without a compiler: programs are written down as typed instructions ([`Assembler`]), encoded, and loaded by
//! bpf(2). No clang, no libbpf, no type information of the kernel (BTF) is needed, neither to build nor to run.
//!
//! ```text
//! maps (Array, Hash, ..) <- named by - Assembler -> build -> Code -> Program::load -> attach -> Link
//! ```
//!
//! Everything here belongs to the process: maps, programs and links vanish with their descriptors, and nothing is
//! pinned to a file system. What it takes is CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or CAP_SYS_ADMIN) and Linux 5.11;
//! [`probe`] says whether they are there. CAP_PERFMON is for offsets that are read from a packet, which the verifier
//! otherwise takes for a way to spy (and without it, it makes programs slower by barriers against speculation).

mod assembler;
mod instruction;
mod load;
mod map;

pub use assembler::{Assembler, BuildError, Code};
pub use instruction::{
    Alu, Atomic, Condition, Helper, Instruction, Label, Operand, Order, Register, Size, Width,
};
pub use load::{Ingress, Link, Mode, Program, ProgramKind, Tested, Verdict};
pub use map::{Array, Hash, Overflow, PerCpuArray, Plain, SharedArray, SocketMap, Sockets};

use std::io;

/// Why something of eBPF did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program cannot be encoded.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A map could not be made.
    #[error("the map {name}: {}", explained(source))]
    Map {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program could not be loaded.
    #[error("the program {name}: {}", explained_of_loading(source, log))]
    Load {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: io::Error,
        /// The last lines of the verifier's log; empty if it was not asked.
        log: String,
    },
    /// A program could not be attached.
    #[error("attaching: {}", explained_of_attaching(source))]
    Attach {
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What the kernel said, if it was asked.
    #[must_use]
    pub const fn source(&self) -> Option<&io::Error> {
        match self {
            Self::Build(_) => None,
            Self::Map { source, .. } | Self::Load { source, .. } | Self::Attach { source } => Some(source),
        }
    }
}

/// Whether this process may use eBPF here: makes a map and loads an XDP program that names it and reads a packet at a
/// place that the packet says, and lets go of both. The error is a sentence for the log.
///
/// # Errors
/// [`Error`].
pub fn probe() -> Result<(), Error> {
    let array = Array::<u64>::new("probe", 1)?;
    let mut code = Assembler::new();
    let end = code.label();
    code.mov(Register::R0, Verdict::Pass as i32).load(Size::Word, Register::R2, Register::R1, 0);
    code.load(Size::Word, Register::R3, Register::R1, 4).address(Register::R4, Register::R2, 1);
    code.branch(Condition::Greater, Register::R4, Register::R3, end);
    code.load(Size::Byte, Register::R4, Register::R2, 0).add(Register::R2, Register::R4);
    code.branch(Condition::Greater, Register::R2, Register::R3, end);
    code.load_map_value(Register::R1, &array, 0).bind(end).exit();
    Program::load("probe", ProgramKind::Xdp, &code.build()?).map(drop)
}

/// What an error of bpf(2) means, and what to do.
fn explained(error: &io::Error) -> String {
    let meaning = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "this process may not use eBPF: give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or CAP_SYS_ADMIN), and \
             let seccomp allow bpf(2)"
        }
        Some(libc::ENOSYS) => "this kernel has no bpf(2): it needs CONFIG_BPF_SYSCALL",
        Some(libc::ENOMEM) => "not enough memory for it: see the memory limit of the control group",
        Some(libc::EINVAL | libc::E2BIG) => "this kernel does not take it: Linux 5.11 or newer is needed",
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}

fn explained_of_loading(error: &io::Error, log: &str) -> String {
    if log.is_empty() {
        explained(error)
    } else if log.contains("!root") {
        // What the verifier calls all who may load programs but not look at the kernel's memory.
        format!("this process has CAP_BPF but not CAP_PERFMON: give it that, too ({error})")
    } else {
        format!("the verifier refuses it ({error}):\n{log}")
    }
}

fn explained_of_attaching(error: &io::Error) -> String {
    let meaning = match error.raw_os_error() {
        Some(libc::EPERM) => return explained(error),
        Some(libc::EBUSY | libc::EEXIST) => {
            "another program is attached there: `ip link show` or `bpftool net` names it"
        }
        Some(libc::EOPNOTSUPP) => "this driver has no native XDP: use the generic mode",
        Some(libc::ERANGE) => {
            "the driver takes XDP only with a smaller MTU: `ip link set dev .. mtu 1500` (3498 is the most on veth)"
        }
        Some(libc::EINVAL | libc::ENODEV) => "there is no such interface or namespace",
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}

#[cfg(test)]
mod tests;
