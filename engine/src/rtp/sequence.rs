//! Sequence numbers of 16 bits on a line that does not wrap (RFC 3550 appendix A.1).

/// An RTP sequence number as it is on the wire. Compares only by [`SequenceNumber::distance_from`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SequenceNumber(pub u16);

impl SequenceNumber {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How far `self` is after `other`, the shorter way round; negative if it is before.
    #[must_use]
    pub const fn distance_from(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }
}

/// What became of one sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// New, and the highest so far.
    InOrder(u64),
    /// New, but a later one came before.
    Reordered(u64),
    /// Seen before.
    Duplicate,
    /// The source has yet to prove itself with consecutive packets.
    Probation,
    /// Too far from the others to be believed; the next one decides.
    Jump,
    /// The second consecutive packet after a jump: the other side has restarted.
    Restarted(u64),
}

/// The sequence number state of one source. Extended numbers start at 65,536 plus the first, so that what
/// was sent before the first packet and overtaken by it has a number too.
#[derive(Clone, Copy, Debug)]
pub struct SequenceTracker {
    base: u64,
    highest: u64,
    /// Bit `n` says that `highest - n` has come.
    seen: u128,
    probation: u8,
    expected_after_jump: Option<SequenceNumber>,
    received: u64,
    received_at_report: u64,
    expected_at_report: u64,
}

impl SequenceTracker {
    /// A source believed from its first packet on, because its address is known.
    #[must_use]
    pub fn believed(first: SequenceNumber) -> Self {
        let base = FIRST_CYCLE + u64::from(first.0);
        Self {
            base,
            highest: base,
            seen: 1,
            probation: 0,
            expected_after_jump: None,
            received: 1,
            received_at_report: 0,
            expected_at_report: 0,
        }
    }

    /// A source that has to send [`MIN_SEQUENTIAL`] consecutive packets; this is the first.
    #[must_use]
    pub fn on_probation(first: SequenceNumber) -> Self {
        Self { probation: MIN_SEQUENTIAL - 1, received: 0, ..Self::believed(first) }
    }

    /// Places one more sequence number.
    pub fn update(&mut self, number: SequenceNumber) -> Sequence {
        let delta = number.0.wrapping_sub(self.highest as u16);
        if self.probation > 0 {
            if delta == 1 {
                self.probation -= 1;
                self.highest += 1;
                if self.probation == 0 {
                    *self = Self::believed(number);
                    return Sequence::InOrder(self.highest);
                }
            } else {
                *self = Self::on_probation(number);
            }
            return Sequence::Probation;
        }
        if delta == 0 {
            self.received += 1;
            return Sequence::Duplicate;
        }
        if delta < MAX_DROPOUT {
            self.highest += u64::from(delta);
            self.seen = self.seen.checked_shl(u32::from(delta)).unwrap_or(0) | 1;
            self.received += 1;
            self.expected_after_jump = None;
            return Sequence::InOrder(self.highest);
        }
        let back = 0u16.wrapping_sub(delta);
        if back <= MAX_MISORDER {
            self.received += 1;
            if self.seen >> back & 1 == 1 {
                return Sequence::Duplicate;
            }
            self.seen |= 1 << back;
            return Sequence::Reordered(self.highest - u64::from(back));
        }
        if self.expected_after_jump == Some(number) {
            *self = Self::believed(number);
            return Sequence::Restarted(self.highest);
        }
        self.expected_after_jump = Some(number.next());
        Sequence::Jump
    }

    /// The highest number so far, on the line that does not wrap.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// The extended highest sequence number received (RFC 3550 section 6.4.1).
    #[must_use]
    pub fn extended_highest(&self) -> u32 {
        (self.highest - FIRST_CYCLE) as u32
    }

    /// Packets received, late and duplicate ones included (RFC 3550 appendix A.3).
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets expected so far less packets received; duplicates make it negative (appendix A.3).
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// The share of packets lost since the last call, in 256ths (appendix A.3).
    pub fn take_fraction_lost(&mut self) -> u8 {
        let expected = self.expected() - self.expected_at_report;
        let received = self.received - self.received_at_report;
        self.expected_at_report = self.expected();
        self.received_at_report = self.received;
        let lost = expected.saturating_sub(received);
        (lost << 8).checked_div(expected).unwrap_or(0).min(255) as u8
    }

    fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }
}

/// Packets in a row that a source on probation has to send.
pub const MIN_SEQUENTIAL: u8 = 2;
const MAX_DROPOUT: u16 = 3000;
const MAX_MISORDER: u16 = 100;
const FIRST_CYCLE: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn believed(first: u16) -> SequenceTracker {
        SequenceTracker::believed(SequenceNumber(first))
    }

    fn update(tracker: &mut SequenceTracker, number: u16) -> Sequence {
        tracker.update(SequenceNumber(number))
    }

    #[test]
    fn numbers_continue_over_the_wrap() {
        let mut tracker = believed(65_534);
        assert_eq!(update(&mut tracker, 65_535), Sequence::InOrder(131_071));
        assert_eq!(update(&mut tracker, 0), Sequence::InOrder(131_072));
        assert_eq!(update(&mut tracker, 1), Sequence::InOrder(131_073));
        assert_eq!(tracker.extended_highest(), 65_537);
        assert_eq!(tracker.lost(), 0);
    }

    #[test]
    fn overtaken_packet_keeps_its_number_across_the_wrap() {
        let mut tracker = believed(65_535);
        assert_eq!(update(&mut tracker, 1), Sequence::InOrder(131_073));
        assert_eq!(update(&mut tracker, 0), Sequence::Reordered(131_072));
        assert_eq!(update(&mut tracker, 0), Sequence::Duplicate);
        assert_eq!(update(&mut tracker, 65_534), Sequence::Reordered(131_070));
        assert_eq!(update(&mut tracker, 1), Sequence::Duplicate);
    }

    #[test]
    fn probation_ends_with_the_second_packet_in_a_row() {
        let mut tracker = SequenceTracker::on_probation(SequenceNumber(10));
        assert_eq!(update(&mut tracker, 12), Sequence::Probation);
        assert_eq!(update(&mut tracker, 13), Sequence::InOrder(65_549));
        assert_eq!(tracker.lost(), 0);
    }

    #[test]
    fn single_wild_number_is_refused_and_two_in_a_row_restart() {
        let mut tracker = believed(100);
        assert_eq!(update(&mut tracker, 30_000), Sequence::Jump);
        assert_eq!(update(&mut tracker, 101), Sequence::InOrder(65_637));
        assert_eq!(update(&mut tracker, 40_000), Sequence::Jump);
        assert_eq!(update(&mut tracker, 40_001), Sequence::Restarted(105_537));
        assert_eq!(update(&mut tracker, 40_002), Sequence::InOrder(105_538));
    }

    #[test]
    fn dropout_counts_as_lost_and_duplicates_give_back() {
        let mut tracker = believed(1);
        update(&mut tracker, 5);
        assert_eq!(tracker.lost(), 3);
        assert_eq!(tracker.take_fraction_lost(), 153);
        for _ in 0..4 {
            update(&mut tracker, 5);
        }
        assert_eq!(tracker.lost(), -1);
        assert_eq!(tracker.take_fraction_lost(), 0);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_repeats_a_number(first: u16, numbers in proptest::collection::vec(any::<u16>(), 0..300)) {
            let mut tracker = believed(first);
            let mut seen = std::collections::HashSet::from([u64::from(first) + 65_536]);
            for number in numbers {
                match update(&mut tracker, number) {
                    Sequence::InOrder(n) | Sequence::Reordered(n) => {
                        prop_assert!(seen.insert(n));
                        prop_assert_eq!(n as u16, number);
                    }
                    Sequence::Restarted(n) => seen = std::collections::HashSet::from([n]),
                    _ => {}
                }
                tracker.take_fraction_lost();
            }
        }

        #[test]
        fn distance_is_the_shorter_way(a: u16, step in -32_000i16..32_000) {
            prop_assert_eq!(SequenceNumber(a.wrapping_add_signed(step)).distance_from(SequenceNumber(a)), step);
        }
    }
}
