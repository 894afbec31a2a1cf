//! How a port's datagrams leave: the headers for its last remote address, found out once and kept until the routes
//! change.

use std::net::SocketAddr;

use super::ports::{Port, Seen, Transmit, Way};
use super::routes::{NextHop, Routes};
use crate::wire::HeaderTemplate;
use crate::{Path, PortIndex};

/// The ports of a worker, and how they send.
#[derive(Debug)]
pub(super) struct Ways {
    ports: Vec<Option<Port>>,
    transmits: Vec<Transmit>,
    routes: Routes,
    /// Everything goes through the kernel from now on.
    closed: bool,
}

impl Ways {
    pub(super) fn new(ports: usize, routes: Routes) -> Self {
        Self { ports: Vec::with_capacity(ports), transmits: Vec::with_capacity(ports), routes, closed: false }
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

    pub(super) fn ports(&self) -> impl Iterator<Item = (PortIndex, &Port)> {
        let ports = self.ports.iter().enumerate();
        ports.filter_map(|(index, port)| Some((PortIndex(index as u32), port.as_ref()?)))
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The headers of what leaves on this path; `None` if it goes through the kernel's socket.
    #[inline]
    pub(super) fn headers(&mut self, path: Path) -> Option<&HeaderTemplate> {
        let at = path.port.0 as usize;
        let known = self.transmits.get(at)?;
        if known.remote != path.remote || known.generation != self.routes.generation() {
            self.find(path);
        }
        match &self.transmits.get(at)?.way {
            Way::Rings(headers) => Some(headers),
            Way::Kernel => None,
        }
    }

    /// A frame of the port's peer has shown its next hop: it does for the peer whose own is not known.
    pub(super) fn learn(&mut self, index: PortIndex, remote: SocketAddr, seen: Seen) {
        let at = index.0 as usize;
        let (Some(Some(port)), Some(transmit)) = (self.ports.get_mut(at), self.transmits.get_mut(at)) else {
            return;
        };
        // A port of any address does not say which of them is the source; the routes will.
        if transmit.remote.ip() != remote.ip() || port.local.ip().is_unspecified() || self.closed {
            return;
        }
        port.wants_mac = false;
        if !seen.0.destination_mac.is_unicast() {
            return;
        }
        if let Some(headers) = HeaderTemplate::new(&seen.0, port.local, transmit.remote, TRAFFIC_CLASS) {
            transmit.way = Way::Rings(headers);
        }
    }

    #[cold]
    fn find(&mut self, path: Path) {
        let at = path.port.0 as usize;
        let Some(Some(port)) = self.ports.get_mut(at) else { return };
        // Before the look: a change meanwhile is seen next time.
        let generation = self.routes.generation();
        port.wants_mac = false;
        let way = if self.closed {
            Way::Kernel
        } else {
            match self.routes.look(port.local.ip(), path.remote.ip()) {
                NextHop::Through { hop, source } => {
                    let source = SocketAddr::new(source, port.local.port());
                    HeaderTemplate::new(&hop, source, path.remote, TRAFFIC_CLASS)
                        .map_or(Way::Kernel, Way::Rings)
                }
                NextHop::Unknown => {
                    port.wants_mac = true;
                    Way::Kernel
                }
                NextHop::Kernel => Way::Kernel,
            }
        };
        self.transmits[at] = Transmit { remote: path.remote, generation, way };
    }
}

/// The differentiated services field of what we send: best effort, as the kernel's sockets do by default.
const TRAFFIC_CLASS: u8 = 0;
