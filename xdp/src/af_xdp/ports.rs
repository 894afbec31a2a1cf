//! What a worker knows of its ports, and which worker a port number belongs to.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::PortIndex;
use crate::wire::HeaderTemplate;

/// Which worker has which UDP port (a port belongs to one worker, whatever the address), and as
/// which of its ports. Read for every packet, written when ports open and close.
#[derive(Debug)]
pub(super) struct Owners(Box<[AtomicU32]>);

/// Who has a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) worker: usize,
    pub(super) port: PortIndex,
}

impl Owners {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(|| AtomicU32::new(0)).take(1 << 16).collect())
    }

    #[inline]
    pub(super) fn owner(&self, number: u16) -> Option<Owner> {
        let entry = self.0[usize::from(number)].load(Ordering::Acquire);
        let worker = (entry >> INDEX_BITS).checked_sub(1)?;
        Some(Owner { worker: worker as usize, port: PortIndex(entry & (MAX_PORTS - 1)) })
    }

    /// Enters a port; false if the number is taken.
    pub(super) fn enter(&self, number: u16, owner: Owner) -> bool {
        let entry = ((owner.worker as u32 + 1) << INDEX_BITS) | owner.port.0;
        let entered =
            self.0[usize::from(number)].compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed);
        entered.is_ok()
    }

    pub(super) fn leave(&self, number: u16) {
        self.0[usize::from(number)].store(0, Ordering::Release);
    }
}

/// What is looked at for every datagram that arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) local: SocketAddr,
    /// The only address that is heard.
    pub(super) connected: Option<SocketAddr>,
    /// Whether its packets come through the rings: its number is entered for it.
    pub(super) entered: bool,
    /// The next hop to the last remote address is not known: a frame of that remote may teach it.
    pub(super) wants_mac: bool,
}

/// What is needed to send to the last remote address. Two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Transmit {
    pub(super) remote: SocketAddr,
    /// Of the next hops when it was found out; 0 is never one of theirs.
    pub(super) generation: u64,
    /// How many bytes fit into a packet.
    pub(super) longest: u16,
    pub(super) way: Way,
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Through the rings, with these headers.
    Rings(HeaderTemplate),
    /// Through the kernel's socket.
    Kernel,
}

impl Transmit {
    pub(super) const NONE: Self = Self {
        remote: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
        generation: 0,
        longest: 0,
        way: Way::Kernel,
    };
}

/// The bits of a port's index in [`Owners`]; the rest is the worker.
const INDEX_BITS: u32 = 24;

/// Ports of a worker.
pub(super) const MAX_PORTS: u32 = 1 << INDEX_BITS;

/// Workers that share an interface.
pub(super) const MAX_WORKERS: usize = 254;

const _: () = assert!(size_of::<Transmit>() == 128, "two cache lines");
