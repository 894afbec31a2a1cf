//! Two kernel sockets per worker for all of its ports: a program of the kernel (sk_lookup) gives what is for any of
//! them to one UDP socket of each family, so that one system call receives datagrams of 64 calls; one raw socket of
//! each family sends as many with headers of our own.
//!
//! ```text
//! datagram -> routing, netfilter -> sk_lookup program: port in the table? -> the worker's socket -> recvmmsg(64)
//!                                        no, or the program is gone -> the port's own socket -> the device inside
//! transmit -> IP and UDP header, checksum -> raw socket -> sendmmsg(64)
//! ```
//!
//! Every port is a bound socket of a [`UdpDevice`] inside, too: it keeps the port ours, receives if the program is
//! gone, and sends what a raw socket cannot: from a port without an address of its own, or what is larger than the
//! way takes in one piece.
//!
//! Needs CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN) for the program, CAP_NET_RAW for the raw sockets, and Linux
//! 5.11. CAP_PERFMON, which the XDP program takes, it does not: it reads no packets.

mod header;
mod ports;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use self::header::Header;
use self::ports::{Port, Ports};
use crate::program::LookupTable;
use crate::sys::raw::{self, BATCH, Incoming, Packet};
use crate::udp::{self, UdpDevice};
use crate::{
    Datagram, Device, DeviceCounters, Doorbell, Full, Handle, MAX_DATAGRAM_BYTES, Outgoing, PortIndex,
};

/// How the devices are made; all their memory is taken at once.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many ports each may open.
    pub ports: usize,
    /// Datagrams that may be queued before a device flushes by itself.
    pub transmit_queue: usize,
    /// The kernel's receive buffer per worker and family, in bytes: what all its ports together may be late by.
    pub receive_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        let udp::Options { ports, transmit_queue, .. } = Default::default();
        // Some 20,000 datagrams: a tenth of a second at 200,000 packets/s.
        Self { ports, transmit_queue, receive_buffer_bytes: 16 << 20 }
    }
}

/// Why there is no [`SkLookupDevice`].
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The program.
    #[error("the sk_lookup program: {0}")]
    Program(crate::bpf::Error),
    /// The raw sockets.
    #[error("raw sockets are forbidden here: give this process CAP_NET_RAW")]
    Raw,
    /// Out of memory or descriptors.
    #[error("sockets for sk_lookup cannot be set up: {0}")]
    System(#[from] io::Error),
}

/// A [`Device`] of one socket for many ports.
#[derive(Debug)]
pub struct SkLookupDevice {
    table: Arc<LookupTable>,
    /// Our number in the table.
    worker: u32,
    inner: UdpDevice,
    epoll: OwnedFd,
    doorbell: Doorbell,
    counters: Arc<DeviceCounters>,
    families: [Option<Family>; 2],
    ports: Ports,
    /// What the last look or wait has found, and whether it is older than the last receive.
    ready: Ready,
    looked: bool,
    /// Which source is served first, so that none starves another.
    turn: usize,
    incoming: Incoming,
    transmit_buffers: Box<[[u8; MAX_DATAGRAM_BYTES]]>,
    /// How many of them are queued.
    written: usize,
    queue: Vec<Queued>,
}

/// The sockets for IPv4 or IPv6.
#[derive(Debug)]
struct Family {
    receiver: OwnedFd,
    sender: OwnedFd,
    /// What the receiver has said of datagrams that it had no room for.
    dropped: u32,
}

/// Who has something, by bits.
type Ready = u64;

#[derive(Debug)]
struct Queued {
    header: Header,
    payload: Payload,
    outgoing: Outgoing,
}

#[derive(Clone, Copy, Debug)]
enum Payload {
    Written(usize),
    Received(usize),
}

/// Makes a device for each of `workers`.
///
/// # Errors
/// See [`Unavailable`].
pub fn open(options: &Options, workers: usize) -> Result<Vec<SkLookupDevice>, Unavailable> {
    let sockets = (0..workers).map(|_| Family::both(options)).collect::<Result<Vec<_>, _>>()?;
    let table = LookupTable::load(sockets.iter().flat_map(receivers)).map_err(Unavailable::Program)?;
    let table = Arc::new(table);
    let devices = sockets.into_iter().enumerate();
    devices
        .map(|(worker, families)| {
            Ok(SkLookupDevice::new(options, worker as u32, families, Arc::clone(&table))?)
        })
        .collect()
}

fn receivers(families: &[Option<Family>; 2]) -> [Option<BorrowedFd<'_>>; 2] {
    families.each_ref().map(|family| family.as_ref().map(|family| family.receiver.as_fd()))
}

impl Family {
    /// IPv4, and IPv6 where the host has it.
    fn both(options: &Options) -> Result<[Option<Self>; 2], Unavailable> {
        let v4 = Self::new(options, AddressFamily::INET)?;
        match Self::new(options, AddressFamily::INET6) {
            Ok(v6) => Ok([Some(v4), Some(v6)]),
            Err(Unavailable::System(error)) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                Ok([Some(v4), None])
            }
            // Switched off by a sysctl: no address can be bound.
            Err(Unavailable::System(error)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                Ok([Some(v4), None])
            }
            Err(error) => Err(error),
        }
    }

    fn new(options: &Options, family: AddressFamily) -> Result<Self, Unavailable> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = |kind, protocol| {
            rustix::net::socket_with(family, kind, flags, Some(protocol)).map_err(io::Error::from)
        };
        let sender = socket(SocketType::RAW, ipproto::RAW).map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied { Unavailable::Raw } else { error.into() }
        })?;
        raw::set_buffers(sender.as_fd(), 0, TRANSMIT_BUFFER_BYTES)?;
        let receiver = socket(SocketType::DGRAM, ipproto::UDP)?;
        let ipv6 = family == AddressFamily::INET6;
        // The program can only choose a bound socket; nobody outside can send to this address itself.
        let local = if ipv6 { LOCALHOST_V6 } else { LOCALHOST_V4 };
        rustix::net::bind(&receiver, &local).map_err(io::Error::from)?;
        raw::set_buffers(receiver.as_fd(), options.receive_buffer_bytes, 0)?;
        raw::tell_destinations(receiver.as_fd(), ipv6)?;
        Ok(Self { receiver, sender, dropped: 0 })
    }
}

impl SkLookupDevice {
    fn new(
        options: &Options,
        worker: u32,
        families: [Option<Family>; 2],
        table: Arc<LookupTable>,
    ) -> io::Result<Self> {
        let counters = Arc::<DeviceCounters>::default();
        let inner = udp::Options {
            ports: options.ports,
            transmit_queue: options.transmit_queue,
            ..udp::Options::default()
        };
        let inner = UdpDevice::counting(&inner, Arc::clone(&counters))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let doorbell = Doorbell::new()?;
        let add = |source: BorrowedFd<'_>, number: usize| {
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, source, data, epoll::EventFlags::IN)
        };
        for (number, family) in families.iter().enumerate() {
            if let Some(family) = family {
                add(family.receiver.as_fd(), number)?;
            }
        }
        add(inner.as_fd(), INNER)?;
        add(doorbell.as_fd(), DOORBELL)?;
        let transmit_queue = options.transmit_queue.max(1);
        Ok(Self {
            table,
            worker,
            inner,
            epoll,
            doorbell,
            counters,
            families,
            ports: Ports::new(options.ports),
            ready: 0,
            looked: false,
            turn: 0,
            incoming: Incoming::new(),
            transmit_buffers: vec![[0; MAX_DATAGRAM_BYTES]; transmit_queue].into(),
            written: 0,
            queue: Vec::with_capacity(transmit_queue + BATCH),
        })
    }

    /// Asks the kernel who has something; whether the doorbell has rung.
    fn look(&mut self, timeout: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        self.looked = true;
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); SOURCES + 1];
        // An interrupted wait is a wait that ended.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&timeout)) else { return false };
        self.ready = events.iter().fold(0, |ready, event| ready | 1 << event.data.u64());
        self.ready & 1 << DOORBELL != 0
    }

    fn receive_family(&mut self, number: usize, budget: usize, handle: &mut Handle<'_>) -> usize {
        let mut handled = 0;
        while handled < budget {
            let Some(Some(family)) = self.families.get(number) else { break };
            let limit = (budget - handled).min(BATCH);
            let taken = match self.incoming.receive(family.receiver.as_fd(), limit) {
                Ok(taken) => taken,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.counters.receive_errors.increment();
                    }
                    break;
                }
            };
            let mut bytes = 0;
            let mut forwards = false;
            for index in 0..taken {
                let (len, on) = self.accept(number, index, handle);
                bytes += len as u64;
                if let Some(outgoing) = on {
                    self.queue(Payload::Received(index), Outgoing { len: outgoing.len.min(len), ..outgoing });
                    forwards = true;
                }
            }
            handled += taken;
            self.counters.received_datagrams.add(taken as u64);
            self.counters.received_bytes.add(bytes);
            if forwards {
                // The next call writes over them.
                self.send();
            }
            if taken < limit {
                break;
            }
        }
        handled
    }

    /// Hands one datagram on; its length, and what is to be sent on.
    fn accept(&mut self, family: usize, index: usize, handle: &mut Handle<'_>) -> (usize, Option<Outgoing>) {
        let Some((head, payload)) = self.incoming.datagram(index) else { return (0, None) };
        if let (Some(dropped), Some(Some(family))) = (head.dropped, self.families.get_mut(family)) {
            self.counters.receive_overflows.add(dropped.wrapping_sub(family.dropped).into());
            family.dropped = dropped;
        }
        let (Some(remote), Some(local)) = (head.remote, head.local) else { return (head.len, None) };
        let on = match self.ports.find(local) {
            _ if head.truncated => {
                self.counters.receive_truncated.increment();
                None
            }
            // It was closed after the datagram had come.
            None => {
                self.counters.receive_closed_port.increment();
                None
            }
            Some((_, port)) if port.connected.is_some_and(|connected| connected != remote) => {
                self.counters.receive_strangers.increment();
                None
            }
            Some((port, _)) => handle(Datagram { port, remote, payload }),
        };
        (head.len, on)
    }

    /// Receives what has come by the ports' own sockets.
    fn receive_inner(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        let (ports, counters) = (&self.ports, &self.counters);
        let count = self.inner.receive(budget, &mut |datagram: Datagram<'_>| {
            let port = ports.port(datagram.port)?;
            if port.connected.is_some_and(|connected| connected != datagram.remote) {
                counters.receive_strangers.increment();
                return None;
            }
            handle(datagram)
        });
        self.counters.receive_fallback.add(count as u64);
        count
    }

    /// Queues one datagram, by a raw socket if that can send it.
    fn queue(&mut self, payload: Payload, outgoing: Outgoing) {
        let Outgoing { path, len } = outgoing;
        let Some(port) = self.ports.port(path.port) else {
            self.counters.transmit_errors.increment();
            return;
        };
        let bytes = &bytes(&self.transmit_buffers, &self.incoming, payload)[..len];
        let family = usize::from(path.remote.is_ipv6());
        let own_address = !port.local.ip().is_unspecified() && self.families[family].is_some();
        match Header::new(port.local, path.remote, bytes).filter(|_| own_address) {
            Some(header) => {
                self.queue.push(Queued { header, payload, outgoing });
                if let Payload::Written(_) = payload {
                    self.written += 1;
                }
            }
            None => hand_over(&mut self.inner, bytes, outgoing),
        }
    }

    /// Sends what is queued by raw sockets.
    fn send(&mut self) {
        let Self { queue, families, incoming, transmit_buffers, inner, counters, .. } = self;
        let family = |queued: &Queued| usize::from(queued.outgoing.path.remote.is_ipv6());
        for mut rest in queue.chunk_by(|left, right| family(left) == family(right)) {
            while let Some(first) = rest.first() {
                let Some(sockets) = &families[family(first)] else { break };
                let packets = rest.iter().take(BATCH).map(|queued| Packet {
                    header: queued.header.bytes(),
                    payload: &bytes(transmit_buffers, incoming, queued.payload)[..queued.outgoing.len],
                    destination: queued.outgoing.path.remote,
                });
                let sent = match raw::transmit(sockets.sender.as_fd(), packets) {
                    Ok(sent) if sent > 0 => sent.min(rest.len()),
                    Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                        // Only a kernel socket takes it apart.
                        let payload = &bytes(transmit_buffers, incoming, first.payload)[..first.outgoing.len];
                        hand_over(inner, payload, first.outgoing);
                        rest = &rest[1..];
                        continue;
                    }
                    _ => {
                        counters.transmit_errors.increment();
                        rest = &rest[1..];
                        continue;
                    }
                };
                let (done, todo) = rest.split_at(sent);
                counters.transmitted_datagrams.add(sent as u64);
                counters.transmitted_bytes.add(done.iter().map(|queued| queued.outgoing.len as u64).sum());
                rest = todo;
            }
        }
        queue.clear();
        self.written = 0;
    }

    /// Adds up what the program has dropped for a port.
    fn count_strangers(&mut self, index: PortIndex) {
        let Some(port) = self.ports.port_mut(index) else { return };
        let strangers = self.table.strangers(port.local.port());
        self.counters.receive_strangers.add(strangers.wrapping_sub(port.strangers));
        port.strangers = strangers;
    }
}

/// The bytes of a queued datagram, and what follows them in their buffer.
fn bytes<'a>(
    written: &'a [[u8; MAX_DATAGRAM_BYTES]],
    received: &'a Incoming,
    payload: Payload,
) -> &'a [u8; MAX_DATAGRAM_BYTES] {
    match payload {
        Payload::Written(index) => &written[index],
        Payload::Received(index) => received.payload(index),
    }
}

/// Has the port's own socket send a datagram. If there is no room, the device inside has counted it.
fn hand_over(inner: &mut UdpDevice, payload: &[u8], outgoing: Outgoing) {
    let _ = inner.transmit(&mut |buffer| {
        buffer[..payload.len()].copy_from_slice(payload);
        Some(outgoing)
    });
}

impl Device for SkLookupDevice {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        let index = self.inner.open(local)?;
        let local = self.inner.local_address(index).unwrap_or(local);
        // A port that is in the table already, with another address, has its own socket.
        let selected = self.table.open(local, self.worker);
        let strangers = self.table.strangers(local.port());
        self.ports.insert(index, Port { local, connected: None, selected, strangers });
        Ok(index)
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.ports.port(port).map(|port| port.local)
    }

    fn close(&mut self, port: PortIndex) {
        self.flush();
        self.count_strangers(port);
        if let Some(Port { local, selected, .. }) = self.ports.remove(port)
            && selected
        {
            self.table.close(local.port());
        }
        self.inner.close(port);
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        if let Some(port) = self.ports.port_mut(port) {
            // The port's own socket is not connected: the kernel would prefer it to the program.
            port.connected = remote;
            if port.selected {
                self.table.connect(port.local.port(), remote);
            }
        }
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        if !std::mem::take(&mut self.looked) {
            // Only `wait` hears the doorbell: here, somebody's work may have been looked for already.
            self.look(Duration::ZERO);
            self.looked = false;
        }
        let mut handled = 0;
        self.turn = (self.turn + 1) % SOURCES;
        for source in (self.turn..SOURCES).chain(0..self.turn) {
            if self.ready & 1 << source == 0 {
                continue;
            }
            let budget = budget - handled;
            handled += if source == INNER {
                self.receive_inner(budget, handle)
            } else {
                self.receive_family(source, budget, handle)
            };
        }
        if let Some(port) = self.ports.next() {
            self.count_strangers(port);
        }
        handled
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        if self.written == self.transmit_buffers.len() {
            self.flush();
        }
        let index = self.written;
        let Some(outgoing) = write(&mut self.transmit_buffers[index]) else { return Ok(false) };
        let len = outgoing.len.min(MAX_DATAGRAM_BYTES);
        self.queue(Payload::Written(index), Outgoing { len, ..outgoing });
        Ok(true)
    }

    fn flush(&mut self) {
        if !self.queue.is_empty() {
            self.send();
        }
        self.inner.flush();
    }

    fn wait(&mut self, timeout: Duration) {
        if self.look(timeout) {
            self.doorbell.hear();
        }
    }

    fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    fn counters(&self) -> Arc<DeviceCounters> {
        Arc::clone(&self.counters)
    }

    fn name(&self) -> &'static str {
        "sk_lookup"
    }
}

impl Drop for SkLookupDevice {
    fn drop(&mut self) {
        for port in self.ports.iter().filter(|port| port.selected) {
            self.table.close(port.local.port());
        }
    }
}

/// The sources of datagrams: IPv4, IPv6, the device inside.
const SOURCES: usize = 3;
const INNER: usize = 2;

/// The doorbell's number among the epoll events.
const DOORBELL: usize = SOURCES;

const TRANSMIT_BUFFER_BYTES: usize = 1 << 20;

const LOCALHOST_V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const LOCALHOST_V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 0);

#[cfg(test)]
mod tests;
