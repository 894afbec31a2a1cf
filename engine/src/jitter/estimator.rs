//! How much delay the network asks for, from the arrival times of the last few hundred packets.

use crate::time::{Duration, Instant};

/// Keeps, for blocks of packets, the delay that would have been enough for all but the worst of them.
///
/// A need is "arrival less media time of the frame that wants the packet" in nanoseconds, so it does not
/// depend on the delay in force. One packet per block may be later than the target, and one block of them
/// all may be worse as a whole: about 99 % are in time, and what is rarer than that is concealment's job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimator {
    blocks: [Block; BLOCKS],
    current: usize,
    in_block: u8,
    target: Option<i64>,
    /// When the packet before came, and its need.
    last: Option<(Instant, i64)>,
}

impl Estimator {
    pub(super) const fn new() -> Self {
        Self { blocks: [Block::EMPTY; BLOCKS], current: 0, in_block: 0, target: None, last: None }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Takes the need of one packet, which came at `at`. Packets that come at once are one event, whose need
    /// is the first one's: somebody was late once, however many packets piled up meanwhile.
    pub(super) fn record(&mut self, at: Instant, need: i64) {
        let before = self.last.replace((at, need));
        if before.is_some_and(|(last, more)| at - last < AT_ONCE && need < more) {
            return;
        }
        if self.in_block == PACKETS_PER_BLOCK {
            self.current = (self.current + 1) % BLOCKS;
            self.blocks[self.current] = Block::EMPTY;
            self.in_block = 0;
        }
        self.in_block += 1;
        self.blocks[self.current].record(need);
        self.target = Some(self.quantile());
    }

    /// The delay that is enough, `None` before the first packet.
    pub(super) fn target(&self) -> Option<i64> {
        self.target
    }

    /// The smallest need lately: a packet that met no queue.
    pub(super) fn floor(&self) -> i64 {
        let before = self.blocks[(self.current + BLOCKS - 1) % BLOCKS].least;
        self.blocks[self.current].least.min(before)
    }

    fn quantile(&self) -> i64 {
        let (mut worst, mut second_worst, mut usual) = (i64::MIN, i64::MIN, i64::MIN);
        for block in &self.blocks {
            if block.worst > worst {
                (worst, second_worst) = (block.worst, worst);
            } else {
                second_worst = second_worst.max(block.worst);
            }
            usual = usual.max(block.second_worst);
        }
        // With a single young block there is nothing to compare with: believe the worst.
        if second_worst == i64::MIN && self.in_block < PACKETS_PER_BLOCK / 2 {
            worst
        } else {
            usual.max(second_worst)
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Block {
    worst: i64,
    second_worst: i64,
    least: i64,
}

impl Block {
    const EMPTY: Self = Self { worst: i64::MIN, second_worst: i64::MIN, least: i64::MAX };

    fn record(&mut self, need: i64) {
        if need > self.worst {
            (self.worst, self.second_worst) = (need, self.worst);
        } else {
            self.second_worst = self.second_worst.max(need);
        }
        self.least = self.least.min(need);
    }
}

/// Ten seconds at 20 ms.
const BLOCKS: usize = 8;
const PACKETS_PER_BLOCK: u8 = 64;
const AT_ONCE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(estimator: &mut Estimator, n: i64, need: i64) {
        estimator.record(Instant::from_millis(n as u64 * 20), need);
    }

    #[test]
    fn packets_that_pile_up_behind_one_hiccup_are_one_outlier() {
        let mut estimator = Estimator::new();
        for n in 0..100 {
            record(&mut estimator, n, 1000);
        }
        // The sender stood still for 90 ms and then sent four packets at once.
        for need in [91_000, 71_000, 51_000, 31_000] {
            record(&mut estimator, 104, need);
        }
        for n in 105..200 {
            record(&mut estimator, n, 1000);
        }
        assert_eq!(estimator.target(), Some(1000));
    }

    #[test]
    fn lone_outliers_are_left_to_concealment() {
        let mut estimator = Estimator::new();
        for n in 0..512i64 {
            record(&mut estimator, n, if n == 100 { 80_000 } else { 1000 + n % 7 });
        }
        assert_eq!(estimator.target(), Some(1006));
        assert_eq!(estimator.floor(), 1000);
    }

    #[test]
    fn frequent_lateness_raises_the_target_and_is_forgotten() {
        let mut estimator = Estimator::new();
        for n in 0..200i64 {
            record(&mut estimator, n, if n % 10 == 0 { 50_000 } else { 1000 });
        }
        assert_eq!(estimator.target(), Some(50_000));
        for n in 200..(200 + 64 * 9) {
            record(&mut estimator, n, 1000);
        }
        assert_eq!(estimator.target(), Some(1000));
    }

    #[test]
    fn first_packets_are_all_believed() {
        let mut estimator = Estimator::new();
        assert_eq!(estimator.target(), None);
        record(&mut estimator, 0, -5);
        record(&mut estimator, 1, 900);
        assert_eq!(estimator.target(), Some(900));
    }
}
