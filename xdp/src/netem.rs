//! A bad network: a device around a device that loses, repeats, delays and so reorders datagrams. What it
//! does depends on its seed only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{
    Datagram, Device, DeviceCounters, Doorbell, Full, Handle, MAX_DATAGRAM_BYTES, Outgoing, PortIndex,
};

/// What happens to the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The share that is lost, 0 to 1.
    pub loss: f64,
    /// The share of the others that comes twice, 0 to 1.
    pub duplication: f64,
    /// What every datagram is late by.
    pub delay: Duration,
    /// What each is late by beyond that, evenly between zero and this; it reorders.
    pub jitter: Duration,
}

/// The time that a [`Netem`] goes by.
#[derive(Clone, Debug)]
pub enum NetemClock {
    /// The monotonic clock since its start.
    Real(Instant),
    /// Nanoseconds that the test sets.
    Virtual(Arc<AtomicU64>),
}

impl NetemClock {
    /// The monotonic clock, starting now.
    #[must_use]
    pub fn real() -> Self {
        Self::Real(Instant::now())
    }

    fn now(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Virtual(nanos) => Duration::from_nanos(nanos.load(Ordering::Acquire)),
        }
    }
}

/// See the module's documentation.
pub struct Netem {
    inner: Box<dyn Device>,
    clock: NetemClock,
    arriving: Line<(PortIndex, SocketAddr)>,
    leaving: Line<crate::Path>,
}

impl Netem {
    /// Wraps a device. What is under way, at most 4096 datagrams in each direction, is kept in order of its
    /// arrival; more is lost.
    #[must_use]
    pub fn new(
        inner: Box<dyn Device>,
        arriving: Conditions,
        leaving: Conditions,
        seed: u64,
        clock: NetemClock,
    ) -> Self {
        Self {
            inner,
            clock,
            arriving: Line::new(arriving, seed),
            leaving: Line::new(leaving, seed ^ 0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Passes on what was to leave by now.
    fn release(&mut self) {
        let now = self.clock.now();
        while let Some(Flight { key: path, payload, .. }) = self.leaving.take_due(now) {
            let mut write = |buffer: &mut [u8]| {
                buffer.get_mut(..payload.len())?.copy_from_slice(&payload);
                Some(Outgoing { path, len: payload.len() })
            };
            // What the inner device refuses, it has counted.
            let _ = self.inner.transmit(&mut write);
        }
    }
}

impl Device for Netem {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        self.inner.open(local)
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.inner.local_address(port)
    }

    fn close(&mut self, port: PortIndex) {
        self.flush();
        self.arriving.under_way.retain(|Reverse(flight)| flight.key.0 != port);
        self.leaving.under_way.retain(|Reverse(flight)| flight.key.port != port);
        self.inner.close(port);
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        self.inner.connect(port, remote);
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        let now = self.clock.now();
        let arriving = &mut self.arriving;
        self.inner.receive(budget, &mut |datagram| {
            arriving.send(now, (datagram.port, datagram.remote), datagram.payload);
            None
        });
        for handled in 0..budget {
            let Some(mut flight) = arriving.take_due(now) else { return handled };
            let (port, remote) = flight.key;
            if let Some(Outgoing { path, len }) =
                handle(Datagram { port, remote, payload: &mut flight.payload })
            {
                self.leaving.send(now, path, &flight.payload[..len.min(flight.payload.len())]);
            }
        }
        budget
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let Some(Outgoing { path, len }) = write(&mut buffer) else { return Ok(false) };
        self.leaving.send(self.clock.now(), path, &buffer[..len.min(MAX_DATAGRAM_BYTES)]);
        Ok(true)
    }

    fn flush(&mut self) {
        self.release();
        self.inner.flush();
    }

    fn wait(&mut self, timeout: Duration) {
        self.flush();
        let now = self.clock.now();
        let next = [self.arriving.next_due(), self.leaving.next_due()].into_iter().flatten().min();
        let until_next = next.map_or(timeout, |due| due.saturating_sub(now));
        if !until_next.is_zero() {
            self.inner.wait(timeout.min(until_next));
            self.flush();
        }
    }

    fn doorbell(&self) -> Doorbell {
        self.inner.doorbell()
    }

    fn counters(&self) -> Arc<DeviceCounters> {
        self.inner.counters()
    }

    fn name(&self) -> &'static str {
        "netem"
    }
}

/// One direction.
struct Line<K> {
    conditions: Conditions,
    random: u64,
    sent: u64,
    under_way: BinaryHeap<Reverse<Flight<K>>>,
}

/// A datagram on its way; the first to arrive is the least.
struct Flight<K> {
    due: Duration,
    /// Those due at the same time stay in order.
    number: u64,
    key: K,
    payload: Vec<u8>,
}

impl<K: Copy> Line<K> {
    fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, random: seed, sent: 0, under_way: BinaryHeap::new() }
    }

    fn send(&mut self, now: Duration, key: K, payload: &[u8]) {
        // As many draws for each datagram, so that one condition does not change what another does.
        let (lost, twice) = (self.draw(), self.draw());
        let copies = [self.draw(), self.draw()];
        if lost < self.conditions.loss {
            return;
        }
        let count = if twice < self.conditions.duplication { 2 } else { 1 };
        for late in &copies[..count] {
            if self.under_way.len() < LINE {
                let due = now + self.conditions.delay + self.conditions.jitter.mul_f64(*late);
                self.sent += 1;
                let flight = Flight { due, number: self.sent, key, payload: payload.to_vec() };
                self.under_way.push(Reverse(flight));
            }
        }
    }

    fn take_due(&mut self, now: Duration) -> Option<Flight<K>> {
        self.next_due().filter(|due| *due <= now)?;
        self.under_way.pop().map(|Reverse(flight)| flight)
    }

    fn next_due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(flight)| flight.due)
    }

    /// A number from 0 to below 1 (SplitMix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl<K> PartialEq for Flight<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K> Eq for Flight<K> {}

impl<K> PartialOrd for Flight<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Flight<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// Datagrams under way in one direction at most.
const LINE: usize = 4096;
