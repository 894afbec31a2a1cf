//! How a port's datagrams leave: the headers for its last remote address, found out once and kept until the routes
//! change.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ports::{Port, Transmit, Way};
use crate::next_hop::{self, NextHop, NextHops};
use crate::wire::{HeaderTemplate, MacAddress, ethernet};
use crate::{Path, PortIndex};

/// The ports of a worker, and how they send.
#[derive(Debug)]
pub(super) struct Ways {
    ports: Vec<Option<Port>>,
    transmits: Vec<Transmit>,
    hops: Arc<NextHops>,
    /// Everything goes through the kernel from now on.
    closed: bool,
}

impl Ways {
    pub(super) fn new(ports: usize, hops: Arc<NextHops>) -> Self {
        Self { ports: Vec::with_capacity(ports), transmits: Vec::with_capacity(ports), hops, closed: false }
    }

    pub(super) fn open(&mut self, index: PortIndex, port: Port) {
        let at = index.0 as usize;
        if at >= self.ports.len() {
            self.ports.resize(at + 1, None);
            self.transmits.resize(at + 1, Transmit::NONE);
        }
        (self.ports[at], self.transmits[at]) = (Some(port), Transmit::NONE);
    }

    pub(super) fn close(&mut self, index: PortIndex) -> Option<Port> {
        let port = self.ports.get_mut(index.0 as usize)?.take();
        self.transmits[index.0 as usize] = Transmit::NONE;
        port
    }

    /// How many ports there have been at once; some may be closed.
    pub(super) fn ports(&self) -> u32 {
        self.ports.len() as u32
    }

    /// Sends everything through the kernel from now on.
    pub(super) fn close_rings(&mut self) {
        self.closed = true;
        self.transmits.fill(Transmit::NONE);
    }

    /// Whether everything goes through the kernel.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    #[inline]
    pub(super) fn port(&self, index: PortIndex) -> Option<&Port> {
        self.ports.get(index.0 as usize)?.as_ref()
    }

    pub(super) fn port_mut(&mut self, index: PortIndex) -> Option<&mut Port> {
        self.ports.get_mut(index.0 as usize)?.as_mut()
    }

    /// The headers of `len` bytes that leave on this path; `None` if they go through the kernel's socket.
    #[inline]
    pub(super) fn headers(&mut self, path: Path, len: usize) -> Option<&HeaderTemplate> {
        let at = path.port.0 as usize;
        let known = self.transmits.get(at)?;
        if known.remote != path.remote || known.generation != self.hops.generation() {
            self.find(path);
        }
        match self.transmits.get(at)? {
            Transmit { way: Way::Rings(headers), longest, .. } if len <= usize::from(*longest) => {
                Some(headers)
            }
            _ => None,
        }
    }

    /// A frame of a remote address has shown its next hop: it may do for the same peer if nothing better is known.
    #[cold]
    pub(super) fn learn(&self, index: PortIndex, remote: SocketAddr, mac: MacAddress) {
        let wanted =
            self.transmits.get(index.0 as usize).is_some_and(|transmit| transmit.remote.ip() == remote.ip());
        if wanted && !self.closed {
            self.hops.learn(remote.ip(), mac);
        }
    }

    #[cold]
    fn find(&mut self, path: Path) {
        let at = path.port.0 as usize;
        let Some(Some(port)) = self.ports.get_mut(at) else { return };
        let next_hop::Answer { way, generation } = self.hops.lookup(path.remote.ip());
        port.wants_mac = false;
        let mut transmit = Transmit { remote: path.remote, generation, longest: 0, way: Way::Kernel };
        match way {
            _ if self.closed || port.local.ip().is_loopback() || !on(path.remote, self.hops.interface()) => {}
            next_hop::Way::Known(hop) => {
                // The rules may send another address another way.
                if let Some(source) = source(port, &hop).filter(|source| self.hops.lead_from(source.ip()))
                    && let Some((headers, longest)) = headers(&hop, source, path.remote, self.hops.mtu())
                {
                    transmit.longest = longest;
                    transmit.way = Way::Rings(headers);
                }
            }
            next_hop::Way::Elsewhere => {}
            next_hop::Way::Unknown => {
                port.wants_mac = true;
                // Asked again for the next packet.
                transmit.generation = Transmit::NONE.generation;
            }
        }
        self.transmits[at] = transmit;
    }
}

/// The address that a port sends from.
pub(super) fn source(port: &Port, hop: &NextHop) -> Option<SocketAddr> {
    let local = port.local.ip().to_canonical();
    let ip = if local.is_unspecified() { hop.source? } else { local };
    Some(SocketAddr::new(ip, port.local.port()))
}

/// The headers from a source to a remote address, and how many bytes fit behind them.
fn headers(hop: &NextHop, source: SocketAddr, remote: SocketAddr, mtu: u32) -> Option<(HeaderTemplate, u16)> {
    let headers = HeaderTemplate::new(&hop.hop, source, remote, TRAFFIC_CLASS)?;
    let link = ethernet::HEADER_BYTES + hop.hop.vlan.map_or(0, |_| ethernet::TAG_BYTES);
    let longest = (mtu as usize).checked_sub(headers.len() - link)?;
    Some((headers, u16::try_from(longest).unwrap_or(u16::MAX)))
}

/// Whether an address means something on this interface.
fn on(remote: SocketAddr, interface: u32) -> bool {
    match remote {
        SocketAddr::V6(remote) if remote.ip().is_unicast_link_local() => remote.scope_id() == interface,
        _ => true,
    }
}

/// The differentiated services field of what we send: best effort, as the kernel's sockets do by default. What is sent on
/// keeps its own, as what the kernel forwards does.
pub(super) const TRAFFIC_CLASS: u8 = 0;
