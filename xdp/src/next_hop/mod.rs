//! Next hops: which MAC address a datagram to a remote address is sent to.
//!
//! ```text
//! worker --lookup(remote)--> table of atomics <--writes-- thread `net-control` <--netlink--> kernel
//!        --miss: bounded ring, doorbell------------------->
//! ```
//!
//! The kernel decides: its routes, its neighbours, its rules. One thread per interface asks it, hears of every change
//! and writes the answers to a table that workers read without lock or system call. An answer holds until
//! [`NextHops::generation`] changes, so a device keeps a header template per port and compares one number per packet:
//!
//! ```text
//! if cached.generation != hops.generation() { cached = hops.lookup(remote) }
//! match cached.way { Known(hop) => template, Elsewhere | Unknown => the kernel's socket }
//! ```
//!
//! The generation also changes every [`ROUND`], which shows the table who is still in use: a peer that nobody has
//! looked up for [`IDLE_ROUNDS`] is forgotten, and the neighbours of the others are kept fresh although the kernel does
//! not see our traffic. A neighbour's last MAC is used until the kernel knows another one or has tried in vain.
//!
//! Where rules choose the way by the source address ([`NextHops::is_by_source`]), a way is known only if it is the same
//! from all addresses of the interface, and holds for these only ([`NextHops::lead_from`]). Not seen: rules that choose by mark, port or user, IPsec policies, and a path's
//! MTU.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::netlink::{Link, Netlink, Subscription};
use crate::wire::{Hop, MacAddress};
use crate::{Doorbell, counters};

mod control;
mod limit;
mod peers;
mod sources;
mod table;
#[cfg(test)]
mod tests;

use control::Control;
use sources::Sources;
use table::{Asked, Table};

/// Where the interface sends a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The addresses on the wire, and the tag if the route goes through a VLAN of the interface.
    pub hop: Hop,
    /// The interface that sends it: the one of [`NextHops::start`].
    pub interface: u32,
    /// The address that the kernel would send from, for ports that are bound to no address.
    pub source: Option<IpAddr>,
}

/// The way to a remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through this interface.
    Known(NextHop),
    /// Not through this interface: through another one, to this host itself, nowhere, or the interface is down. The
    /// kernel's socket does what is right.
    Elsewhere,
    /// Being asked for. The kernel's socket does it meanwhile; ask again with the next packet.
    Unknown,
}

/// What [`NextHops::lookup`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The way.
    pub way: Way,
    /// It holds while this equals [`NextHops::generation`]. [`Way::Unknown`] is better asked again with every packet:
    /// the generation tells of what became known with up to 250 ms of delay.
    pub generation: u64,
}

/// The next hops through one interface, shared by its workers. Dropping it ends its thread.
#[derive(Debug)]
pub struct NextHops {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What workers and the thread share.
#[derive(Debug)]
struct Shared {
    table: Table,
    asked: Asked,
    generation: AtomicU64,
    /// Whether packets can be sent: the interface is up and [`Shared::alive`].
    up: AtomicBool,
    alive: AtomicBool,
    /// The program that shall be attached; 0 if none is expected.
    program: AtomicU32,
    mtu: AtomicU32,
    transmit_dropped: AtomicU64,
    sources: Sources,
    stop: AtomicBool,
    requests: SyncSender<Request>,
    bell: Doorbell,
    counters: Arc<NextHopCounters>,
    interface: u32,
    mac: AtomicU64,
    /// Only for the thread, but for when it is given.
    keeper: Mutex<Option<Box<dyn AddressKeeper>>>,
}

/// Who must know which addresses this host has.
pub(crate) trait AddressKeeper: Send + std::fmt::Debug {
    /// These are all addresses of the host, of every interface, and this is the interface's MAC. Called by the thread
    /// after each change, and now and then without one; after an error again within seconds.
    ///
    /// # Errors
    /// If not all could be done.
    fn addresses_are(&mut self, addresses: &[IpAddr], mac: MacAddress) -> io::Result<()>;
}

/// What workers ask of the thread.
#[derive(Clone, Copy, Debug)]
enum Request {
    Resolve(IpAddr),
    Learn(IpAddr, MacAddress),
}

impl NextHops {
    /// Starts the thread `net-control` for an interface of this thread's network namespace. It runs at the ordinary
    /// priority and, if there are others, not on the CPUs of `workers`.
    ///
    /// # Errors
    /// `NotFound` if there is no such Ethernet interface, or the operating system's.
    pub fn start(interface: &str, workers: &[usize]) -> io::Result<Self> {
        // Heard first and asked afterwards, so that no change is missed.
        let events = Subscription::new()?;
        let mut netlink = Netlink::new()?;
        let links = netlink.links()?;
        let found = links.iter().find(|link| link.name == interface && link.mac.is_some());
        let Some(Link { index, mac: Some(mac), mtu, .. }) = found.cloned() else {
            let text = format!("no Ethernet interface {interface} in this network namespace");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        let (sender, requests) = sync_channel(REQUESTS);
        let shared = Arc::new(Shared {
            table: Table::new(),
            asked: Asked::new(),
            generation: AtomicU64::new(1),
            up: AtomicBool::new(false),
            alive: AtomicBool::new(true),
            program: AtomicU32::new(0),
            mtu: AtomicU32::new(mtu),
            transmit_dropped: AtomicU64::new(0),
            sources: Sources::new(),
            stop: AtomicBool::new(false),
            requests: sender,
            bell: Doorbell::new()?,
            counters: Arc::default(),
            interface: index,
            mac: AtomicU64::new(table::from_mac(mac)),
            keeper: Mutex::new(None),
        });
        let control = Control::new(Arc::clone(&shared), netlink, events, requests, links);
        let workers = workers.to_vec();
        let thread = std::thread::Builder::new().name("net-control".to_owned()).spawn(move || {
            // A kernel that refuses leaves it where it is, which a worker feels, and nobody else.
            let _ = crate::thread::stand_aside(&workers);
            control.run();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The way to `remote`. A miss is asked for at most once at a time, through a bounded ring.
    #[must_use]
    #[inline]
    pub fn lookup(&self, remote: IpAddr) -> Answer {
        let shared = &*self.shared;
        // Read before the table: an answer that changes meanwhile carries the old number and is asked for again.
        let generation = shared.generation.load(Ordering::Acquire);
        if !shared.up.load(Ordering::Acquire) {
            return Answer { way: Way::Elsewhere, generation };
        }
        let way = match shared.table.lookup(remote, shared.interface) {
            Some(way) => way,
            None => {
                self.ask(Request::Resolve(remote.to_canonical()));
                Way::Unknown
            }
        };
        Answer { way, generation }
    }

    /// A number that changes whenever an earlier answer may be wrong. One atomic load.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Tells that a frame from `remote` came from `mac`. It fills the entry of that same peer while the kernel knows
    /// none; it never replaces what the kernel knows. To be called while the way is [`Way::Unknown`]; else it does
    /// nothing.
    pub fn learn(&self, remote: IpAddr, mac: MacAddress) {
        if mac.is_unicast() && self.shared.table.lookup(remote, self.shared.interface) == Some(Way::Unknown) {
            self.ask(Request::Learn(remote.to_canonical(), mac));
        }
    }

    /// Whether the interface still exists, with the program of [`NextHops::expect_program`] on it. Looked after every
    /// 50 ms; once false it stays so.
    #[must_use]
    #[inline]
    pub fn is_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Whether the interface is up and has a carrier.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    /// The identifier of the XDP program that shall be attached from now on.
    pub fn expect_program(&self, id: u32) {
        self.shared.program.store(id, Ordering::Release);
        self.shared.bell.ring();
    }

    /// Has the thread tell `keeper` the addresses of this host, now and whenever they change.
    pub(crate) fn keep_addresses(&self, keeper: Box<dyn AddressKeeper>) {
        *self.shared.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        self.shared.bell.ring();
    }

    /// The interface's index.
    #[must_use]
    pub fn interface(&self) -> u32 {
        self.shared.interface
    }

    /// The interface's MAC address: what arrives for another one is not for this host.
    #[must_use]
    pub fn mac(&self) -> MacAddress {
        table::to_mac(self.shared.mac.load(Ordering::Relaxed))
    }

    /// The largest IP packet that the interface takes, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.shared.mtu.load(Ordering::Relaxed)
    }

    /// How many frames the interface could not transmit, as it was 50 ms ago at most.
    #[must_use]
    pub fn transmit_dropped(&self) -> u64 {
        self.shared.transmit_dropped.load(Ordering::Relaxed)
    }

    /// Whether rules choose the way by the source address. The answers are then right for the addresses of this
    /// interface only ([`NextHops::lead_from`]).
    #[must_use]
    pub fn is_by_source(&self) -> bool {
        self.shared.sources.matter()
    }

    /// Whether the answers are right for what is sent from `source`; else it is for the kernel. Without rules that choose
    /// by the source address they are for every one. Holds while the generation does.
    #[must_use]
    pub fn lead_from(&self, source: IpAddr) -> bool {
        let sources = &self.shared.sources;
        !sources.matter() || sources.have(source)
    }

    /// What the thread counts.
    #[must_use]
    pub fn counters(&self) -> Arc<NextHopCounters> {
        Arc::clone(&self.shared.counters)
    }

    #[cold]
    fn ask(&self, request: Request) {
        let shared = &*self.shared;
        if !shared.asked.mark(&request) {
            return;
        }
        if shared.requests.try_send(request).is_err() {
            // It may be asked again.
            shared.asked.clear(&request);
            shared.counters.next_hop_requests_dropped.increment();
            return;
        }
        shared.bell.ring();
    }
}

impl Drop for NextHops {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by its thread.
            let _ = thread.join();
        }
    }
}

counters! {
    /// What a `net-control` thread has done.
    pub struct NextHopCounters {
        next_hop_requests: "Remote addresses that were asked for",
        next_hop_requests_dropped: "Requests dropped because the ring to the thread was full; they are made again",
        next_hop_changes: "Answers that have changed: another MAC, route, interface or none",
        next_hop_learned: "Entries filled from a received frame because the kernel knew no MAC",
        next_hop_evicted: "Peers that were forgotten to make room",
        next_hop_refreshed: "Times that the kernel was asked to find or verify a neighbour",
        next_hop_events_lost: "Times that the kernel told of more changes than could be kept",
        next_hop_errors: "Questions that the kernel refused",
    }
}

/// How long a round is.
pub const ROUND: Duration = Duration::from_secs(5);

/// Rounds after which a peer that nobody looks up is forgotten: two minutes.
pub const IDLE_ROUNDS: u32 = 24;

/// The peers that are known at most; beyond, those that were not looked up for the longest go.
pub const MAX_PEERS: usize = 16_384;

/// Requests that may wait for the thread.
const REQUESTS: usize = 1024;
