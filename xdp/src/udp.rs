//! The kernel's UDP sockets: one per port, epoll for readiness, many datagrams per system call.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::port_socket::{PortSocket, is_asynchronous};
use crate::sys::mmsg::{self, RECEIVE_BATCH, Received, Sending, TRANSMIT_BATCH};
use crate::{
    Datagram, Device, DeviceCounters, Doorbell, Full, Handle, MAX_DATAGRAM_BYTES, Outgoing, PortIndex,
};

/// How a [`UdpDevice`] is made; all its memory is taken at once.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many ports may be open.
    pub ports: usize,
    /// Datagrams that may be queued before the device flushes by itself.
    pub transmit_queue: usize,
    /// The kernel's receive buffer per socket, in bytes: what a worker may be late by, and also what a flood
    /// of one port may cost. 64 KiB hold more than a second of audio.
    pub receive_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ports: 8192, transmit_queue: 1024, receive_buffer_bytes: 64 * 1024 }
    }
}

/// A [`Device`] of kernel UDP sockets.
#[derive(Debug)]
pub struct UdpDevice {
    epoll: OwnedFd,
    doorbell: Doorbell,
    counters: Arc<DeviceCounters>,
    options: Options,
    sockets: Vec<Option<Port>>,
    /// How often the kernel has been asked which sockets are ready.
    looks: u64,
    /// Sockets that were ready at the last look; those before `next_event` are done.
    events: Box<[u64]>,
    ready: usize,
    next_event: usize,
    receive_buffers: Box<[[u8; MAX_DATAGRAM_BYTES]]>,
    received: [Received; RECEIVE_BATCH],
    transmit_buffers: Box<[[u8; MAX_DATAGRAM_BYTES]]>,
    /// What is queued, by transmit buffer.
    queue: Vec<Outgoing>,
    /// Scratch: the queue's indexes sorted by socket.
    order: Vec<u32>,
}

#[derive(Debug)]
struct Port {
    socket: PortSocket,
    /// The look that last found something, if there may have been more than was taken.
    more_at: Option<u64>,
}

impl UdpDevice {
    /// Makes a device without ports.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new(options: &Options) -> io::Result<Self> {
        Self::counting(options, Arc::default())
    }

    /// Makes a device that counts for another one, of which it is a part.
    pub(crate) fn counting(options: &Options, counters: Arc<DeviceCounters>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let doorbell = Doorbell::new()?;
        epoll::add(&epoll, &doorbell, epoll::EventData::new_u64(DOORBELL), epoll::EventFlags::IN)?;
        let options = Options { transmit_queue: options.transmit_queue.max(1), ..*options };
        Ok(Self {
            epoll,
            doorbell,
            counters,
            options,
            sockets: Vec::with_capacity(options.ports),
            looks: 0,
            events: vec![0; EVENTS].into(),
            ready: 0,
            next_event: 0,
            receive_buffers: vec![[0; MAX_DATAGRAM_BYTES]; RECEIVE_BATCH].into(),
            received: [Received::default(); RECEIVE_BATCH],
            transmit_buffers: vec![[0; MAX_DATAGRAM_BYTES]; options.transmit_queue].into(),
            queue: Vec::with_capacity(options.transmit_queue),
            order: Vec::with_capacity(options.transmit_queue),
        })
    }

    fn socket(&self, port: PortIndex) -> Option<&PortSocket> {
        self.sockets.get(port.0 as usize)?.as_ref().map(|port| &port.socket)
    }

    /// Asks the kernel which sockets are ready; whether the doorbell is.
    fn look(&mut self, timeout: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        (self.ready, self.next_event) = (0, 0);
        self.looks += 1;
        let mut rung = false;
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        // An interrupted wait is a wait that ended.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&timeout)) else {
            return false;
        };
        for event in events {
            match event.data.u64() {
                DOORBELL => rung = true,
                port => {
                    self.events[self.ready] = port;
                    self.ready += 1;
                }
            }
        }
        rung
    }

    /// Sends the queued datagrams `order[from..to]`, all of one port.
    fn send_group(&self, order: &[u32]) {
        let Some(first) = order.first() else { return };
        let port = self.queue[*first as usize].path.port;
        let Some(socket) = self.socket(port) else {
            self.counters.transmit_errors.add(order.len() as u64);
            return;
        };
        let ipv6 = socket.local().is_ipv6();
        let mut rest = order;
        let mut refused = false;
        while !rest.is_empty() {
            let mut datagrams = rest.iter().take(TRANSMIT_BATCH).map(|&index| {
                let Outgoing { path, len } = self.queue[index as usize];
                Sending {
                    remote: socket.destination(path.remote),
                    payload: &self.transmit_buffers[index as usize][..len],
                }
            });
            let sent = match rest {
                [_] => datagrams
                    .next()
                    .map_or(Ok(0), |datagram| mmsg::transmit_one(socket.as_fd(), ipv6, datagram).map(|()| 1)),
                _ => mmsg::transmit_batch(socket.as_fd(), ipv6, datagrams),
            };
            match sent {
                Ok(sent) if sent > 0 => {
                    let (done, todo) = rest.split_at(sent.min(rest.len()));
                    let bytes = done.iter().map(|&index| self.queue[index as usize].len as u64).sum();
                    self.counters.transmitted_datagrams.add(done.len() as u64);
                    self.counters.transmitted_bytes.add(bytes);
                    rest = todo;
                    refused = false;
                }
                // The first failure may be an ICMP error about an earlier datagram; this one was not tried.
                Err(error) if !refused && is_asynchronous(&error) => refused = true,
                _ => {
                    self.counters.transmit_errors.increment();
                    rest = &rest[1..];
                    refused = false;
                }
            }
        }
    }
}

/// Readable when a socket has something to receive or the doorbell has rung.
impl AsFd for UdpDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Device for UdpDevice {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        let index = match self.sockets.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.sockets.len() < self.options.ports => self.sockets.len(),
            None => return Err(io::ErrorKind::QuotaExceeded.into()),
        };
        let socket = PortSocket::bind(local, self.options.receive_buffer_bytes)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
        let port = Some(Port { socket, more_at: None });
        match self.sockets.get_mut(index) {
            Some(free) => *free = port,
            None => self.sockets.push(port),
        }
        Ok(PortIndex(index as u32))
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.socket(port).map(PortSocket::local)
    }

    fn close(&mut self, port: PortIndex) {
        self.flush();
        if let Some(port) = self.sockets.get_mut(port.0 as usize) {
            // The kernel takes a closed socket out of the epoll set.
            *port = None;
        }
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        if let Some(Some(port)) = self.sockets.get_mut(port.0 as usize) {
            port.socket.connect(remote);
        }
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        if self.next_event == self.ready {
            // Only `wait` hears the doorbell: here, somebody's work may have been looked for already.
            self.look(Duration::ZERO);
        }
        // What is sent on is copied: a few nanoseconds beside a system call.
        let budget = budget.min(self.options.transmit_queue);
        if self.queue.len() + budget > self.options.transmit_queue {
            self.flush();
        }
        let mut handled = 0;
        while self.next_event < self.ready && handled < budget {
            let index = self.events[self.next_event];
            self.next_event += 1;
            // It may have been closed since.
            let Some(Some(port)) = self.sockets.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) else {
                continue;
            };
            let socket = &port.socket;
            // A media socket holds one datagram, and to look for a second costs a third of a call more. One that has
            // something at two looks in a row is late or fast.
            let batch = port.more_at.take().is_some_and(|look| look + 1 == self.looks);
            let limit = if batch { (budget - handled).min(RECEIVE_BATCH) } else { 1 };
            let buffers = &mut self.receive_buffers[..limit];
            let taken = if batch {
                mmsg::receive_batch(socket.as_fd(), buffers, &mut self.received)
            } else {
                mmsg::receive_one(socket.as_fd(), &mut buffers[0]).map(|received| {
                    self.received[0] = received;
                    1
                })
            };
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.counters.receive_errors.increment();
                    }
                    continue;
                }
            };
            port.more_at = (taken == limit).then_some(self.looks);
            let mut bytes = 0;
            for (received, buffer) in self.received.iter().zip(buffers).take(taken) {
                handled += 1;
                bytes += received.len as u64;
                if received.truncated {
                    self.counters.receive_truncated.increment();
                    continue;
                }
                let Some(remote) = received.remote else { continue };
                if !socket.hears(remote) {
                    self.counters.receive_strangers.increment();
                    continue;
                }
                let payload = &mut buffer[..received.len];
                let on = handle(Datagram { port: PortIndex(index as u32), remote, payload });
                if let Some(outgoing) = on {
                    let len = outgoing.len.min(received.len);
                    self.transmit_buffers[self.queue.len()][..len].copy_from_slice(&buffer[..len]);
                    self.queue.push(Outgoing { len, ..outgoing });
                }
            }
            self.counters.received_datagrams.add(taken as u64);
            self.counters.received_bytes.add(bytes);
        }
        handled
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        if self.queue.len() == self.options.transmit_queue {
            self.flush();
        }
        let Some(buffer) = self.transmit_buffers.get_mut(self.queue.len()) else {
            self.counters.transmit_full.increment();
            return Err(Full);
        };
        let Some(outgoing) = write(buffer) else { return Ok(false) };
        let len = outgoing.len.min(MAX_DATAGRAM_BYTES);
        self.queue.push(Outgoing { len, ..outgoing });
        Ok(true)
    }

    fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let mut order = std::mem::take(&mut self.order);
        order.extend(0..self.queue.len() as u32);
        // By socket, and within a socket in the order of queueing.
        order.sort_unstable_by_key(|&index| (self.queue[index as usize].path.port.0, index));
        let port = |index: &u32| self.queue[*index as usize].path.port;
        for group in order.chunk_by(|left, right| port(left) == port(right)) {
            self.send_group(group);
        }
        order.clear();
        self.order = order;
        self.queue.clear();
    }

    fn wait(&mut self, timeout: Duration) {
        if self.next_event < self.ready {
            return;
        }
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
        "udp"
    }
}

/// The doorbell's mark among the epoll events; no port has it.
const DOORBELL: u64 = u64::MAX;

/// Sockets taken from the kernel per look.
const EVENTS: usize = 256;
