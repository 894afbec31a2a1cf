//! Datagrams that arrive on another worker's queue, and frames of workers that have none: bounded rings of bytes
//! between each two workers. What goes through them is copied; a full ring drops and counts.
//!
//! ```text
//! | bytes 2 | kind 1 | family 1 | local port 2 | remote port 2 | source MAC 6 | remote address 16 | payload or frame |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::umem::CHUNK_BYTES;
use crate::wire::MacAddress;
use crate::{DeviceCounters, Doorbell};

/// One worker's ends of the rings between workers.
#[derive(Debug)]
pub(super) struct Handover {
    /// By worker; none to itself.
    to: Vec<Option<Sender>>,
    from: Vec<Consumer<u8>>,
    /// Where the search for work begins.
    next: usize,
}

#[derive(Debug)]
struct Sender {
    ring: Producer<u8>,
    doorbell: Doorbell,
    /// Something is in the ring that the bell was not rung for.
    silent: bool,
}

/// What is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A datagram for a port of the worker.
    Datagram { port: u16, remote: SocketAddr, mac: MacAddress, traffic_class: u8 },
    /// A whole frame to transmit.
    Frame,
}

impl Handover {
    /// The ends of each worker, with rings of `bytes` between each two.
    pub(super) fn between(doorbells: &[Doorbell], bytes: usize) -> Vec<Self> {
        let none = || Self { to: Vec::new(), from: Vec::new(), next: 0 };
        let mut all: Vec<Self> = doorbells.iter().map(|_| none()).collect();
        for from in 0..doorbells.len() {
            for (to, doorbell) in doorbells.iter().enumerate() {
                if from == to {
                    all[from].to.push(None);
                    continue;
                }
                // Its memory is touched, and so taken, only as far as it is used.
                let (ring, consumer) = RingBuffer::new(bytes.max(2 * (HEADER_BYTES + CHUNK_BYTES)));
                all[from].to.push(Some(Sender { ring, doorbell: doorbell.clone(), silent: false }));
                all[to].from.push(consumer);
            }
        }
        all
    }

    /// Copies a record and its bytes to another worker; false, and counted, if there is no room.
    pub(super) fn send(
        &mut self,
        worker: usize,
        record: Record,
        bytes: &[u8],
        counters: &DeviceCounters,
    ) -> bool {
        let Some(Some(sender)) = self.to.get_mut(worker) else { return false };
        if sender.ring.slots() < HEADER_BYTES + bytes.len() {
            counters.handover_full.increment();
            return false;
        }
        let header = record.header(bytes.len());
        // There was room for both; the reader takes a record only when it is whole.
        let whole =
            sender.ring.push_entire_slice(&header).is_ok() && sender.ring.push_entire_slice(bytes).is_ok();
        debug_assert!(whole, "there was room");
        counters.handed_over.increment();
        sender.silent = true;
        true
    }

    /// Wakes the workers that something was sent to.
    pub(super) fn ring(&mut self) {
        for sender in self.to.iter_mut().flatten().filter(|sender| sender.silent) {
            sender.silent = false;
            sender.doorbell.ring();
        }
    }

    /// Whether somebody handed something over.
    pub(super) fn is_empty(&self) -> bool {
        self.from.iter().all(Consumer::is_empty)
    }

    /// Takes the next record, of each worker in turn; `buffer` gets its bytes. Returns their number, too.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Option<(Record, usize)> {
        for _ in 0..self.from.len() {
            let taken = take(&mut self.from[self.next], buffer);
            self.next = if self.next + 1 < self.from.len() { self.next + 1 } else { 0 };
            if taken.is_some() {
                return taken;
            }
        }
        None
    }
}

fn take(ring: &mut Consumer<u8>, buffer: &mut [u8]) -> Option<(Record, usize)> {
    let mut header = [0; HEADER_BYTES];
    {
        let chunk = ring.read_chunk(HEADER_BYTES).ok()?;
        let (first, second) = chunk.as_slices();
        let (start, rest) = header.split_at_mut(first.len());
        start.copy_from_slice(first);
        rest.copy_from_slice(second);
    }
    let (record, len) = Record::parse(&header)?;
    let chunk = ring.read_chunk(HEADER_BYTES + len).ok()?;
    let (first, second) = chunk.as_slices();
    let skipped = first.len().min(HEADER_BYTES);
    let (first, second) = (&first[skipped..], &second[HEADER_BYTES - skipped..]);
    // A record longer than the buffer is no record of ours; what fits of it is as good as none.
    let len = len.min(buffer.len());
    let split = first.len().min(len);
    buffer[..split].copy_from_slice(&first[..split]);
    buffer[split..len].copy_from_slice(&second[..len - split]);
    chunk.commit_all();
    Some((record, len))
}

impl Record {
    fn header(&self, len: usize) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..2].copy_from_slice(&(len as u16).to_ne_bytes());
        let Self::Datagram { port, remote, mac, traffic_class } = self else { return header };
        header[2] = if remote.is_ipv6() { 2 } else { 1 };
        header[3] = *traffic_class;
        header[4..6].copy_from_slice(&port.to_ne_bytes());
        header[6..8].copy_from_slice(&remote.port().to_ne_bytes());
        header[8..14].copy_from_slice(&mac.0);
        match remote.ip() {
            IpAddr::V4(ip) => header[14..18].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => header[14..30].copy_from_slice(&ip.octets()),
        }
        header
    }

    fn parse(header: &[u8; HEADER_BYTES]) -> Option<(Self, usize)> {
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let len = usize::from(word(0));
        if header[2] == 0 {
            return Some((Self::Frame, len));
        }
        let ip = if header[2] == 1 {
            IpAddr::V4(Ipv4Addr::from(*header[14..].first_chunk::<4>()?))
        } else {
            IpAddr::V6(Ipv6Addr::from(*header[14..].first_chunk::<16>()?))
        };
        let mac = MacAddress(*header[8..].first_chunk()?);
        let remote = SocketAddr::new(ip, word(6));
        Some((Self::Datagram { port: word(4), remote, mac, traffic_class: header[3] }, len))
    }
}

/// Where the bytes begin in a record.
const HEADER_BYTES: usize = 30;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let datagram = (any::<u16>(), any::<(IpAddr, u16)>(), any::<[u8; 6]>(), any::<u8>());
        let datagram = datagram.prop_map(|(port, (ip, remote), mac, traffic_class)| Record::Datagram {
            port,
            remote: SocketAddr::new(ip, remote),
            mac: MacAddress(mac),
            traffic_class,
        });
        prop_oneof![4 => datagram, 1 => Just(Record::Frame)]
    }

    proptest! {
        #[test]
        fn what_is_handed_over_comes_out_whole_and_in_order(
            records in prop::collection::vec((record(), prop::collection::vec(any::<u8>(), 0..1600)), 1..40),
        ) {
            let bells = [Doorbell::new().expect("descriptors"), Doorbell::new().expect("descriptors")];
            let mut all = Handover::between(&bells, 16 * 1024);
            let counters = Arc::<DeviceCounters>::default();
            let mut buffer = [0; CHUNK_BYTES];
            let mut waiting = std::collections::VecDeque::new();
            for (number, (record, bytes)) in records.iter().enumerate() {
                all[0].send(1, *record, bytes, &counters);
                waiting.push_back((*record, bytes.clone()));
                prop_assert!(!all[1].is_empty());
                if number % 3 == 2 {
                    for (record, bytes) in waiting.drain(..) {
                        let (taken, len) = all[1].take(&mut buffer).expect("handed over");
                        prop_assert_eq!(taken, record);
                        prop_assert_eq!(&buffer[..len], &bytes[..]);
                    }
                    prop_assert_eq!(all[1].take(&mut buffer), None);
                }
            }
            prop_assert_eq!(counters.handed_over.value(), records.len() as u64);
            prop_assert!(!bells[1].hear());
            all[0].ring();
            prop_assert!(bells[1].hear());
        }
    }

    #[test]
    fn each_worker_is_heard_in_turn() {
        let bells = [(); 3].map(|()| Doorbell::new().expect("descriptors"));
        let mut all = Handover::between(&bells, 16 * 1024);
        let counters = Arc::<DeviceCounters>::default();
        for _ in 0..3 {
            all[0].send(2, Record::Frame, &[0], &counters);
        }
        all[1].send(2, Record::Frame, &[1], &counters);
        let mut buffer = [9; CHUNK_BYTES];
        let heard = [(); 4].map(|()| all[2].take(&mut buffer).map(|_| buffer[0]));
        assert_eq!(heard, [Some(0), Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let bells = [Doorbell::new().expect("descriptors"), Doorbell::new().expect("descriptors")];
        let mut all = Handover::between(&bells, 0);
        let counters = Arc::<DeviceCounters>::default();
        for _ in 0..4 {
            let sent = all[0].send(1, Record::Frame, &[7; 1500], &counters);
            assert_eq!(sent, counters.handover_full.value() == 0);
        }
        assert_eq!((counters.handed_over.value(), counters.handover_full.value()), (2, 2));
        let mut buffer = [0; CHUNK_BYTES];
        for _ in 0..2 {
            assert_eq!(all[1].take(&mut buffer), Some((Record::Frame, 1500)));
        }
        assert_eq!(all[1].take(&mut buffer), None);
    }
}
