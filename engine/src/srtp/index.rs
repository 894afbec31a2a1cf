//! Packet indices: sequence numbers with the rollovers counted (RFC 3711 section 3.3.1), and which of them came
//! already (section 3.3.2).

/// The 48-bit index that `sequence_number` most likely means next to the highest so far; `None` if it would lie
/// before the first packet or beyond the last that a key may protect.
pub(super) fn estimate(highest: u64, sequence_number: u16) -> Option<u64> {
    let last = highest as u16;
    let distance = match sequence_number.wrapping_sub(last) as i16 {
        // As far ahead as behind: appendix A then supposes no rollover.
        i16::MIN if last < 0x8000 => 0x8000,
        distance => i64::from(distance),
    };
    highest.checked_add_signed(distance).filter(|&index| index <= LAST)
}

/// The highest index so far and a bit for each of the 128 up to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayWindow {
    highest: u64,
    seen: u128,
}

impl ReplayWindow {
    /// With one packet seen.
    pub(super) const fn new(first: u64) -> Self {
        Self { highest: first, seen: 1 }
    }

    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet is new; one too old to tell is not.
    pub(super) fn is_new(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < WINDOW && self.seen >> age & 1 == 0,
        }
    }

    /// Remembers a packet that is authentic and [`ReplayWindow::is_new`].
    pub(super) fn insert(&mut self, index: u64) {
        match index.checked_sub(self.highest) {
            Some(ahead) => {
                self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
                self.highest = index;
            }
            None => self.seen |= 1u128.checked_shl((self.highest - index) as u32).unwrap_or(0),
        }
    }
}

/// The last index of RTP, 48 bits.
pub(super) const LAST: u64 = (1 << 48) - 1;
/// RFC 3711 asks for 64 at least.
const WINDOW: u64 = 128;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rollover_is_guessed_both_ways() {
        for (highest, sequence_number, index) in [
            (5, 6, Some(6)),
            (6, 5, Some(5)),
            (65_535, 0, Some(65_536)),
            (65_536, 65_535, Some(65_535)),
            (65_000, 300, Some(65_836)),
            (0x1_8001, 0x0000, Some(0x2_0000)),
            (0x1_8001, 0x0001, Some(0x1_0001)),
            (0x1_8000, 0x0000, Some(0x1_0000)),
            (0x1_7FFF, 0xFFFF, Some(0x1_FFFF)),
            (0x1_7FFE, 0xFFFF, Some(0x0_FFFF)),
            (3, 65_530, None),
            (LAST, 0, None),
            (LAST, 65_534, Some(LAST - 1)),
        ] {
            assert_eq!(estimate(highest, sequence_number), index, "{highest:#x} {sequence_number:#x}");
        }
    }

    #[test]
    fn window_is_128_packets() {
        let mut window = ReplayWindow::new(1000);
        assert!(!window.is_new(1000));
        assert!(window.is_new(873) && !window.is_new(872), "the oldest is not told apart from a replay");
        window.insert(873);
        assert!(!window.is_new(873));
        window.insert(1001);
        assert!(!window.is_new(873) && !window.is_new(1000) && window.is_new(999));
        window.insert(10_000);
        assert!(!window.is_new(9_000) && window.is_new(9_999));
    }

    proptest! {
        #[test]
        fn nothing_is_new_twice(steps in prop::collection::vec(0..400u64, 1..400)) {
            let mut window = ReplayWindow::new(200);
            let mut seen = BTreeSet::from([200]);
            for index in steps {
                let expected = !seen.contains(&index) && window.highest().saturating_sub(index) < WINDOW;
                prop_assert_eq!(window.is_new(index), expected);
                if expected {
                    window.insert(index);
                    seen.insert(index);
                }
            }
        }
    }
}
