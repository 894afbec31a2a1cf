//! What a receiver knows about one source: RFC 3550 appendices A.1 (sequence), A.3 (loss), A.8 (jitter).

use super::rtcp::ReportBlock;
use super::sequence::{Sequence, SequenceNumber, SequenceTracker};
use super::{CLOCK_RATE_HZ, Header, TICK_NANOS};
use crate::time::{Duration, Instant};

/// The state of the source that is being heard.
#[derive(Clone, Copy, Debug)]
pub struct Reception {
    ssrc: u32,
    tracker: SequenceTracker,
    transit: Option<u32>,
    /// Sixteenths of a timestamp unit (appendix A.8).
    jitter_x16: u32,
    last_sender_report: Option<(u32, Instant)>,
}

impl Reception {
    /// A source believed from this packet on.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self {
            ssrc: header.ssrc,
            tracker: SequenceTracker::believed(header.sequence_number),
            transit: None,
            jitter_x16: 0,
            last_sender_report: None,
        }
    }

    /// Places a sequence number.
    pub fn update(&mut self, number: SequenceNumber) -> Sequence {
        self.tracker.update(number)
    }

    /// Takes the arrival of a packet whose timestamp tells its sampling instant (not a telephone-event).
    pub fn measure_jitter(&mut self, now: Instant, timestamp: u32) {
        let transit = ((now.as_nanos() / TICK_NANOS) as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let distance = (transit.wrapping_sub(before) as i32).unsigned_abs();
            // A timestamp that jumps is a new timeline, not jitter.
            if distance < CLOCK_RATE_HZ {
                self.jitter_x16 = self.jitter_x16 + distance - ((self.jitter_x16 + 8) >> 4);
            }
        }
    }

    /// Remembers a sender report for LSR and DLSR (RFC 3550 section 6.4.1).
    pub fn handle_sender_report(&mut self, now: Instant, middle_of_ntp: u32) {
        self.last_sender_report = Some((middle_of_ntp, now));
    }

    /// The report block for the next report; begins a new interval for the fraction lost.
    pub fn take_report(&mut self, now: Instant) -> ReportBlock {
        let (last_sender_report, delay_since_last_sender_report) = match self.last_sender_report {
            Some((middle, at)) => (middle, to_65536ths(now - at)),
            None => (0, 0),
        };
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: self.tracker.take_fraction_lost(),
            cumulative_lost: self.tracker.lost().clamp(-0x80_0000, 0x7F_FFFF) as i32,
            extended_highest: self.tracker.extended_highest(),
            jitter: self.jitter_x16 >> 4,
            last_sender_report,
            delay_since_last_sender_report,
        }
    }

    /// The extended number of the highest packet so far.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.tracker.highest()
    }

    /// The source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets lost so far, negative with many duplicates.
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.tracker.lost()
    }

    /// Interarrival jitter.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        Duration::from_nanos(u64::from(self.jitter_x16) * TICK_NANOS / 16)
    }
}

/// A duration in the unit of LSR and DLSR.
fn to_65536ths(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u16) -> Header {
        Header { sequence_number: SequenceNumber(sequence), ssrc: 7, ..Header::default() }
    }

    #[test]
    fn steady_arrival_has_no_jitter_and_alternation_converges_to_its_size() {
        let mut steady = Reception::new(&header(0));
        let mut shaken = Reception::new(&header(0));
        for n in 0..1000u64 {
            let timestamp = (n * 160) as u32;
            steady.measure_jitter(Instant::from_millis(n * 20), timestamp);
            shaken.measure_jitter(Instant::from_millis(n * 20 + (n % 2) * 5), timestamp);
        }
        assert_eq!(steady.jitter(), Duration::ZERO);
        let jitter = shaken.jitter();
        assert!(jitter > Duration::from_micros(4500) && jitter < Duration::from_micros(5500), "{jitter:?}");
    }

    #[test]
    fn timestamp_jump_is_not_jitter() {
        let mut reception = Reception::new(&header(0));
        reception.measure_jitter(Instant::from_millis(0), 0);
        reception.measure_jitter(Instant::from_millis(20), 3_000_000_000);
        assert_eq!(reception.jitter(), Duration::ZERO);
    }

    #[test]
    fn report_block_tells_loss_and_the_delay_since_the_sender_report() {
        let mut reception = Reception::new(&header(1));
        reception.update(SequenceNumber(4));
        reception.handle_sender_report(Instant::from_millis(1000), 0x1234_5678);
        let block = reception.take_report(Instant::from_millis(1500));
        assert_eq!((block.ssrc, block.fraction_lost, block.cumulative_lost), (7, 128, 2));
        assert_eq!((block.extended_highest, block.last_sender_report), (4, 0x1234_5678));
        assert_eq!(block.delay_since_last_sender_report, 32_768);
    }
}
