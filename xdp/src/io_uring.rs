//! Kernel UDP sockets through io_uring: one per port, all received from at once, few system calls.
//!
//! ```text
//! a port's socket -> one request that receives again and again -> a provided buffer -> handle, in place
//!   -> back to the kernel, or sent on from where it lies and back when that is done
//! transmit -> a buffer of our own -> queued request -> flush: one call for all -> completion -> free again
//! ```
//!
//! Needs Linux 6.1, and the permission: `kernel.io_uring_disabled` and seccomp profiles of containers may forbid it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::port_socket::{PortSocket, is_asynchronous};
use crate::sys::uring::{Buffer, Completion, GENERATION_MASK, Received, Sizes, Tag, Transmit, Uring};
use crate::{
    Datagram, Device, DeviceCounters, Doorbell, Full, Handle, MAX_DATAGRAM_BYTES, Outgoing, Path, PortIndex,
};

/// How a [`UringDevice`] is made; all its memory is taken at once.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many ports may be open.
    pub ports: usize,
    /// Datagrams of our own that may be queued before the device flushes by itself, at most 16,384.
    pub transmit_queue: usize,
    /// Datagrams that may have arrived and not been taken, rounded up to a power of two, at most 32,768. More wait
    /// in their sockets.
    pub receive_buffers: usize,
    /// The kernel's receive buffer per socket, in bytes.
    pub receive_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        let crate::udp::Options { ports, transmit_queue, receive_buffer_bytes } = Default::default();
        Self { ports, transmit_queue, receive_buffers: 4096, receive_buffer_bytes }
    }
}

/// Why there is no [`UringDevice`].
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// ENOSYS.
    #[error("this kernel has no io_uring, or a seccomp profile hides it")]
    Absent,
    /// EPERM, by the sysctl.
    #[error("io_uring is forbidden on this host: set kernel.io_uring_disabled=0")]
    Disabled,
    /// EPERM, by something else.
    #[error("io_uring is forbidden here: allow io_uring_setup in the container's seccomp profile")]
    Forbidden,
    /// EINVAL.
    #[error("this kernel's io_uring is too old: Linux 6.1 or newer is needed")]
    TooOld,
    /// Out of memory or descriptors.
    #[error("io_uring cannot be set up: {0}")]
    System(io::Error),
}

/// A [`Device`] of kernel UDP sockets and one io_uring. It belongs to the thread that first opens a port, receives,
/// flushes or waits; other threads may only make it.
#[derive(Debug)]
pub struct UringDevice {
    uring: Uring,
    doorbell: Doorbell,
    counters: Arc<DeviceCounters>,
    options: Options,
    ports: Vec<Port>,
    /// Datagrams that have come, oldest first.
    arrived: VecDeque<(Tag, Received)>,
    /// Ports whose request to receive has ended, or has not begun.
    unarmed: Vec<u32>,
    /// What each buffer that is being sent holds.
    sending: Box<[Sending]>,
    free: Vec<Transmit>,
    /// Datagrams that were not tried because of an error about an earlier one.
    again: Vec<Buffer>,
    /// How many flushes there have been.
    round: u64,
    listening: bool,
    rung: bool,
}

#[derive(Debug, Default)]
struct Port {
    socket: Option<PortSocket>,
    /// Counts the sockets that this index has had.
    generation: u32,
    /// Whether the kernel receives for this socket.
    armed: bool,
    /// The round in which it last sent.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    path: Path,
    generation: u32,
    len: usize,
    tried: bool,
}

impl UringDevice {
    /// Makes a device without ports.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn new(options: &Options) -> Result<Self, Unavailable> {
        let transmit = options.transmit_queue.clamp(1, 16_384);
        let received = options.receive_buffers.clamp(1, 32_768).next_power_of_two();
        let sizes = Sizes { requests: REQUESTS, received: received as u16, transmit: transmit as u16 };
        let mut uring = Uring::new(sizes).map_err(Unavailable::from)?;
        let nothing = Sending {
            path: Path { port: PortIndex(u32::MAX), remote: SocketAddr::from(([0, 0, 0, 0], 0)) },
            generation: 0,
            len: 0,
            tried: false,
        };
        Ok(Self {
            free: uring.transmit_buffers(),
            uring,
            doorbell: Doorbell::new().map_err(Unavailable::System)?,
            counters: Arc::default(),
            options: *options,
            ports: Vec::with_capacity(options.ports),
            arrived: VecDeque::with_capacity(received),
            unarmed: Vec::with_capacity(2 * options.ports),
            sending: vec![nothing; received + transmit].into(),
            again: Vec::with_capacity(received + transmit),
            round: 1,
            listening: false,
            rung: false,
        })
    }

    /// Takes what the kernel has done.
    fn reap(&mut self) {
        while let Some(completion) = self.uring.complete() {
            match completion {
                Completion::Datagram { tag, buffer, more } => {
                    if !more {
                        self.ended(tag);
                    }
                    if self.port(tag).is_some() {
                        self.arrived.push_back((tag, buffer));
                    } else {
                        self.uring.recycle(buffer);
                    }
                }
                Completion::Ended { tag, error } => {
                    // No buffer is free: the datagrams wait in the socket.
                    if ![libc::ECANCELED, libc::ENOBUFS].contains(&error) {
                        self.counters.receive_errors.increment();
                    }
                    self.ended(tag);
                }
                Completion::Sent { buffer, error } => self.sent(buffer, error),
                Completion::Readable => {
                    self.listening = false;
                    self.rung = true;
                }
            }
        }
    }

    fn ended(&mut self, tag: Tag) {
        if let Some(port) = self.port(tag) {
            port.armed = false;
            self.unarmed.push(tag.port);
        }
    }

    fn sent(&mut self, buffer: Buffer, error: Option<i32>) {
        let sending = self.sending[self.uring.slot(&buffer)];
        match error {
            None => {
                self.counters.transmitted_datagrams.increment();
                self.counters.transmitted_bytes.add(sending.len as u64);
            }
            Some(error) if !sending.tried && is_asynchronous(&io::Error::from_raw_os_error(error)) => {
                self.again.push(buffer);
                return;
            }
            Some(_) => self.counters.transmit_errors.increment(),
        }
        self.put_back(buffer);
    }

    fn put_back(&mut self, buffer: Buffer) {
        match buffer {
            Buffer::Received(buffer) => self.uring.recycle(buffer),
            Buffer::Transmit(buffer) => self.free.push(buffer),
        }
    }

    /// The port that a request was made for, if it is still open.
    fn port(&mut self, tag: Tag) -> Option<&mut Port> {
        let port = self.ports.get_mut(tag.port as usize)?;
        (port.socket.is_some() && port.generation == tag.generation).then_some(port)
    }

    /// Asks the kernel to receive for those ports for which it does not.
    fn arm(&mut self) {
        while let Some(&index) = self.unarmed.last() {
            if let Some(Port { socket: Some(socket), generation, armed, .. }) =
                self.ports.get_mut(index as usize)
                && !*armed
            {
                let tag = Tag { port: index, generation: *generation };
                if !self.uring.receive(socket.as_fd(), tag) {
                    // The queue is full; the rest has its turn after the next call.
                    return;
                }
                *armed = true;
            }
            self.unarmed.pop();
        }
    }

    /// Queues a buffer to be sent.
    fn queue(&mut self, buffer: Buffer, Outgoing { path, len }: Outgoing) {
        let slot = self.uring.slot(&buffer);
        let Some(port) = self.ports.get(path.port.0 as usize).filter(|port| port.socket.is_some()) else {
            self.counters.transmit_errors.increment();
            self.put_back(buffer);
            return;
        };
        let connected = port.socket.as_ref().is_some_and(PortSocket::is_connected);
        // One datagram of a connected port per call: if it is not tried because of an error about an earlier one, it
        // must go before those that follow.
        if connected && port.round == self.round {
            self.flush();
        }
        let port = &mut self.ports[path.port.0 as usize];
        port.round = self.round;
        self.sending[slot] = Sending { path, generation: port.generation, len, tried: false };
        self.push(buffer);
    }

    fn push(&mut self, buffer: Buffer) {
        let mut buffer = buffer;
        for _ in 0..2 {
            let Sending { path, generation, len, .. } = self.sending[self.uring.slot(&buffer)];
            let Some(Port { socket: Some(socket), .. }) =
                self.ports.get(path.port.0 as usize).filter(|port| port.generation == generation)
            else {
                break;
            };
            let (ipv6, to) = (socket.local().is_ipv6(), socket.destination(path.remote));
            match self.uring.send(socket.as_fd(), ipv6, to, buffer, len) {
                Ok(()) => return,
                Err(back) => buffer = back,
            }
            let _ = self.uring.submit();
        }
        self.counters.transmit_errors.increment();
        self.put_back(buffer);
    }

    /// Hands over what is queued and takes what is done.
    fn submit(&mut self) {
        // It fails when the kernel is out of memory for the moment: the requests stay queued for the next call.
        let _ = self.uring.submit();
        self.reap();
    }

    /// Lets the kernel end a port's request to receive.
    fn disarm(&mut self, tag: Tag) {
        while !self.uring.cancel(tag) {
            if self.uring.submit().is_err() {
                return;
            }
        }
        for _ in 0..LAST_LOOKS {
            self.submit();
            if !self.port(tag).is_some_and(|port| port.armed) {
                return;
            }
            let _ = self.uring.wait(Duration::from_millis(1));
        }
    }
}

impl Device for UringDevice {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        let index = match self.ports.iter().position(|port| port.socket.is_none()) {
            Some(index) => index,
            None if self.ports.len() < self.options.ports => self.ports.len(),
            None => return Err(io::ErrorKind::QuotaExceeded.into()),
        };
        let socket = PortSocket::bind(local, self.options.receive_buffer_bytes)?;
        if index == self.ports.len() {
            self.ports.push(Port::default());
        }
        let port = &mut self.ports[index];
        port.generation = (port.generation + 1) & GENERATION_MASK;
        port.socket = Some(socket);
        port.armed = false;
        self.unarmed.push(index as u32);
        self.arm();
        Ok(PortIndex(index as u32))
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.ports.get(port.0 as usize)?.socket.as_ref().map(PortSocket::local)
    }

    fn close(&mut self, port: PortIndex) {
        self.flush();
        let Some(entry) = self.ports.get(port.0 as usize).filter(|port| port.socket.is_some()) else {
            return;
        };
        let tag = Tag { port: port.0, generation: entry.generation };
        if entry.armed {
            // The request holds the socket: without its end the port would not be free.
            self.disarm(tag);
        }
        for _ in 0..self.arrived.len() {
            match self.arrived.pop_front() {
                Some((of, buffer)) if of == tag => self.uring.recycle(buffer),
                Some(other) => self.arrived.push_back(other),
                None => break,
            }
        }
        self.unarmed.retain(|&index| index != port.0);
        self.ports[port.0 as usize].socket = None;
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        // What is queued was meant for the connection as it was.
        self.flush();
        if let Some(Port { socket: Some(socket), .. }) = self.ports.get_mut(port.0 as usize) {
            socket.connect(remote);
        }
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        self.reap();
        // Each call serves a few sockets only, however many have something.
        for _ in 0..budget {
            if self.arrived.len() >= budget || !self.uring.has_work() {
                break;
            }
            self.submit();
        }
        let mut handled = 0;
        let mut bytes = 0;
        while handled < budget {
            let Some((tag, mut buffer)) = self.arrived.pop_front() else { break };
            handled += 1;
            let (head, payload) = self.uring.datagram(&mut buffer);
            bytes += head.len as u64;
            let socket = self.ports.get(tag.port as usize).and_then(|port| port.socket.as_ref());
            let on = match (head.remote, socket) {
                _ if head.truncated => {
                    self.counters.receive_truncated.increment();
                    None
                }
                (Some(remote), Some(socket)) if socket.hears(remote) => {
                    handle(Datagram { port: PortIndex(tag.port), remote, payload })
                }
                (Some(_), Some(_)) => {
                    self.counters.receive_strangers.increment();
                    None
                }
                _ => None,
            };
            match on {
                Some(outgoing) => {
                    let len = outgoing.len.min(head.len);
                    self.queue(Buffer::Received(buffer), Outgoing { len, ..outgoing });
                }
                None => self.uring.recycle(buffer),
            }
        }
        self.counters.received_datagrams.add(handled as u64);
        self.counters.received_bytes.add(bytes);
        self.arm();
        handled
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        if self.free.is_empty() {
            self.flush();
        }
        let Some(mut buffer) = self.free.pop() else {
            self.counters.transmit_full.increment();
            return Err(Full);
        };
        let Some(outgoing) = write(self.uring.transmit(&mut buffer)) else {
            self.free.push(buffer);
            return Ok(false);
        };
        let len = outgoing.len.min(MAX_DATAGRAM_BYTES);
        self.queue(Buffer::Transmit(buffer), Outgoing { len, ..outgoing });
        Ok(true)
    }

    fn flush(&mut self) {
        self.round += 1;
        if !self.uring.has_work() && self.again.is_empty() {
            return;
        }
        self.submit();
        if self.again.is_empty() {
            return;
        }
        let mut again = std::mem::take(&mut self.again);
        for buffer in again.drain(..) {
            let slot = self.uring.slot(&buffer);
            self.sending[slot].tried = true;
            self.push(buffer);
        }
        self.again = again;
        self.submit();
    }

    fn wait(&mut self, timeout: Duration) {
        self.reap();
        if !self.listening && !self.rung {
            self.listening = self.uring.listen(self.doorbell.as_fd());
        }
        self.arm();
        if self.arrived.is_empty() && !self.rung {
            // An interrupted wait is a wait that ended, and so is one that took its time.
            let _ = self.uring.wait(timeout);
            self.reap();
        }
        if std::mem::take(&mut self.rung) {
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
        "io_uring"
    }
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Self::Absent,
            Some(libc::EPERM | libc::EACCES) => {
                let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
                let disabled = sysctl.is_ok_and(|value| value.trim() != "0");
                if disabled { Self::Disabled } else { Self::Forbidden }
            }
            Some(libc::EINVAL) => Self::TooOld,
            _ => Self::System(error),
        }
    }
}

/// Requests that are handed over at once; more take a call more.
const REQUESTS: u32 = 1024;

/// How many milliseconds a port that is closed waits for the kernel to let go of it.
const LAST_LOOKS: usize = 100;
