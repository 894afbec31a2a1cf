//! A worker's memory and sockets: frames in, frames out, and none lost between them.

use crate::DeviceCounters;
use crate::ring::Descriptor;
use crate::socket::{Kicked, Socket};
use crate::umem::{Frame, Umem, Way};

/// The sockets of the queues that a worker owns, on one memory. Half of the frames receive and half transmit, so that
/// neither starves the other. Everything leaves by the first queue: one system call, and order is kept.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) umem: Umem,
    sockets: Box<[Socket]>,
    /// Frames lent for receiving, by socket.
    lent_receive: Box<[usize]>,
    /// How many frames a socket may have.
    receive_limit: usize,
    /// Frames queued for transmission and not completed.
    lent_transmit: usize,
    transmit_limit: usize,
    /// Queued since the last flush.
    queued: usize,
    /// The kernel has not taken all that was flushed.
    backlog: bool,
    /// Frames in our hands.
    held: usize,
    /// The socket that is asked first next time.
    first: usize,
}

/// A received packet: its frame, and where in its chunk the packet is.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) frame: Frame,
    pub(super) offset: usize,
    pub(super) len: usize,
}

impl Rings {
    /// Gives each socket its share of the frames.
    pub(super) fn new(umem: Umem, sockets: Vec<Socket>, ring: u32) -> Self {
        let half = umem.frames() / 2;
        let mut rings = Self {
            lent_receive: vec![0; sockets.len()].into(),
            receive_limit: (half / sockets.len().max(1)).max(1),
            lent_transmit: 0,
            transmit_limit: half.min(ring as usize),
            umem,
            sockets: sockets.into(),
            queued: 0,
            backlog: false,
            held: 0,
            first: 0,
        };
        for socket in 0..rings.sockets.len() {
            rings.refill(socket);
        }
        rings
    }

    pub(super) fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// The socket to ask now; each is first in turn.
    pub(super) fn next_socket(&mut self) -> usize {
        self.first = if self.first + 1 < self.sockets.len() { self.first + 1 } else { 0 };
        self.first
    }

    /// How many packets wait on a socket, at most `limit`; the first of them are on their way to the cache.
    pub(super) fn waiting(&mut self, socket: usize, limit: usize) -> usize {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let receive = &mut self.sockets[socket].receive;
        let waiting = receive.waiting(limit).min(limit);
        for ahead in 0..PREFETCH.min(waiting) {
            if let Some(descriptor) = receive.peek(ahead) {
                self.umem.prefetch(descriptor.address);
            }
        }
        waiting as usize
    }

    /// Whether any socket has received something.
    pub(super) fn has_received(&mut self) -> bool {
        self.sockets.iter_mut().any(|socket| socket.receive.waiting(1) > 0)
    }

    /// Takes the next packet of a socket. `None` also for what the kernel should not say.
    #[inline]
    pub(super) fn pop(&mut self, socket: usize) -> Option<Packet> {
        let receive = &mut self.sockets[socket].receive;
        let descriptor = receive.pop()?;
        receive.prefetch(4 * PREFETCH);
        if let Some(ahead) = receive.peek(PREFETCH - 1) {
            self.umem.prefetch(ahead.address);
        }
        self.lent_receive[socket] -= 1;
        let (frame, offset) = self.umem.taken_back(descriptor.address, Way::Receive)?;
        self.held += 1;
        Some(Packet { frame, offset, len: descriptor.len as usize })
    }

    /// Whether a socket has no frame to receive into, because there was none free when it last wanted some.
    #[inline]
    pub(super) fn is_starved(&self, socket: usize) -> bool {
        self.lent_receive[socket] == 0
    }

    /// Ends a batch of [`Rings::pop`]: the kernel gets the slots back and fresh frames.
    pub(super) fn refill(&mut self, socket: usize) {
        let Self { sockets, umem, lent_receive, receive_limit, .. } = self;
        let (socket, lent) = (&mut sockets[socket], &mut lent_receive[socket]);
        socket.receive.release();
        while *lent < *receive_limit && socket.fill.room(1) > 0 {
            let Some(address) = umem.lend_free(Way::Receive) else { break };
            socket.fill.push(address);
            *lent += 1;
        }
        socket.fill.submit();
        socket.wake_receiver();
    }

    /// A frame to transmit from; `None` if as many as may be are under way, also after a flush.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Frame> {
        if self.lent_transmit >= self.transmit_limit {
            self.reap();
            if self.lent_transmit >= self.transmit_limit {
                self.kick();
            }
            if self.lent_transmit >= self.transmit_limit {
                return None;
            }
        }
        let frame = self.umem.take()?;
        self.held += 1;
        Some(frame)
    }

    /// Gives a frame back.
    #[inline]
    pub(super) fn give(&mut self, frame: Frame) {
        self.held -= 1;
        self.umem.give(frame);
    }

    /// Whether another frame may be queued; flushes if that helps.
    #[inline]
    pub(super) fn may_queue(&mut self) -> bool {
        if self.lent_transmit >= self.transmit_limit {
            self.reap();
            if self.lent_transmit >= self.transmit_limit {
                self.kick();
            }
        }
        self.lent_transmit < self.transmit_limit
    }

    /// Queues `len` bytes at `offset` of a frame; [`Rings::may_queue`] said so, or [`Rings::take`] gave it.
    #[inline]
    pub(super) fn queue(&mut self, frame: Frame, offset: usize, len: usize) {
        self.held -= 1;
        let address = self.umem.lend(frame, Way::Transmit) + offset as u64;
        let pushed = self.sockets[0].transmit.push(Descriptor { address, len: len as u32, options: 0 });
        debug_assert!(pushed, "the limit is no more than the ring");
        self.lent_transmit += 1;
        self.queued += 1;
    }

    /// Has the kernel take what was queued; false if the socket is not bound any more.
    pub(super) fn flush(&mut self) -> bool {
        if self.lent_transmit == 0 || (self.queued == 0 && !self.backlog) {
            return true;
        }
        let alive = self.kick();
        if self.lent_transmit > REAP_AT {
            self.reap();
        }
        alive
    }

    /// Whether the kernel has still to take something that was flushed.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog
    }

    fn kick(&mut self) -> bool {
        self.queued = 0;
        let kicked = self.sockets[0].kick();
        self.backlog = kicked == Kicked::Later;
        if kicked == Kicked::All || self.lent_transmit >= self.transmit_limit {
            self.reap();
        }
        kicked != Kicked::Gone
    }

    /// Takes back what has been sent.
    pub(super) fn reap(&mut self) {
        let Self { sockets, umem, lent_transmit, .. } = self;
        let completion = &mut sockets[0].completion;
        while let Some(address) = completion.pop() {
            if let Some((frame, _)) = umem.taken_back(address, Way::Transmit) {
                umem.give(frame);
                *lent_transmit -= 1;
            }
        }
        completion.release();
    }

    /// In debug builds: every frame is somewhere, and once.
    pub(super) fn check(&self) {
        self.umem.check(self.held, self.lent_receive.iter().sum(), self.lent_transmit);
    }

    /// Wakes the driver of a socket if it has asked to be; else no system call.
    #[inline]
    pub(super) fn wake_receiver(&self, socket: usize) {
        self.sockets[socket].wake_receiver();
    }

    /// Wakes the drivers that have asked to be, before we sleep.
    pub(super) fn wake_receivers(&self) {
        self.sockets.iter().for_each(Socket::wake_receiver);
    }

    /// Has the kernel poll the drivers' queues, where that was asked for and works.
    pub(super) fn poll_drivers(&self) {
        self.sockets.iter().filter(|socket| socket.busy_polls()).for_each(Socket::poll_driver);
    }

    /// Adds what the kernel has counted since `before`, which it brings up to date.
    pub(super) fn count(&self, before: &mut [u64; 5], counters: &DeviceCounters) {
        let mut now = [0; 5];
        for statistics in self.sockets.iter().filter_map(|socket| socket.statistics().ok()) {
            now[0] += statistics.rx_dropped;
            now[1] += statistics.rx_ring_full.unwrap_or(0);
            now[2] += statistics.rx_fill_ring_empty_descs.unwrap_or(0);
            now[3] += statistics.rx_invalid_descs;
            now[4] += statistics.tx_invalid_descs;
        }
        let fields = [
            &counters.ring_receive_dropped,
            &counters.ring_receive_full,
            &counters.ring_fill_empty,
            &counters.ring_receive_invalid,
            &counters.ring_transmit_invalid,
        ];
        for ((field, now), before) in fields.into_iter().zip(now).zip(before) {
            field.add(now.saturating_sub(*before));
            *before = now;
        }
    }
}

/// How many packets ahead a packet is fetched.
const PREFETCH: u32 = 4;

/// Completions are taken in batches, and here at the latest.
const REAP_AT: usize = 64;
