//! What came back, packet by packet: no clock, no sockets.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::flow::Flow;
use super::packet::{Rtp, STAMP_BYTES, Stamp, fixed_part, is_rtcp};
use super::slots::Slots;
use crate::callload::g711::Law;

/// What came back of the packets that count, those behind the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Packets with a right stamp, each once.
    pub(super) unique: u64,
    /// Packets seen before.
    pub(super) duplicate: u64,
    /// Below an earlier index (RFC 4737), not a duplicate.
    pub(super) reordered: u64,
    /// Packets from the right place whose payload type, length or bytes are not the expected ones.
    pub(super) wrong: u64,
    /// Datagrams that belong to no flow, or came another way than their flow's.
    pub(super) stray: u64,
    /// RTCP, which is no error.
    pub(super) rtcp: u64,
    /// Packets that arrived before they were sent, or seconds later: a clock is not right.
    pub(super) untimed: u64,
    /// Of the wrong ones: those whose checksum of IP or UDP is. Kernel sockets do not see them.
    pub(super) bad_checksum: u64,
    /// Bytes of UDP payload of the unique ones.
    pub(super) bytes: u64,
}

impl Received {
    pub(super) fn json(&self) -> Value {
        json!({
            "unique": self.unique, "duplicate": self.duplicate, "reordered": self.reordered, "wrong": self.wrong,
            "stray": self.stray, "rtcp": self.rtcp, "untimed": self.untimed,
            "bad_checksum": self.bad_checksum, "bytes": self.bytes,
        })
    }
}

/// Checks everything that arrives.
pub(super) struct Checker {
    flows: Vec<Flow>,
    seen: Vec<Seen>,
    /// By the relay's address and ours: all flows that come this way have one of these laws.
    ways: HashMap<(SocketAddr, SocketAddr), u32>,
    /// The unstamped part of the payload, by law.
    fixed: [Vec<u8>; 2],
    payload_bytes: usize,
    /// First index that counts.
    warm: u32,
    /// The beginning of the first slot (CLOCK_MONOTONIC in ns).
    start_ns: u64,
    pub(super) received: Received,
    pub(super) slots: Slots,
}

/// The last 64 indexes of a flow.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Highest index plus one; 0 before the first packet.
    next: u32,
    /// Bit n is index `next - 1 - n`.
    window: u64,
}

/// What an index is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Next,
    Late,
    Again,
}

impl Seen {
    fn add(&mut self, index: u32) -> Order {
        if index >= self.next {
            let ahead = index - self.next + 1;
            self.window = self.window.checked_shl(ahead).unwrap_or(0) | 1;
            self.next = index + 1;
            return Order::Next;
        }
        // What is older than the window was reordered by over a second: nobody plays it.
        let bit = 1u64.checked_shl(self.next - 1 - index).unwrap_or(0);
        let again = bit == 0 || self.window & bit != 0;
        self.window |= bit;
        if again { Order::Again } else { Order::Late }
    }
}

impl Checker {
    /// Packets with an index below `warm` are checked and not counted.
    pub(super) fn new(flows: &[Flow], payload_bytes: usize, warm: u32, start_ns: u64, slots: Slots) -> Self {
        let ways = flows.iter().enumerate().map(|(id, flow)| ((flow.source, flow.sink), id as u32)).collect();
        Self {
            flows: flows.to_vec(),
            seen: vec![Seen::default(); flows.len()],
            ways,
            fixed: [Law::Pcmu, Law::Pcma].map(|law| fixed_part(law, payload_bytes)),
            payload_bytes,
            warm,
            start_ns,
            received: Received::default(),
            slots,
        }
    }

    /// One datagram, with who sent it to which of our addresses and when it arrived (CLOCK_MONOTONIC in ns).
    pub(super) fn handle(&mut self, source: SocketAddr, sink: SocketAddr, datagram: &[u8], arrival_ns: u64) {
        if is_rtcp(datagram) {
            self.received.rtcp += 1;
            return;
        }
        let Some(&way) = self.ways.get(&(source, sink)) else {
            self.received.stray += 1;
            return;
        };
        let law = self.flows[way as usize].law_received;
        let Some(rtp) = Rtp::parse(datagram) else {
            self.received.wrong += 1;
            return;
        };
        let Some(stamp) = Stamp::read(law, rtp.payload) else {
            self.received.wrong += 1;
            return;
        };
        if stamp.flow != way {
            // A flow that exists, on another's way.
            self.received.stray += 1;
            return;
        }
        let order = self.seen[way as usize].add(stamp.index);
        if stamp.index < self.warm {
            return;
        }
        let as_sent = rtp.payload_type == law.payload_type()
            && rtp.payload.len() == self.payload_bytes
            && rtp.payload[STAMP_BYTES..] == self.fixed[law as usize];
        if !as_sent {
            self.received.wrong += 1;
            return;
        }
        match order {
            Order::Again => {
                self.received.duplicate += 1;
                return;
            }
            Order::Late => self.received.reordered += 1,
            Order::Next => {}
        }
        self.received.unique += 1;
        self.received.bytes += datagram.len() as u64;
        let latency_ns = (arrival_ns as u32).wrapping_sub(stamp.sent);
        if latency_ns > LONGEST_NS {
            self.received.untimed += 1;
        } else {
            let latency_ns = u64::from(latency_ns);
            let sent_ns = arrival_ns.saturating_sub(latency_ns);
            self.slots.receive(sent_ns.saturating_sub(self.start_ns), latency_ns);
        }
    }

    /// A datagram whose checksums or lengths are not right.
    pub(super) fn handle_damaged(&mut self) {
        self.received.wrong += 1;
        self.received.bad_checksum += 1;
    }

    /// Flows of which nothing came back.
    pub(super) fn silent(&self) -> usize {
        self.seen.iter().filter(|seen| seen.next == 0).count()
    }
}

/// The send time is known modulo 4.3 s.
const LONGEST_NS: u32 = 3_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtpload::packet::{HEADER_BYTES, write_header};

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn checker() -> (Checker, Vec<Flow>) {
        let relay = [30_000, 30_002].map(address);
        let flows = Flow::pair([20_000, 20_002].map(address), relay, [Law::Pcmu, Law::Pcma]);
        (Checker::new(&flows, 160, 0, 500, Slots::new(22)), flows.to_vec())
    }

    fn packet(law: Law, flow: u32, index: u32) -> Vec<u8> {
        let stamp = Stamp { flow, index, sent: 1_000 };
        let mut packet = [vec![0; HEADER_BYTES + STAMP_BYTES], fixed_part(law, 160)].concat();
        write_header(packet.first_chunk_mut().unwrap(), law.payload_type(), stamp, 160);
        stamp.write(law, &mut packet[HEADER_BYTES..]);
        packet
    }

    #[test]
    fn every_kind_of_fault_has_its_count() {
        let (mut checker, flows) = checker();
        let (source, sink) = (flows[0].source, flows[0].sink);
        let mut handle = |packet: &[u8]| checker.handle(source, sink, packet, 51_000);
        for index in [0, 1, 3, 2, 3, 5] {
            handle(&packet(Law::Pcma, 0, index));
        }
        handle(&packet(Law::Pcmu, 0, 6));
        let mut damaged = packet(Law::Pcma, 0, 7);
        damaged[171] ^= 1;
        handle(&damaged);
        handle(&packet(Law::Pcma, 1, 8));
        handle(&packet(Law::Pcma, 0, 9)[..171]);
        handle(&[0x80, 200, 0, 1]);
        handle(&[0; 20]);
        checker.handle(sink, source, &packet(Law::Pcma, 0, 8), 51_000);
        let bytes = 5 * 172;
        let expected = Received {
            unique: 5,
            duplicate: 1,
            reordered: 1,
            wrong: 4,
            stray: 2,
            rtcp: 1,
            untimed: 0,
            bad_checksum: 0,
            bytes,
        };
        assert_eq!(checker.received, expected);
        // Only slots in which something was sent are looked at.
        checker.slots.send(0, 8);
        let account = checker.slots.account();
        assert_eq!((account.sent, account.received, account.latency.len()), (8, 5, 5));
        assert!((account.latency.us(50.0) - 50.0).abs() < 1.0);
        assert_eq!(checker.silent(), 1);
    }

    #[test]
    fn packets_of_the_warm_up_are_not_counted() {
        let (_, flows) = checker();
        let mut checker = Checker::new(&flows, 160, 2, 500, Slots::new(22));
        for index in 0..4 {
            checker.handle(flows[0].source, flows[0].sink, &packet(Law::Pcma, 0, index), 2_000);
        }
        assert_eq!(checker.received.unique, 2);
    }

    #[test]
    fn a_window_knows_the_last_64() {
        let mut seen = Seen::default();
        assert_eq!(seen.add(0), Order::Next);
        assert_eq!(seen.add(63), Order::Next);
        assert_eq!(seen.add(0), Order::Again);
        assert_eq!(seen.add(1), Order::Late);
        assert_eq!(seen.add(1), Order::Again);
        assert_eq!(seen.add(200), Order::Next);
        assert_eq!(seen.add(63), Order::Again, "too old to tell");
        assert_eq!(seen.add(199), Order::Late);
    }
}
