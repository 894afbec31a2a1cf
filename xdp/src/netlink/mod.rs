//! The kernel's tables by routing netlink (rtnetlink(7)): links, addresses, routes, neighbours, and what changes in them.
//!
//! It speaks the dozen messages that next hops need, and reads them itself: the public packet crates bring six
//! packages, allocate every attribute of every message and fail on what newer kernels add, while what is used here is
//! two iterators and five fixed headers. A truncated or nonsensical answer ends the iteration; it never panics.
//!
//! Sockets belong to the network namespace of the thread that makes them. Reading needs no privilege;
//! [`Netlink::resolve`] needs CAP_NET_ADMIN.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto, socket_with,
    sockopt,
};

mod event;
mod message;
mod tables;
#[cfg(test)]
mod tests;

pub use event::{Event, Prefix, events};
use message::{Messages, Request};
pub use tables::{Address, Link, Neighbour, NeighbourState, Route, VlanLink};

/// Questions to the kernel. Each is answered before the call returns; nothing waits for the network.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Netlink {
    /// Opens a socket.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: open(0)?, sequence: 0, buffer: vec![0; BUFFER_BYTES].into() })
    }

    /// All interfaces of this namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = Request::new(message::GETLINK, message::DUMP)
            .put(&[0; message::LINK_BYTES])
            .attribute(message::IFLA_EXT_MASK, &message::SKIP_STATISTICS.to_ne_bytes());
        self.ask(request, |kind, body| (kind == message::NEWLINK).then(|| Link::parse(body)).flatten())
    }

    /// One interface by its index; `None` if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        let mut header = [0; message::LINK_BYTES];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let request = Request::new(message::GETLINK, 0)
            .put(&header)
            .attribute(message::IFLA_EXT_MASK, &message::SKIP_STATISTICS.to_ne_bytes());
        let link = self.ask(request, |kind, body| {
            (kind == message::NEWLINK).then(|| Link::parse(body)).flatten().filter(|link| link.index == index)
        });
        none_if(link, rustix::io::Errno::NODEV)
    }

    /// One interface by its index, with the number of frames that it could not transmit, those that a program sent back
    /// included where its driver counts them; `None` if there is no such interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link_with_drops(&mut self, index: u32) -> io::Result<Option<(Link, u64)>> {
        let mut header = [0; message::LINK_BYTES];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let request = Request::new(message::GETLINK, 0).put(&header);
        let link = self.ask(request, |kind, body| {
            let link = (kind == message::NEWLINK).then(|| Link::parse(body)).flatten()?;
            (link.index == index).then(|| (link, Link::parse_transmit_dropped(body).unwrap_or(0)))
        });
        none_if(link, rustix::io::Errno::NODEV)
    }

    /// The addresses of all interfaces.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let request = Request::new(message::GETADDR, message::DUMP).put(&[0; message::ADDRESS_BYTES]);
        self.ask(request, |kind, body| (kind == message::NEWADDR).then(|| Address::parse(body)).flatten())
    }

    /// The way that the kernel would take to `destination`. A link-local address is looked for on `interface`.
    ///
    /// # Errors
    /// The kernel's, but not that there is no way: that is [`Route::Unreachable`].
    pub fn route(&mut self, destination: IpAddr, interface: u32) -> io::Result<Route> {
        self.route_from(None, destination, interface)
    }

    /// [`Netlink::route`] for packets that are sent from `source`, an address of this host of the same family.
    ///
    /// # Errors
    /// The kernel's, but not that there is no way.
    pub fn route_from(
        &mut self,
        source: Option<IpAddr>,
        destination: IpAddr,
        interface: u32,
    ) -> io::Result<Route> {
        let bits = if destination.is_ipv4() { 32 } else { 128 };
        let mut header = [0; message::ROUTE_BYTES];
        (header[0], header[1]) = (message::family(destination), bits);
        if source.is_some() {
            header[2] = bits;
        }
        let mut request = Request::new(message::GETROUTE, 0).put(&header).ip(message::RTA_DST, destination);
        if let Some(source) = source {
            request = request.ip(message::RTA_SRC, source);
        }
        if is_link_local(destination) {
            request = request.attribute(message::RTA_OIF, &interface.to_ne_bytes());
        }
        let answer =
            self.ask(request, |kind, body| (kind == message::NEWROUTE).then(|| Route::parse(body)).flatten());
        match answer {
            Ok(routes) => Ok(routes.into_iter().next().unwrap_or(Route::Unreachable)),
            Err(error)
                if UNREACHABLE.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error())) =>
            {
                Ok(Route::Unreachable)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether any rule chooses among routing tables by the source address (ip-rule(8)).
    ///
    /// # Errors
    /// The kernel's.
    pub fn routes_by_source(&mut self) -> io::Result<bool> {
        let request = Request::new(message::GETRULE, message::DUMP).put(&[0; message::ROUTE_BYTES]);
        // The rule's header is laid out like a route's: the third byte is the length of the source's prefix.
        let rules = self.ask(request, |kind, body| {
            (kind == message::NEWRULE && body.get(2).is_some_and(|source_bits| *source_bits > 0))
                .then_some(())
        })?;
        Ok(!rules.is_empty())
    }

    /// What the kernel knows of a neighbour; `None` if nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn neighbour(&mut self, interface: u32, ip: IpAddr) -> io::Result<Option<Neighbour>> {
        let request = Request::new(message::GETNEIGH, 0)
            .put(&message::neighbour_header(interface, ip, 0))
            .ip(message::NDA_DST, ip);
        let answer = self.ask(request, |kind, body| {
            let neighbour = (kind == message::NEWNEIGH).then(|| Neighbour::parse(body)).flatten()?;
            (neighbour.interface == interface && neighbour.ip == ip).then_some(neighbour)
        });
        none_if(answer, rustix::io::Errno::NOENT)
    }

    /// Has the kernel find out, or verify, the MAC of a neighbour, as if it had to send to it. The answer comes to a
    /// [`Subscription`].
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN.
    pub fn resolve(&mut self, interface: u32, ip: IpAddr) -> io::Result<()> {
        let request = Request::new(message::NEWNEIGH, message::ACK | message::CREATE)
            .put(&message::neighbour_header(interface, ip, message::NTF_USE))
            .ip(message::NDA_DST, ip);
        self.ask(request, |_, _| None::<()>).map(drop)
    }

    /// Sends a request and reads its answers. rtnetlink answers within `sendto`, a dump with each `recvfrom`, so the
    /// first empty read is the end even if the kernel did not say so.
    fn ask<T>(
        &mut self,
        request: Request,
        mut read: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        // What an earlier question left behind, if it was given up.
        for _ in 0..READS {
            match receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let dump = request.flags() & message::DUMP == message::DUMP;
        let bytes = request.finish(self.sequence);
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answers = Vec::new();
        for _ in 0..READS {
            let len = match receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            };
            for message in Messages::new(self.buffer.get(..len).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    message::ERROR => {
                        let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return match code.checked_neg() {
                            Some(0) => Ok(answers),
                            Some(code @ 1..=4095) => Err(io::Error::from_raw_os_error(code)),
                            _ => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    message::DONE => return Ok(answers),
                    kind => answers.extend(read(kind, message.body)),
                }
            }
            if !dump && !answers.is_empty() {
                return Ok(answers);
            }
        }
        Ok(answers)
    }
}

/// Hears of changes to links, addresses, routes, rules and neighbours.
#[derive(Debug)]
pub struct Subscription {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl Subscription {
    /// Hears of what changes from now on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new() -> io::Result<Self> {
        let socket = open(message::GROUPS)?;
        // A burst of routes; what does not fit is told by `Event::Lost`. Without the privilege it is cut to the
        // system's limit.
        if sockopt::set_socket_recv_buffer_size_force(&socket, EVENT_BUFFER_BYTES).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, EVENT_BUFFER_BYTES);
        }
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES].into() })
    }

    /// Calls `handle` with what has changed, at most `limit` datagrams of it; returns whether there may be more. Never
    /// blocks. Once the kernel could not keep an event it gives [`Event::Lost`]: all must be asked for again.
    ///
    /// # Errors
    /// The socket's; the subscription is of no use then.
    pub fn receive(&mut self, limit: usize, mut handle: impl FnMut(Event)) -> io::Result<bool> {
        for _ in 0..limit {
            match receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(len) => events(self.buffer.get(..len).unwrap_or_default()).for_each(&mut handle),
                Err(error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                    Some(rustix::io::Errno::AGAIN) => return Ok(false),
                    Some(rustix::io::Errno::INTR) => {}
                    Some(rustix::io::Errno::NOBUFS) => handle(Event::Lost),
                    None => handle(Event::Lost),
                    _ => return Err(error),
                },
            }
        }
        Ok(true)
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// One datagram from the kernel. `InvalidData`, which has no number, if it was longer than the buffer.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // Any process may send to a netlink socket.
    for _ in 0..READS {
        let (_, len, sender) = recvfrom(socket, &mut *buffer, RecvFlags::TRUNC)?;
        let kernel = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        if kernel.is_some_and(|sender| sender.pid() == 0) {
            return if len <= buffer.len() { Ok(len) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// The one answer, or none for the error that says so.
fn none_if<T>(answer: io::Result<Vec<T>>, code: rustix::io::Errno) -> io::Result<Option<T>> {
    match answer {
        Ok(items) => Ok(items.into_iter().next()),
        Err(error) if error.raw_os_error() == Some(code.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// What the kernel's routing says where it does not let a packet through (ip-route(8): unreachable, prohibit,
/// blackhole).
const UNREACHABLE: [rustix::io::Errno; 5] = [
    rustix::io::Errno::NETUNREACH,
    rustix::io::Errno::HOSTUNREACH,
    rustix::io::Errno::ACCESS,
    rustix::io::Errno::INVAL,
    rustix::io::Errno::NETDOWN,
];

/// Room for one datagram: the kernel fills at most 32 KiB.
const BUFFER_BYTES: usize = 32 * 1024;

const EVENT_BUFFER_BYTES: usize = 1024 * 1024;

/// Datagrams that one question reads at most: a dump of a million links.
const READS: usize = 65_536;
