//! What the two programs and user space share: maps, and where what lies in them and in a frame.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context as _;
use xdp::bpf::SharedArray;

use crate::callload::g711::Law;
use crate::rtpload::flow::Flow;
use crate::rtpload::histogram::{BUCKETS, Histogram, middle};
use crate::rtpload::link::{PROTOCOL_UDP, addresses, fold, ip_start, ports, sum, v4};
use crate::rtpload::packet::{
    FLOW_FACTOR, STAMP_BYTES, first_sequence_number, first_timestamp, fixed_part, letters, spread, ssrc,
};
use crate::rtpload::slots::{self, Slot, Slots};

/// Where things are in a frame: Ethernet, IPv4 without options, UDP, RTP, payload.
pub(super) mod frame {
    pub(in super::super) const ETHERTYPE: i16 = 12;
    pub(in super::super) const IP: i16 = 14;
    pub(in super::super) const IP_FRAGMENT: i16 = 20;
    pub(in super::super) const IP_PROTOCOL: i16 = 23;
    pub(in super::super) const IP_CHECKSUM: i16 = 24;
    pub(in super::super) const IP_ADDRESSES: i16 = 26;
    pub(in super::super) const PORTS: i16 = 34;
    pub(in super::super) const REMOTE_PORT: i16 = 36;
    pub(in super::super) const UDP_LENGTH: i16 = 38;
    pub(in super::super) const UDP_CHECKSUM: i16 = 40;
    pub(in super::super) const RTP: i16 = 42;
    pub(in super::super) const TIMESTAMP: i16 = 46;
    pub(in super::super) const SSRC: i16 = 50;
    pub(in super::super) const PAYLOAD: i16 = 54;
}

/// One flow: 16 words, two cache lines. Words are in the order of memory; what is called ready is as it lies in a frame.
pub(super) mod entry {
    pub(in super::super) const WORDS: usize = 16;
    /// Sent: both addresses, ready.
    pub(in super::super) const ADDRESSES: i16 = 0;
    /// Sent: both ports, ready; 4 bytes.
    pub(in super::super) const PORTS: i16 = 8;
    /// Sent: the sum of everything in the UDP checksum that never changes; 4 bytes.
    pub(in super::super) const SUM: i16 = 12;
    /// Sent: the first 4 bytes of RTP without the sequence number, as a number.
    pub(in super::super) const RTP: i16 = 16;
    pub(in super::super) const SEQUENCE: i16 = 20;
    pub(in super::super) const TIMESTAMP: i16 = 24;
    /// Ready.
    pub(in super::super) const SSRC: i16 = 28;
    /// Sent: the letter of the law, eight times.
    pub(in super::super) const LETTERS: i16 = 32;
    /// The stamp's flow, ready.
    pub(in super::super) const STAMP: i16 = 40;
    /// The flow's part of the stamp's check; 4 bytes.
    pub(in super::super) const CHECK: i16 = 48;
    /// The IP header's checksum, ready; 2 bytes.
    pub(in super::super) const IP_CHECKSUM: i16 = 52;
    /// Expected: both addresses, ready.
    pub(in super::super) const EXPECTED_ADDRESSES: i16 = 64;
    /// Expected: both ports, ready; 4 bytes.
    pub(in super::super) const EXPECTED_PORTS: i16 = 72;
    /// Expected payload type; 4 bytes.
    pub(in super::super) const EXPECTED_TYPE: i16 = 76;
    /// Highest index plus one.
    pub(in super::super) const NEXT: i16 = 80;
    /// Bit n is index `next - 1 - n`.
    pub(in super::super) const WINDOW: i16 = 88;
}

/// The generator's state: one entry of words.
pub(super) mod control {
    pub(in super::super) const WORDS: usize = 24;
    /// Packets sent.
    pub(in super::super) const NUMBER: usize = 0;
    /// Packets to send.
    pub(in super::super) const TOTAL: usize = 1;
    pub(in super::super) const FLOW: usize = 2;
    pub(in super::super) const FLOWS: usize = 3;
    pub(in super::super) const INDEX: usize = 4;
    /// When the next packet is due, in ns shifted by [`super::FRACTION_BITS`].
    pub(in super::super) const DUE: usize = 5;
    /// Time between packets, in the same unit.
    pub(in super::super) const STEP: usize = 6;
    /// First index that counts.
    pub(in super::super) const WARM: usize = 7;
    /// When to give up, in ns.
    pub(in super::super) const LAST: usize = 8;
    /// When the first packet is due, in ns; slots begin here.
    pub(in super::super) const START: usize = 9;
    /// A slot is two to the power of this long, in ns.
    pub(in super::super) const SLOT_BITS: usize = 10;
    /// So many ns the schedule of what counts was moved on by, because the generator was late.
    pub(in super::super) const MOVED: usize = 11;
    /// The most packets within [`super::BURST_NS`]; when the current ones began, and how many they are.
    pub(in super::super) const BURST_MOST: usize = 12;
    pub(in super::super) const BURST_BEGUN: usize = 13;
    pub(in super::super) const BURST: usize = 14;
    /// The next packet leaves no earlier, whatever is due; in the unit of [`DUE`].
    pub(in super::super) const SOONEST: usize = 15;
    /// The least time between packets, for who catches up; in the same unit.
    pub(in super::super) const LEAST_STEP: usize = 16;
    /// Where the generator runs, and the last sign of life from there, in ns; 0 before the first.
    pub(in super::super) const CORE: usize = 17;
    pub(in super::super) const SIGN: usize = 18;
}

/// A slot: a few words and a histogram of latency.
pub(super) mod slot {
    use crate::rtpload::histogram::BUCKETS;

    pub(in super::super) const WORDS: usize = 8 + BUCKETS;
    pub(in super::super) const SENT: i16 = 0;
    pub(in super::super) const RECEIVED: i16 = 8;
    /// The longest hold-up that ended here, in ns, and all of them.
    pub(in super::super) const HELD: i16 = 16;
    pub(in super::super) const HELD_TOTAL: i16 = 24;
    pub(in super::super) const LATENCIES: i16 = 64;
}

/// What the receiver counts: one entry of words.
pub(super) mod counts {
    pub(in super::super) const WORDS: usize = 16;
    pub(in super::super) const UNIQUE: usize = 0;
    pub(in super::super) const DUPLICATE: usize = 1;
    pub(in super::super) const REORDERED: usize = 2;
    pub(in super::super) const WRONG: usize = 3;
    pub(in super::super) const STRAY: usize = 4;
    pub(in super::super) const RTCP: usize = 5;
    pub(in super::super) const UNTIMED: usize = 6;
    pub(in super::super) const BAD_CHECKSUM: usize = 7;
}

/// All maps.
pub(super) struct Maps {
    pub(super) flows: SharedArray<{ entry::WORDS }>,
    pub(super) control: SharedArray<{ control::WORDS }>,
    pub(super) counts: SharedArray<{ counts::WORDS }>,
    pub(super) lateness: SharedArray<BUCKETS>,
    pub(super) slots: SharedArray<{ slot::WORDS }>,
}

impl Maps {
    pub(super) fn new(flows: &[Flow], payload_bytes: usize) -> anyhow::Result<Self> {
        let maps = Self {
            flows: SharedArray::new("rtpload_flows", flows.len() as u32)?,
            control: SharedArray::new("rtpload_control", 1)?,
            counts: SharedArray::new("rtpload_counts", 1)?,
            lateness: SharedArray::new("rtpload_lateness", 1)?,
            slots: SharedArray::new("rtpload_slots", slots::MOST as u32)?,
        };
        for (id, flow) in flows.iter().enumerate() {
            let words = words_of(flow, id as u32, payload_bytes)?;
            let entry = maps.flows.entry(id as u32).context("the map has as many entries as flows")?;
            entry.iter().zip(words).for_each(|(to, word)| to.store(word, Relaxed));
        }
        Ok(maps)
    }

    /// Forgets what was received.
    pub(super) fn clear(&self) {
        for map in [self.counts.words(), self.lateness.words(), self.slots.words()] {
            map.iter().for_each(|word| word.store(0, Relaxed));
        }
        for entry in self.flows.words().chunks_exact(entry::WORDS) {
            entry[entry::NEXT as usize / 8].store(0, Relaxed);
            entry[entry::WINDOW as usize / 8].store(0, Relaxed);
        }
    }

    /// How many of the first flows have received nothing.
    pub(super) fn silent(&self, flows: u32) -> usize {
        let entries = self.flows.words().chunks_exact(entry::WORDS).take(flows as usize);
        entries.filter(|entry| entry[entry::NEXT as usize / 8].load(Relaxed) == 0).count()
    }

    pub(super) fn control(&self, word: usize) -> u64 {
        self.control.words()[word].load(Relaxed)
    }

    pub(super) fn set_control(&self, word: usize, value: u64) {
        self.control.words()[word].store(value, Relaxed);
    }

    /// What was counted of the slots, each 2^`bits` ns long.
    pub(super) fn slots(&self, bits: u32) -> Slots {
        let slots = self.slots.words().chunks_exact(slot::WORDS).map(|words| {
            let word = |at: i16| words[at as usize / 8].load(Relaxed);
            let received = word(slot::RECEIVED);
            let latencies = &words[slot::LATENCIES as usize / 8..];
            let latencies = if received == 0 { &[] } else { latencies };
            Slot {
                sent: word(slot::SENT),
                received,
                held_ns: word(slot::HELD),
                held_total_ns: word(slot::HELD_TOTAL),
                latencies: latencies.iter().map(|count| count.load(Relaxed)).collect(),
            }
        });
        Slots::of(bits, slots.collect())
    }

    pub(super) fn count(&self, word: usize) -> u64 {
        self.counts.words()[word].load(Relaxed)
    }
}

/// Reads a histogram of the programs: the middle of each bucket, which is 3 % wide.
pub(super) fn histogram(map: &SharedArray<BUCKETS>) -> Histogram {
    let mut histogram = Histogram::new();
    for (bucket, count) in map.words().iter().enumerate() {
        let count = count.load(Relaxed);
        if count > 0 {
            histogram.record_n(middle(bucket as u64), count);
        }
    }
    histogram
}

fn words_of(flow: &Flow, id: u32, payload_bytes: usize) -> anyhow::Result<[u64; entry::WORDS]> {
    let mut bytes = [0; entry::WORDS * 8];
    let mut put = |at: i16, from: &[u8]| bytes[at as usize..][..from.len()].copy_from_slice(from);
    let (law, expected) = (flow.law_sent, flow.law_received);
    let (local, relay, source, sink) = (v4(flow.local)?, v4(flow.relay)?, v4(flow.source)?, v4(flow.sink)?);
    let rtp = 0x8000_0000 | u32::from(law.payload_type()) << 16;
    let stamp = (spread(id) ^ letters(law)).to_be_bytes();
    let ready_ssrc = ssrc(id).to_be_bytes();
    put(entry::ADDRESSES, &addresses(local, relay));
    put(entry::PORTS, &ports(local, relay));
    put(entry::RTP, &rtp.to_ne_bytes());
    put(entry::SEQUENCE, &u32::from(first_sequence_number(id)).to_ne_bytes());
    put(entry::TIMESTAMP, &first_timestamp(id).to_ne_bytes());
    put(entry::SSRC, &ready_ssrc);
    put(entry::LETTERS, &letters(law).to_ne_bytes());
    put(entry::STAMP, &stamp);
    put(entry::CHECK, &id.wrapping_mul(FLOW_FACTOR).to_ne_bytes());
    let udp_bytes = udp_bytes(payload_bytes).to_be_bytes();
    let fixed = fixed_part(law, payload_bytes);
    let parts: [&[u8]; 8] = [
        &addresses(local, relay),
        &[0, PROTOCOL_UDP],
        &udp_bytes,
        &ports(local, relay),
        &udp_bytes,
        &ready_ssrc,
        &stamp,
        &fixed,
    ];
    put(entry::SUM, &(parts.into_iter().map(sum).sum::<u32>()).to_ne_bytes());
    let header = sum(&ip_start(12 + payload_bytes)) + sum(&addresses(local, relay));
    put(entry::IP_CHECKSUM, &(!fold(header)).to_ne_bytes());
    put(entry::EXPECTED_ADDRESSES, &addresses(source, sink));
    put(entry::EXPECTED_PORTS, &ports(source, sink));
    put(entry::EXPECTED_TYPE, &u32::from(expected.payload_type()).to_ne_bytes());
    let mut words = [0; entry::WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(words)
}

/// Bytes of the UDP header and what follows it.
pub(super) fn udp_bytes(payload_bytes: usize) -> u16 {
    (8 + 12 + payload_bytes) as u16
}

/// Bytes of a frame.
pub(super) fn frame_bytes(payload_bytes: usize) -> usize {
    frame::PAYLOAD as usize + payload_bytes
}

/// The unstamped part as digits, by words as they lie in memory.
pub(super) fn fixed_digits(payload_bytes: usize) -> Vec<u64> {
    let fixed = fixed_part(Law::Pcmu, payload_bytes.max(STAMP_BYTES));
    let words = fixed.as_chunks().0.iter();
    words.map(|bytes| u64::from_ne_bytes(*bytes) ^ letters(Law::Pcmu)).collect()
}

pub(super) const FRACTION_BITS: u32 = 12;
/// A generator that is later than this goes on at its rate; what is less, which is what the receiver takes of their core, it catches up.
pub(super) const LATE_NS: u64 = 500_000;
/// Within so many ns packets are counted for the largest burst.
pub(super) const BURST_NS: u64 = 100_000;
