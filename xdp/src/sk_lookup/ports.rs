//! Which port a datagram is for.

use std::net::SocketAddr;

use crate::PortIndex;

/// An open port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) local: SocketAddr,
    /// The only address that is heard.
    pub(super) connected: Option<SocketAddr>,
    /// Whether the program gives its datagrams to our socket.
    pub(super) selected: bool,
    /// What the program's count of strangers was when it was last read.
    pub(super) strangers: u64,
}

/// The open ports of a device, by index and by number.
#[derive(Debug)]
pub(super) struct Ports {
    ports: Vec<Option<Port>>,
    /// By number: the index of a port that has it, and one more.
    numbers: Box<[u32]>,
    /// The next one to be looked at.
    next: usize,
}

impl Ports {
    pub(super) fn new(capacity: usize) -> Self {
        Self { ports: Vec::with_capacity(capacity), numbers: vec![0; 1 << 16].into(), next: 0 }
    }

    pub(super) fn insert(&mut self, index: PortIndex, port: Port) {
        let at = index.0 as usize;
        if self.ports.len() <= at {
            self.ports.resize(at + 1, None);
        }
        self.ports[at] = Some(port);
        // The program sends us only what is for the port in its table.
        if port.selected {
            self.numbers[usize::from(port.local.port())] = index.0 + 1;
        }
    }

    pub(super) fn remove(&mut self, index: PortIndex) -> Option<Port> {
        let port = self.ports.get_mut(index.0 as usize)?.take()?;
        let number = &mut self.numbers[usize::from(port.local.port())];
        if *number == index.0 + 1 {
            *number = 0;
        }
        Some(port)
    }

    /// The selected port that a datagram to `local` is for.
    pub(super) fn find(&self, local: SocketAddr) -> Option<(PortIndex, &Port)> {
        let index = PortIndex(self.numbers[usize::from(local.port())].checked_sub(1)?);
        let port = self.port(index)?;
        let ours = port.local.ip();
        (ours == local.ip() || ours.is_unspecified()).then_some((index, port))
    }

    pub(super) fn port(&self, index: PortIndex) -> Option<&Port> {
        self.ports.get(index.0 as usize)?.as_ref()
    }

    pub(super) fn port_mut(&mut self, index: PortIndex) -> Option<&mut Port> {
        self.ports.get_mut(index.0 as usize)?.as_mut()
    }

    /// One after the other, with each call the next one; `None` where a port was.
    pub(super) fn next(&mut self) -> Option<PortIndex> {
        self.next = if self.next + 1 < self.ports.len() { self.next + 1 } else { 0 };
        let index = PortIndex(self.next as u32);
        self.port(index).map(|_| index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().flatten()
    }
}
