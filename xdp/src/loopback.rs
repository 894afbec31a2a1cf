//! A network in memory, for tests: devices that reach each other by address, in order and without loss.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    Datagram, Device, DeviceCounters, Doorbell, Full, Handle, MAX_DATAGRAM_BYTES, Outgoing, Path, PortIndex,
};

/// The network that [`LoopbackDevice`]s share. A datagram to an address that nobody has vanishes.
#[derive(Clone, Debug, Default)]
pub struct LoopbackNetwork(Arc<Mutex<Network>>);

impl LoopbackNetwork {
    /// A network without devices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device; `queue` datagrams may wait in it in each direction.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn device(&self, queue: usize) -> io::Result<LoopbackDevice> {
        let doorbell = Doorbell::new()?;
        let counters = Arc::<DeviceCounters>::default();
        let blank = || Letter { to: PortIndex(0), from: NOWHERE, len: 0, buffer: Box::new(NO_BYTES) };
        let spare = |count| std::iter::repeat_with(blank).take(count).collect::<Vec<_>>();
        let mut network = self.lock();
        network.inboxes.push(Inbox {
            waiting: VecDeque::with_capacity(queue),
            spare: spare(queue),
            doorbell: doorbell.clone(),
            counters: Arc::clone(&counters),
        });
        Ok(LoopbackDevice {
            network: self.clone(),
            index: network.inboxes.len() - 1,
            doorbell,
            counters,
            ports: Vec::new(),
            queue: spare(queue),
            paths: Vec::with_capacity(queue),
            in_hand: blank(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Network {
    inboxes: Vec<Inbox>,
    owners: HashMap<SocketAddr, Owner>,
}

#[derive(Debug)]
struct Owner {
    inbox: usize,
    port: PortIndex,
    /// The only address that it takes datagrams from.
    connected: Option<SocketAddr>,
}

#[derive(Debug)]
struct Inbox {
    waiting: VecDeque<Letter>,
    spare: Vec<Letter>,
    doorbell: Doorbell,
    counters: Arc<DeviceCounters>,
}

#[derive(Debug)]
struct Letter {
    to: PortIndex,
    from: SocketAddr,
    len: usize,
    buffer: Box<[u8; MAX_DATAGRAM_BYTES]>,
}

/// A [`Device`] on a [`LoopbackNetwork`].
#[derive(Debug)]
pub struct LoopbackDevice {
    network: LoopbackNetwork,
    /// Its inbox in the network.
    index: usize,
    doorbell: Doorbell,
    counters: Arc<DeviceCounters>,
    ports: Vec<Option<SocketAddr>>,
    /// Buffers to send; the first of them, one per path, are in use.
    queue: Vec<Letter>,
    paths: Vec<Path>,
    /// The letter being read, swapped with a spare one.
    in_hand: Letter,
}

impl Device for LoopbackDevice {
    fn open(&mut self, mut local: SocketAddr) -> io::Result<PortIndex> {
        if local.ip().is_unspecified() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut network = self.network.lock();
        if local.port() == 0 {
            let free = |port: &u16| !network.owners.contains_key(&SocketAddr::new(local.ip(), *port));
            let port = (FIRST_EPHEMERAL..=u16::MAX).find(free).ok_or(io::ErrorKind::AddrInUse)?;
            local.set_port(port);
        }
        if network.owners.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let index = match self.ports.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.ports.push(None);
                self.ports.len() - 1
            }
        };
        self.ports[index] = Some(local);
        let port = PortIndex(index as u32);
        network.owners.insert(local, Owner { inbox: self.index, port, connected: None });
        Ok(port)
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        *self.ports.get(port.0 as usize)?
    }

    fn close(&mut self, port: PortIndex) {
        self.flush();
        let Some(local) = self.ports.get_mut(port.0 as usize).and_then(Option::take) else { return };
        let mut network = self.network.lock();
        network.owners.remove(&local);
        let Inbox { waiting, spare, .. } = &mut network.inboxes[self.index];
        for _ in 0..waiting.len() {
            match waiting.pop_front() {
                Some(letter) if letter.to == port => spare.push(letter),
                Some(letter) => waiting.push_back(letter),
                None => {}
            }
        }
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        let Some(local) = self.local_address(port) else { return };
        if let Some(owner) = self.network.lock().owners.get_mut(&local) {
            owner.connected = remote;
        }
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        for handled in 0..budget {
            let mut network = self.network.lock();
            let inbox = &mut network.inboxes[self.index];
            let Some(letter) = inbox.waiting.pop_front() else { return handled };
            inbox.spare.push(std::mem::replace(&mut self.in_hand, letter));
            drop(network);
            let Letter { to, from, len, buffer } = &mut self.in_hand;
            self.counters.received_datagrams.increment();
            self.counters.received_bytes.add(*len as u64);
            let received = *len;
            let Some(Outgoing { path, len }) =
                handle(Datagram { port: *to, remote: *from, payload: &mut buffer[..received] })
            else {
                continue;
            };
            if self.paths.len() == self.queue.len() {
                self.flush();
            }
            match self.queue.get_mut(self.paths.len()) {
                Some(letter) => {
                    letter.len = len.min(received);
                    std::mem::swap(&mut letter.buffer, &mut self.in_hand.buffer);
                    self.paths.push(path);
                }
                None => self.counters.transmit_full.increment(),
            }
        }
        budget
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        if self.paths.len() == self.queue.len() {
            self.flush();
        }
        let Some(letter) = self.queue.get_mut(self.paths.len()) else {
            self.counters.transmit_full.increment();
            return Err(Full);
        };
        let Some(outgoing) = write(&mut letter.buffer[..]) else { return Ok(false) };
        letter.len = outgoing.len.min(MAX_DATAGRAM_BYTES);
        self.paths.push(outgoing.path);
        Ok(true)
    }

    fn flush(&mut self) {
        if self.paths.is_empty() {
            return;
        }
        let mut network = self.network.lock();
        let Network { inboxes, owners } = &mut *network;
        for (path, letter) in self.paths.drain(..).zip(&self.queue) {
            let Some(Some(from)) = self.ports.get(path.port.0 as usize) else {
                self.counters.transmit_errors.increment();
                continue;
            };
            self.counters.transmitted_datagrams.increment();
            self.counters.transmitted_bytes.add(letter.len as u64);
            let Some(owner) = owners.get(&path.remote) else { continue };
            if owner.connected.is_some_and(|connected| connected != *from) {
                inboxes[owner.inbox].counters.receive_strangers.increment();
                continue;
            }
            let Inbox { waiting, spare, doorbell, counters } = &mut inboxes[owner.inbox];
            let Some(mut copy) = spare.pop() else {
                counters.receive_full.increment();
                continue;
            };
            (copy.to, copy.from, copy.len) = (owner.port, *from, letter.len);
            copy.buffer[..letter.len].copy_from_slice(&letter.buffer[..letter.len]);
            waiting.push_back(copy);
            doorbell.ring();
        }
    }

    fn wait(&mut self, timeout: Duration) {
        if !self.network.lock().inboxes[self.index].waiting.is_empty() {
            return;
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // An interrupted wait is a wait that ended.
        let _ = poll(&mut [PollFd::new(&self.doorbell, PollFlags::IN)], Some(&timeout));
        self.doorbell.hear();
    }

    fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    fn counters(&self) -> Arc<DeviceCounters> {
        Arc::clone(&self.counters)
    }

    fn name(&self) -> &'static str {
        "loopback"
    }
}

impl Drop for LoopbackDevice {
    fn drop(&mut self) {
        for port in 0..self.ports.len() as u32 {
            self.close(PortIndex(port));
        }
    }
}

/// The first port of those that the system chooses (RFC 6335 section 6).
const FIRST_EPHEMERAL: u16 = 49_152;

const NO_BYTES: [u8; MAX_DATAGRAM_BYTES] = [0; MAX_DATAGRAM_BYTES];

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
