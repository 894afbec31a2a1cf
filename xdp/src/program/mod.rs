//! The programs that run in the kernel, and the tables by which workers tell them what to do.
//!
//! [`XdpProgram`] sees every frame that an interface receives:
//!
//! ```text
//! Ethernet [one VLAN tag] IPv4 without options or fragments | IPv6 without extension headers, UDP   else: kernel
//!   destination port in the table, addressed to us                                                 else: kernel
//!   from whom the port is connected to                                                             else: dropped, counted
//!   (not connected: at most so many packets per sender and second)                                 else: dropped, counted
//!   the port forwards: RTP of a listed payload type -> new headers -> out                          else: AF_XDP
//! AF_XDP socket of the queue                                                                       else: kernel
//! ```
//!
//! [`LookupTable`] does the same for kernel sockets, behind routing and netfilter: one socket per worker receives all of
//! its ports.
//!
//! Both fail open: programs, tables and links belong to the process, and everything goes its usual way without them.
//! Packets that are forwarded never reach a socket, a netfilter rule or a packet capture on the interface.

mod counters;
mod entry;
mod lookup;
mod maps;
mod ports;
mod text;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

pub use counters::{Event, ProgramCounters};
pub use lookup::LookupTable;
pub use ports::{KernelFlow, PortError, PortTable};

use crate::bpf::{Error, Ingress, Link, Mode, Program, ProgramKind, Tested};
use counters::EVENTS;
use maps::Maps;
use text::Loads;

/// Settings of an [`XdpProgram`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Receive queues that may have a socket: 0 to this, exclusive.
    pub queues: u32,
    /// Packets that one sender may send per second to ports that are not connected; no limit if `None`. A sender is an
    /// IPv4 address or an IPv6 /64.
    pub flood_limit: Option<u32>,
    /// How many senders are counted; those not heard for longest are forgotten first.
    pub flood_sources: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { queues: 64, flood_limit: None, flood_sources: 16_384 }
    }
}

/// The XDP program with its tables, loaded and not attached.
#[derive(Debug)]
pub struct XdpProgram {
    native: Program,
    /// Loaded when it is wanted first.
    generic: OnceLock<Program>,
    maps: Maps,
    flood_limit: Option<i32>,
}

impl XdpProgram {
    /// Makes the tables (9 MB of kernel memory) and loads the program.
    ///
    /// # Errors
    /// [`Error`], a sentence for the log.
    pub fn load(options: Options) -> Result<Self, Error> {
        let maps = Maps::new(&options)?;
        let flood_limit = options.flood_limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let native = load(&maps, flood_limit, Mode::Native)?;
        Ok(Self { native, generic: OnceLock::new(), maps, flood_limit })
    }

    /// The port table, to be shared by the workers.
    #[must_use]
    pub const fn ports(&self) -> &Arc<PortTable> {
        &self.maps.ports
    }

    /// Has frames of a receive queue go to this AF_XDP socket, which is bound to that queue.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.maps.sockets.set(queue, socket)
    }

    /// Has frames of a receive queue go to the kernel. Closing the socket does the same.
    ///
    /// # Errors
    /// The kernel's.
    pub fn clear_socket(&self, queue: u32) -> io::Result<()> {
        self.maps.sockets.remove(queue).map(drop)
    }

    /// Tells the program an address of this host, with the MAC of the interface that it is on; again when that has
    /// changed. Only what is sent to both is taken.
    ///
    /// # Errors
    /// The kernel's; `StorageFull` beyond 255 addresses.
    pub fn set_address(&self, ip: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        self.maps.ports.set_address(ip, mac)
    }

    /// Has what is sent to an address go to the kernel from now on, whatever ports are open.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_address(&self, ip: IpAddr) -> io::Result<()> {
        self.maps.ports.remove_address(ip)
    }

    /// Attaches the program to an interface. It may be attached to several.
    ///
    /// # Errors
    /// [`Error::Attach`], a sentence for the log.
    pub fn attach(&self, interface: u32, mode: Mode) -> Result<Link, Error> {
        self.program(mode)?.attach(interface, mode)
    }

    /// What became of all frames so far.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self) -> io::Result<ProgramCounters> {
        let mut events = [0; EVENTS];
        for cpu in self.maps.events.values(0)? {
            events.iter_mut().zip(cpu).for_each(|(sum, count)| *sum += count);
        }
        Ok(ProgramCounters { events, forwarded: self.maps.ports.forwarded() })
    }

    /// The tables by the names that `xdp/bpf/xdp.c` has for them: for tools that look into them, and for other programs
    /// on the same tables.
    #[must_use]
    pub fn maps(&self) -> [(&'static str, BorrowedFd<'_>); 6] {
        let maps = &self.maps;
        [
            ("ports", maps.ports.entries.as_fd()),
            ("addresses", maps.ports.addresses.as_fd()),
            ("numbers", maps.ports.numbers.as_fd()),
            ("sockets", maps.sockets.as_fd()),
            ("events", maps.events.as_fd()),
            ("floods", maps.floods.as_fd()),
        ]
    }

    /// Runs the program on one frame, as if it came from `ingress` (or from nowhere): for tests. Frames that would go to
    /// a socket pass, unless there is one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test(&self, mode: Mode, frame: &[u8], ingress: Option<Ingress>) -> io::Result<Tested> {
        let program = self.program(mode).map_err(io::Error::other)?;
        match ingress {
            Some(ingress) => program.test_from(frame, ingress),
            None => program.test(frame),
        }
    }

    /// The program for one way of attaching it. They differ only in what they do with a partial UDP checksum.
    fn program(&self, mode: Mode) -> Result<&Program, Error> {
        if mode == Mode::Native {
            return Ok(&self.native);
        }
        if let Some(program) = self.generic.get() {
            return Ok(program);
        }
        let program = load(&self.maps, self.flood_limit, mode)?;
        Ok(self.generic.get_or_init(|| program))
    }
}

fn load(maps: &Maps, flood_limit: Option<i32>, mode: Mode) -> Result<Program, Error> {
    Program::load("sidetone_xdp", ProgramKind::Xdp, &text::text(maps, flood_limit, mode, Loads::HERE)?)
}

#[cfg(test)]
mod tests;
