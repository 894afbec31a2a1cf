//! The AF_XDP device: datagrams straight from and to the frames that the network card, or the kernel's driver, fills
//! and sends.
//!
//! ```text
//!  queue -> XDP program -> receive ring -> checks -> handle -> kept | sent on from the same frame -> transmit ring
//!              | not ours                    | port of another worker: handover ring -> that worker
//!              v                             v no way through the interface known
//!           the kernel -> inner UDP device (also: other interfaces, program gone)
//! ```
//!
//! Each worker has a device with its own memory and a socket on each queue that it owns (queue q belongs to worker q
//! modulo workers). Every port is also open on an inner [`UdpDevice`]: it reserves the number, receives what the
//! program does not take, and sends what has no known next hop on the interface. When the interface or the program
//! goes away, that is what is left, and [`AfXdpDevice`] goes on through it.

mod addresses;
mod bare;
mod examine;
mod handover;
mod health;
mod open;
mod poller;
mod ports;
mod promote;
mod receive;
mod rings;
mod transmit;
mod ways;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::handover::Handover;
use self::health::Health;
use self::poller::{Events, Poller};
use self::ports::{Owner, Owners, Port};
use self::promote::Promoted;
use self::rings::Rings;
use self::ways::Ways;
use crate::bpf::Link;
use crate::next_hop::{NextHopCounters, NextHops};
use crate::program::{PortError, ProgramCounters, XdpProgram};
use crate::udp::UdpDevice;
use crate::umem::CHUNK_BYTES;
use crate::{
    Device, DeviceCounters, Doorbell, Flow, FlowCounters, Full, Handle, Outgoing, PortIndex, Unpromoted,
};

pub use self::bare::Bare;
pub use self::open::{Mode, ModeWanted, Options, Queues, Refusal, Taken, ZeroCopy, open};
pub use crate::socket::{BusyPoll, SocketError};

/// A [`Device`] of AF_XDP sockets; see the module's documentation.
#[derive(Debug)]
pub struct AfXdpDevice {
    inner: UdpDevice,
    core: Core,
}

/// All but the inner device, which calls back into it.
#[derive(Debug)]
struct Core {
    worker: usize,
    shared: Arc<Shared>,
    /// `None` if the worker has no queue, or no longer.
    rings: Option<Rings>,
    ways: Ways,
    handover: Handover,
    /// The worker whose rings send for one that has none.
    sender: usize,
    /// Where a worker without rings writes.
    scratch: Box<[u8; CHUNK_BYTES]>,
    /// Where what was handed over is read to; not here while it is handled.
    letter: Option<Box<[u8; CHUNK_BYTES]>>,
    counters: Arc<DeviceCounters>,
    tally: Tally,
    promoted: Promoted,
    health: Health,
    poller: Poller,
    /// When the inner device is looked at next while the rings are busy.
    next_look: Instant,
}

/// What the workers of an interface share.
#[derive(Debug)]
struct Shared {
    owners: Owners,
    taken: Taken,
    program: XdpProgram,
    hops: Arc<NextHops>,
    /// Holds the program on the interface until the last device is gone.
    link: Mutex<Option<Link>>,
    /// Which workers go on through kernel sockets.
    fallen: Box<[AtomicBool]>,
    /// What the kernel forwards does not leave: on a veth whose other end has neither a program nor GRO.
    forwards_in_vain: AtomicBool,
}

impl Shared {
    fn name(&self, fallen: bool) -> &'static str {
        match self.taken.mode {
            _ if fallen => "af_xdp, now through kernel sockets",
            Mode::Native if self.taken.zero_copy => "af_xdp native zero-copy",
            Mode::Native => "af_xdp native copy",
            Mode::Generic => "af_xdp generic copy",
        }
    }
}

/// Counted one by one here and together in the counters, which are atomic.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    received_bytes: u64,
    transmitted: u64,
    transmitted_bytes: u64,
}

impl Tally {
    fn settle(&mut self, counters: &DeviceCounters) {
        let Self { received, received_bytes, transmitted, transmitted_bytes } = std::mem::take(self);
        if received > 0 {
            counters.received_datagrams.add(received);
            counters.received_bytes.add(received_bytes);
        }
        if transmitted > 0 {
            counters.transmitted_datagrams.add(transmitted);
            counters.transmitted_bytes.add(transmitted_bytes);
        }
    }
}

impl AfXdpDevice {
    /// How it reaches the interface, and why not in a better way.
    #[must_use]
    pub fn taken(&self) -> &Taken {
        &self.core.shared.taken
    }

    /// What its workers share, for whoever looks after them on another thread.
    #[must_use]
    pub fn interface(&self) -> Interface {
        Interface(Arc::clone(&self.core.shared))
    }
}

/// The interface of some [`AfXdpDevice`]s, for any thread. The program stays on it while this or a device exists.
#[derive(Clone, Debug)]
pub struct Interface(Arc<Shared>);

impl Interface {
    /// How it is reached, and why not in a better way.
    #[must_use]
    pub fn taken(&self) -> &Taken {
        &self.0.taken
    }

    /// [`Device::name`] of a worker's device, as it is now; `None` if there is no such worker.
    #[must_use]
    pub fn device_name(&self, worker: usize) -> Option<&'static str> {
        let fallen = self.0.fallen.get(worker)?.load(Ordering::Relaxed);
        Some(self.0.name(fallen))
    }

    /// Takes the program off the interface, for all workers: they go on through kernel sockets.
    ///
    /// # Errors
    /// The kernel's; the interface may be gone.
    pub fn detach(&self) -> io::Result<()> {
        let link = self.0.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        link.map_or(Ok(()), Link::detach)
    }

    /// What the program has done with all frames of the interface. System calls.
    ///
    /// # Errors
    /// The kernel's.
    pub fn program_counters(&self) -> io::Result<ProgramCounters> {
        self.0.program.counters()
    }

    /// What the thread that knows the next hops has done.
    #[must_use]
    pub fn next_hop_counters(&self) -> Arc<NextHopCounters> {
        self.0.hops.counters()
    }
}

impl Device for AfXdpDevice {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        let index = self.inner.open(local)?;
        let local = self.inner.local_address(index).unwrap_or(local);
        self.core.open_port(index, local);
        Ok(index)
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.inner.local_address(port)
    }

    fn close(&mut self, port: PortIndex) {
        self.flush();
        self.core.close_port(port);
        self.inner.close(port);
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        self.inner.connect(port, remote);
        self.core.connect_port(port, remote);
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        let Self { inner, core } = self;
        let mut handled = 0;
        let now = Instant::now();
        let mut looked = false;
        if now >= core.next_look {
            // Busy rings do not keep it out.
            handled += core.receive_inner(inner, budget.div_ceil(2), handle);
            core.next_look = now + LOOK_EVERY;
            looked = true;
        }
        // A flood on one way in does not keep the other out.
        let left = budget - handled;
        let share =
            if core.rings.as_mut().is_some_and(Rings::has_received) { left.div_ceil(2) } else { left };
        handled += core.receive_handed_over(inner, share, handle);
        let from_rings = core.receive_rings(inner, budget - handled, handle);
        handled += from_rings;
        if from_rings == 0 {
            if !looked {
                handled += core.receive_inner(inner, budget - handled, handle);
            }
            core.poll_drivers();
        }
        core.handover.ring();
        core.tally.settle(&core.counters);
        if core.health.is_due(now) {
            core.check_health(now);
        }
        handled
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        self.core.transmit(&mut self.inner, write)
    }

    fn flush(&mut self) {
        // What went this way was queued before the rings' way was known.
        self.inner.flush();
        self.core.flush();
    }

    fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        self.core.promote(port, flow)
    }

    fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        self.core.demote(port)
    }

    fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        self.core.flow_counters(port)
    }

    fn wait(&mut self, timeout: Duration) {
        let mut now = Instant::now();
        let deadline = now + timeout;
        loop {
            if self.core.has_work() {
                return;
            }
            if self.core.health.is_due(now) {
                self.core.check_health(now);
            }
            if let Some(rings) = &mut self.core.rings {
                rings.wake_receivers();
            }
            let longest =
                if self.core.has_backlog() { BACKLOG_WAIT } else { self.core.health.until_due(now) };
            if self.sleep(deadline.saturating_duration_since(now).min(longest)) {
                return;
            }
            now = Instant::now();
            if now >= deadline {
                return;
            }
            if self.core.has_backlog() {
                self.core.flush();
            }
        }
    }

    fn doorbell(&self) -> Doorbell {
        self.inner.doorbell()
    }

    fn counters(&self) -> Arc<DeviceCounters> {
        Arc::clone(&self.core.counters)
    }

    fn name(&self) -> &'static str {
        self.core.name()
    }
}

impl AfXdpDevice {
    /// Whether something happened before the time was over.
    fn sleep(&mut self, timeout: Duration) -> bool {
        let Events { any, inner, failed } = self.core.poller.wait(timeout);
        if inner {
            // It hears the doorbell and notes which sockets are ready.
            self.inner.wait(Duration::ZERO);
            self.core.next_look = Instant::now();
        }
        if failed {
            self.core.fall_back();
        }
        any
    }
}

impl Core {
    fn open_port(&mut self, index: PortIndex, local: SocketAddr) {
        // What cannot be entered has its packets from the kernel: a number that is open already, at another
        // address, or an address that nothing comes to from outside.
        let entered = index.0 < ports::MAX_PORTS && !local.ip().is_loopback() && self.enter(index, local);
        self.ways.open(index, Port { local, connected: None, entered, wants_mac: false });
    }

    fn enter(&self, index: PortIndex, local: SocketAddr) -> bool {
        let Shared { owners, program, hops, .. } = &*self.shared;
        let (number, ip) = (local.port(), local.ip().to_canonical());
        if !owners.enter(number, Owner { worker: self.worker, port: index }) {
            return false;
        }
        let mut opened = program.ports().open(number, ip);
        if opened == Err(PortError::Address) && program.set_address(ip, hops.mac().0).is_ok() {
            opened = program.ports().open(number, ip);
        }
        if opened.is_err() {
            owners.leave(number);
        }
        opened.is_ok()
    }

    fn close_port(&mut self, index: PortIndex) {
        self.promoted.forget(index);
        let Some(port) = self.ways.close(index) else { return };
        if port.entered {
            self.shared.program.ports().close(port.local.port());
            self.shared.owners.leave(port.local.port());
        }
    }

    fn connect_port(&mut self, index: PortIndex, remote: Option<SocketAddr>) {
        let Some(port) = self.ways.port_mut(index) else { return };
        port.connected = remote;
        if port.entered {
            self.shared.program.ports().connect(port.local.port(), remote);
        }
    }

    fn has_work(&mut self) -> bool {
        !self.handover.is_empty() || self.rings.as_mut().is_some_and(Rings::has_received)
    }

    fn has_backlog(&self) -> bool {
        self.rings.as_ref().is_some_and(Rings::has_backlog)
    }
}

impl Drop for Core {
    /// Other workers, and the program with them, may go on.
    fn drop(&mut self) {
        for index in 0..self.ways.ports() {
            self.close_port(PortIndex(index));
        }
    }
}

/// How often the kernel's sockets are looked at while the rings are busy.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long the kernel may leave what was flushed in the transmit ring before it is asked again.
const BACKLOG_WAIT: Duration = Duration::from_millis(1);
