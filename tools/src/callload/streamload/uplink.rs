//! Finds the packets that a call sent in the audio that arrived at the backend, byte by byte.
//!
//! ```text
//!  sent:     [packet n][packet n+1]...        index of a sample in everything sent
//!  arrived:  ..[message][message]...          position of a byte in everything that arrived
//!
//!  alignment = position - index; a packet must be at index + alignment, else it is searched for
//!  added     = arrival of the message with its last byte - time the packet left
//!  total     = added + 20 ms, since the packet's first sample waited that long for its last
//! ```
//!
//! PCMU passes unchanged, so equality of 160 bytes is proof. Silence is everywhere and proves nothing: it is left out.

use std::collections::VecDeque;

use super::stats::StreamStats;
use crate::callload::marker::BLOCK;

pub(super) struct Uplink {
    sent: VecDeque<Sent>,
    /// The last [`KEPT`] bytes that arrived; the newest is at position `head - 1`.
    arrived: VecDeque<u8>,
    head: i64,
    /// Where each message ended and when it came.
    messages: VecDeque<(i64, u64)>,
    alignment: Option<i64>,
    last_message: Option<(u64, u64)>,
    /// Packets that left before this are not timed.
    settled_ns: u64,
}

struct Sent {
    index: i64,
    bytes: [u8; BLOCK],
    sent_ns: u64,
}

impl Uplink {
    pub(super) fn new(settled_ns: u64) -> Self {
        Self {
            sent: VecDeque::new(),
            arrived: VecDeque::new(),
            head: 0,
            messages: VecDeque::new(),
            alignment: None,
            last_message: None,
            settled_ns,
        }
    }

    /// A packet left.
    pub(super) fn handle_sent(&mut self, index: i64, payload: &[u8], sent_ns: u64, stats: &mut StreamStats) {
        let Ok(bytes) = <[u8; BLOCK]>::try_from(payload) else { return };
        let distinct = bytes.iter().fold([false; 256], |mut seen, &byte| {
            seen[usize::from(byte)] = true;
            seen
        });
        if distinct.iter().filter(|&&seen| seen).count() < MIN_DISTINCT {
            stats.uplink_silent += 1;
            return;
        }
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
            stats.uplink_missing += 1;
        }
        self.sent.push_back(Sent { index, bytes, sent_ns });
    }

    /// A `media` message came; `timestamp_ms` is what it says.
    pub(super) fn handle_media(
        &mut self,
        audio: &[u8],
        timestamp_ms: u64,
        arrival_ns: u64,
        stats: &mut StreamStats,
    ) {
        stats.uplink_messages += 1;
        if let Some((last_timestamp, last_arrival)) = self.last_message {
            let apart = timestamp_ms.wrapping_sub(last_timestamp);
            stats.uplink_timestamp_jumps += u64::from(apart != 20);
            if last_arrival >= self.settled_ns {
                let spacing_ns = arrival_ns.saturating_sub(last_arrival);
                stats.uplink_spacing.record_ns(spacing_ns.abs_diff(PACKET_NS));
            }
        }
        self.last_message = Some((timestamp_ms, arrival_ns));
        self.arrived.extend(audio);
        self.head += audio.len() as i64;
        let excess = self.arrived.len().saturating_sub(KEPT);
        self.arrived.drain(..excess);
        self.messages.push_back((self.head, arrival_ns));
        if self.messages.len() > MAX_MESSAGES {
            self.messages.pop_front();
        }
        self.settle(stats);
    }

    /// Judges packets, oldest first, as far as what arrived allows.
    fn settle(&mut self, stats: &mut StreamStats) {
        while let Some(packet) = self.sent.front() {
            let expected = self.alignment.map(|alignment| packet.index + alignment);
            let found = match expected {
                Some(position) if self.is_at(position, &packet.bytes) => Some(position),
                Some(position) if position + BLOCK as i64 > self.head => {
                    // Not there yet, unless something before it was left out; then it is in what came last.
                    self.find(self.head - 4 * BLOCK as i64, &packet.bytes)
                }
                Some(position) => self.find(position - KEPT as i64, &packet.bytes),
                None => self.find(0, &packet.bytes),
            };
            match (found, expected) {
                (Some(position), _) => self.measure(position, stats),
                (None, Some(position)) if self.head < position + GIVE_UP => return,
                (None, Some(_)) => {
                    stats.uplink_missing += 1;
                    self.sent.pop_front();
                }
                // The first packet sets the alignment; later ones must not wait for it for ever.
                (None, None) if self.sent.len() < MAX_UNALIGNED => return,
                (None, None) => {
                    stats.uplink_missing += 1;
                    self.sent.pop_front();
                }
            }
        }
    }

    fn measure(&mut self, position: i64, stats: &mut StreamStats) {
        let Some(packet) = self.sent.pop_front() else { return };
        let alignment = position - packet.index;
        if self.alignment.replace(alignment).is_some_and(|before| before != alignment) {
            stats.uplink_realignments += 1;
        }
        let end = position + BLOCK as i64;
        let Some(&(message_end, arrival_ns)) = self.messages.iter().find(|(until, _)| *until >= end) else {
            return;
        };
        stats.uplink_found += 1;
        stats.uplink_on_boundary += u64::from(message_end == end);
        stats.clock_errors += u64::from(arrival_ns < packet.sent_ns);
        if packet.sent_ns >= self.settled_ns {
            let added_ns = arrival_ns.saturating_sub(packet.sent_ns);
            stats.uplink_added.record_ns(added_ns);
            stats.uplink_total.record_ns(added_ns + PACKET_NS);
        }
    }

    fn is_at(&self, position: i64, bytes: &[u8]) -> bool {
        let start = self.head - self.arrived.len() as i64;
        position >= start
            && position + bytes.len() as i64 <= self.head
            && self.arrived.range((position - start) as usize..).zip(bytes).all(|(a, b)| a == b)
    }

    /// The first place from `from` on that holds `bytes`.
    fn find(&self, from: i64, bytes: &[u8]) -> Option<i64> {
        let start = self.head - self.arrived.len() as i64;
        (from.max(start)..=self.head - bytes.len() as i64).find(|&position| self.is_at(position, bytes))
    }
}

const PACKET_NS: u64 = 20_000_000;
/// Fewer different bytes than this are silence or something as monotonous.
const MIN_DISTINCT: usize = 24;
/// One second of audio.
const KEPT: usize = 8_000;
const MAX_MESSAGES: usize = 64;
/// A packet that is not there after so much more audio has come is missing: 400 ms.
const GIVE_UP: i64 = 3_200;
const MAX_SENT: usize = 200;
const MAX_UNALIGNED: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callload::marker::SplitMix;

    const MS: u64 = 1_000_000;

    /// As near as the histogram is.
    fn near(ms: f64, expected_ms: f64) -> bool {
        (ms - expected_ms).abs() <= expected_ms * 0.001
    }

    /// 100 packets of noise, one per 20 ms, each at the backend `delay_ms` after it left.
    fn packets() -> Vec<[u8; BLOCK]> {
        let mut random = SplitMix(3);
        (0..100).map(|_| std::array::from_fn(|_| random.next() as u8)).collect()
    }

    fn feed(uplink: &mut Uplink, stats: &mut StreamStats, audio: &[(u64, Vec<u8>)]) {
        let (packets, mut at) = (packets(), audio.iter().enumerate().peekable());
        for now_ms in 0..3_000u64 {
            if now_ms.is_multiple_of(20)
                && let Some(packet) = packets.get(now_ms as usize / 20)
            {
                uplink.handle_sent(now_ms as i64 * 8, packet, now_ms * MS, stats);
            }
            while let Some((n, (_, bytes))) = at.next_if(|(_, (when, _))| *when == now_ms) {
                uplink.handle_media(bytes, n as u64 * 20, now_ms * MS, stats);
            }
        }
    }

    #[test]
    fn whole_packets_take_what_they_took() {
        let (mut uplink, mut stats) = (Uplink::new(0), StreamStats::new());
        let mut audio: Vec<_> =
            packets().iter().enumerate().map(|(n, p)| (n as u64 * 20 + 3, p.to_vec())).collect();
        audio.insert(0, (0, vec![0xff; BLOCK]));
        feed(&mut uplink, &mut stats, &audio);
        assert_eq!((stats.uplink_found, stats.uplink_missing), (100, 0));
        assert_eq!((stats.uplink_on_boundary, stats.uplink_realignments), (100, 0));
        assert!(near(stats.uplink_added.ms(0.0), 3.0) && near(stats.uplink_added.ms(100.0), 3.0));
        assert!(near(stats.uplink_total.ms(50.0), 23.0));
        assert_eq!(stats.uplink_timestamp_jumps, 0);
    }

    #[test]
    fn messages_cut_elsewhere_count_from_the_last_sample() {
        // Message n holds the last 40 samples of packet n - 1 and the first 120 of packet n.
        let (mut uplink, mut stats) = (Uplink::new(0), StreamStats::new());
        let line = [vec![0xff; 40], packets().concat(), vec![0xff; 120]].concat();
        let audio: Vec<_> =
            line.chunks(BLOCK).enumerate().map(|(n, p)| (n as u64 * 20 + 1, p.to_vec())).collect();
        feed(&mut uplink, &mut stats, &audio);
        assert_eq!((stats.uplink_found, stats.uplink_on_boundary), (100, 0));
        assert!(near(stats.uplink_added.ms(50.0), 21.0));
    }

    #[test]
    fn a_packet_left_out_or_put_in_moves_the_alignment_and_only_damage_is_missing() {
        let (mut uplink, mut stats) = (Uplink::new(0), StreamStats::new());
        let mut sent = packets();
        sent[20][7] ^= 0x11; // damaged
        sent.remove(50);
        sent.insert(70, [0xff; BLOCK]);
        let audio: Vec<_> = sent.iter().enumerate().map(|(n, p)| (n as u64 * 20 + 25, p.to_vec())).collect();
        feed(&mut uplink, &mut stats, &audio);
        assert_eq!((stats.uplink_found, stats.uplink_missing), (98, 2));
        assert_eq!(stats.uplink_realignments, 2);
        assert!(near(stats.uplink_added.ms(1.0), 5.0) && near(stats.uplink_added.ms(99.0), 25.0));
    }

    #[test]
    fn silence_is_left_out() {
        let (mut uplink, mut stats) = (Uplink::new(0), StreamStats::new());
        uplink.handle_sent(0, &[0xff; BLOCK], 0, &mut stats);
        uplink.handle_media(&[0xff; BLOCK], 0, 5, &mut stats);
        assert_eq!((stats.uplink_silent, stats.uplink_found), (1, 0));
    }
}
