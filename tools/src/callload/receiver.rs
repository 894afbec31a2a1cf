//! Sequence and timing of one received RTP stream (RFC 3550 A.1, A.3, A.8; RFC 4737 for reordering).

use super::{rtp::Packet, stats::Stats};

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first packet of a stream, or the first after a change of SSRC or a jump.
    Start { timestamp: i64 },
    /// A packet not seen before, with its timestamp extended to 64 bits.
    New { timestamp: i64 },
    /// Seen before.
    Duplicate,
}

/// Accounts for every packet of a call.
#[derive(Default)]
pub(super) struct Receiver {
    stream: Option<Stream>,
    jitter_ns: f64,
}

struct Stream {
    ssrc: u32,
    /// Lowest and highest extended sequence number.
    base: i64,
    highest: i64,
    unique: u64,
    /// The last [`WINDOW`] sequence numbers, one bit each.
    seen: [u64; WINDOW as usize / 64],
    timestamp: i64,
    previous: Option<Timing>,
}

#[derive(Clone, Copy)]
struct Timing {
    sequence_number: i64,
    timestamp: i64,
    arrival_ns: u64,
}

impl Receiver {
    /// `timed` is false for packets whose timestamp does not follow the clock (telephone events).
    pub(super) fn handle_packet(
        &mut self,
        arrival_ns: u64,
        packet: &Packet<'_>,
        timed: bool,
        stats: &mut Stats,
    ) -> Arrival {
        stats.counters.rtp_received += 1;
        let stream = match &mut self.stream {
            Some(stream) if stream.continues(packet) => stream,
            other => {
                if let Some(ended) = other.take() {
                    ended.account(stats);
                    stats.counters.rtp_restarts += 1;
                }
                let stream = other.insert(Stream::new(packet));
                stats.counters.rtp_received_unique += 1;
                if timed {
                    let sequence_number = stream.highest;
                    stream.previous =
                        Some(Timing { sequence_number, timestamp: stream.timestamp, arrival_ns });
                }
                return Arrival::Start { timestamp: stream.timestamp };
            }
        };
        let sequence_number = stream.extend(packet.sequence_number);
        if !stream.mark(sequence_number) {
            stats.counters.rtp_duplicate += 1;
            return Arrival::Duplicate;
        }
        stats.counters.rtp_received_unique += 1;
        let timestamp =
            stream.timestamp + i64::from(packet.timestamp.wrapping_sub(stream.timestamp as u32) as i32);
        if sequence_number < stream.highest {
            stats.counters.rtp_reordered += 1;
            stream.base = stream.base.min(sequence_number);
        } else {
            stream.highest = sequence_number;
            stream.timestamp = timestamp;
        }
        if timed {
            if let Some(previous) = stream.previous {
                let apart_ns = (timestamp - previous.timestamp) * NS_PER_SAMPLE;
                let deviation_ns = (arrival_ns as i64 - previous.arrival_ns as i64 - apart_ns).unsigned_abs();
                self.jitter_ns += (deviation_ns as f64 - self.jitter_ns) / 16.0;
                if sequence_number == previous.sequence_number + 1 {
                    stats.spacing.record_ns(deviation_ns);
                }
            }
            stream.previous = Some(Timing { sequence_number, timestamp, arrival_ns });
        }
        Arrival::New { timestamp }
    }

    /// RFC 3550 interarrival jitter; `None` before the second packet.
    pub(super) fn jitter_ns(&self) -> Option<u64> {
        self.stream.as_ref().filter(|stream| stream.unique > 1).map(|_| self.jitter_ns as u64)
    }

    pub(super) fn ssrc(&self) -> Option<u32> {
        self.stream.as_ref().map(|stream| stream.ssrc)
    }

    /// Adds the losses of the stream that was running, and forgets it.
    pub(super) fn finish(&mut self, stats: &mut Stats) {
        if let Some(stream) = self.stream.take() {
            stream.account(stats);
        }
        self.jitter_ns = 0.0;
    }
}

impl Stream {
    fn new(packet: &Packet<'_>) -> Self {
        let sequence_number = i64::from(packet.sequence_number);
        let mut stream = Self {
            ssrc: packet.ssrc,
            base: sequence_number,
            highest: sequence_number,
            unique: 0,
            seen: [0; WINDOW as usize / 64],
            timestamp: i64::from(packet.timestamp),
            previous: None,
        };
        stream.mark(sequence_number);
        stream
    }

    fn continues(&self, packet: &Packet<'_>) -> bool {
        let step = self.extend(packet.sequence_number) - self.highest;
        packet.ssrc == self.ssrc && (-WINDOW / 2..MAX_DROPOUT).contains(&step)
    }

    fn extend(&self, sequence_number: u16) -> i64 {
        self.highest + i64::from(sequence_number.wrapping_sub(self.highest as u16) as i16)
    }

    /// False when the number was already there.
    fn mark(&mut self, sequence_number: i64) -> bool {
        for passed in self.highest + 1..=sequence_number {
            let (word, bit) = slot(passed);
            self.seen[word] &= !bit;
        }
        let (word, bit) = slot(sequence_number);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        self.unique += u64::from(fresh);
        fresh
    }

    fn account(&self, stats: &mut Stats) {
        let expected = (self.highest - self.base + 1) as u64;
        stats.counters.rtp_lost_in_sequence += expected.saturating_sub(self.unique);
    }
}

fn slot(sequence_number: i64) -> (usize, u64) {
    let at = sequence_number.rem_euclid(WINDOW) as usize;
    (at / 64, 1 << (at % 64))
}

const WINDOW: i64 = 4_096;
/// RFC 3550 A.1.
const MAX_DROPOUT: i64 = 3_000;
const NS_PER_SAMPLE: i64 = 125_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence_number: u16, timestamp: u32) -> Packet<'static> {
        Packet { payload_type: 0, sequence_number, timestamp, ssrc: 1, payload: &[] }
    }

    fn feed(order: &[u16]) -> Stats {
        let (mut receiver, mut stats) = (Receiver::default(), Stats::new());
        for (i, &n) in order.iter().enumerate() {
            let timestamp = u32::from(n.wrapping_sub(order[0])).wrapping_mul(160).wrapping_sub(320);
            receiver.handle_packet(i as u64 * 20_000_000, &packet(n, timestamp), true, &mut stats);
        }
        receiver.finish(&mut stats);
        stats
    }

    #[test]
    fn loss_reordering_and_duplicates_are_told_apart_across_the_wrap() {
        let stats = feed(&[65_533, 65_534, 0, 65_535, 1, 1, 4, 5, 3]);
        assert_eq!(stats.counters.rtp_received, 9);
        assert_eq!(stats.counters.rtp_received_unique, 8);
        assert_eq!(stats.counters.rtp_duplicate, 1);
        assert_eq!(stats.counters.rtp_reordered, 2);
        assert_eq!(stats.counters.rtp_lost_in_sequence, 1);
        assert_eq!(stats.counters.rtp_restarts, 0);
    }

    #[test]
    fn a_jump_or_a_new_source_starts_again_without_inventing_loss() {
        let stats = feed(&[10, 11, 30_000, 30_001]);
        assert_eq!(stats.counters.rtp_restarts, 1);
        assert_eq!(stats.counters.rtp_lost_in_sequence, 0);
    }

    #[test]
    fn jitter_follows_rfc_3550_a8() {
        let (mut receiver, mut stats) = (Receiver::default(), Stats::new());
        let mut expected = 0.0;
        for n in 0..200u16 {
            let late_ns = if n % 2 == 0 { 0 } else { 4_000_000 };
            receiver.handle_packet(
                u64::from(n) * 20_000_000 + late_ns,
                &packet(n, u32::from(n) * 160),
                true,
                &mut stats,
            );
            if n > 0 {
                expected += (4_000_000.0 - expected) / 16.0;
            }
        }
        assert_eq!(receiver.jitter_ns(), Some(expected as u64));
        assert!((stats.spacing.ms(50.0) - 4.0).abs() < 0.01);
    }
}
