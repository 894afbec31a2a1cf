//! Which local UDP ports a worker may give to streams.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// A worker's share of the media ports, in pairs: RTP on the even port, RTCP on the next one
/// (RFC 3550 section 11).
///
/// Pairs rotate: a freed pair goes to the back of the line, so that what the former peer still sends
/// does not reach the next stream.
#[derive(Debug)]
pub(super) struct PortPool {
    /// The even port of each free pair, the next to use first.
    free: VecDeque<u16>,
    /// All of its ports, free or not.
    range: RangeInclusive<u16>,
}

impl PortPool {
    /// Splits `range` evenly and in contiguous parts among `workers`; `None` if a worker would have no
    /// pair. `start` turns each part, so that ports are not guessed from the process's start.
    pub(super) fn split(range: &RangeInclusive<u16>, workers: usize, start: u64) -> Option<Vec<Self>> {
        let first_even = u32::from(*range.start()).next_multiple_of(2);
        // Port 0 means "any" to the kernel and "refused" to SDP.
        let first_even = first_even.max(2);
        let pairs = (u32::from(*range.end()) + 1).saturating_sub(first_even) as usize / 2;
        let per_worker = pairs.checked_div(workers)?;
        if per_worker == 0 {
            return None;
        }
        let part = |worker: usize| {
            let mut free: VecDeque<u16> = (worker * per_worker..(worker + 1) * per_worker)
                .map(|pair| (first_even as usize + 2 * pair) as u16)
                .collect();
            free.rotate_left((start % per_worker as u64) as usize);
            let first = (first_even as usize + 2 * worker * per_worker) as u16;
            Self { free, range: first..=first + (2 * per_worker - 1) as u16 }
        };
        Some((0..workers).map(part).collect())
    }

    /// Takes the pair that has been free for longest; returns its even port.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.free.pop_front()
    }

    /// Takes the pair that has been free for longest of those whose even port `suits`, as far as the first
    /// [`LOOKED_AT`] go, else the first; returns its even port and whether it suits.
    pub(super) fn take_where(&mut self, suits: impl Fn(u16) -> bool) -> Option<(u16, bool)> {
        let found = self.free.iter().take(LOOKED_AT).position(|&port| suits(port));
        let port = self.free.remove(found.unwrap_or(0))?;
        Some((port, found.is_some()))
    }

    /// All of its ports, free or not.
    pub(super) fn range(&self) -> RangeInclusive<u16> {
        self.range.clone()
    }

    /// Gives a pair back.
    pub(super) fn put_back(&mut self, even_port: u16) {
        debug_assert!(!self.free.contains(&even_port), "port pair {even_port} is given back twice");
        self.free.push_back(even_port);
    }

    /// How many pairs are free.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }
}

/// With as many, one of eight workers finds no port of its own for one call in five thousand.
const LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workers_share_the_range_without_overlap() {
        let mut pools = PortPool::split(&(20_001..=20_010), 2, 1).expect("room for two");
        let ports: Vec<Vec<u16>> =
            pools.iter_mut().map(|pool| std::iter::from_fn(|| pool.take()).collect()).collect();
        assert_eq!(ports, [vec![20_004, 20_002], vec![20_008, 20_006]]);
    }

    #[test]
    fn a_range_that_is_too_small_is_refused() {
        assert!(PortPool::split(&(20_001..=20_002), 1, 0).is_none());
        assert!(PortPool::split(&(20_000..=20_003), 3, 0).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "the operator's mistake under test")]
        let reversed = 20_010..=20_000;
        assert!(PortPool::split(&reversed, 1, 0).is_none());
    }

    #[test]
    fn a_freed_pair_is_the_last_to_be_used_again() {
        let mut pool = PortPool::split(&(30_000..=30_007), 1, 0).expect("four pairs").remove(0);
        let first = pool.take().expect("a pair");
        pool.put_back(first);
        let next: Vec<u16> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(next, [30_002, 30_004, 30_006, 30_000]);
    }

    #[test]
    fn a_pair_that_suits_is_taken_out_of_turn_and_the_others_stay_in_turn() {
        let mut pool = PortPool::split(&(30_000..=30_399), 1, 0).expect("pairs").remove(0);
        assert_eq!(pool.range(), 30_000..=30_399);
        assert_eq!(pool.take_where(|port| port == 30_006), Some((30_006, true)));
        assert_eq!(pool.take_where(|_| false), Some((30_000, false)));
        assert_eq!(pool.take_where(|port| port == 30_398), Some((30_002, false)), "too far to look");
        assert_eq!([pool.take(), pool.take()], [Some(30_004), Some(30_008)]);
        assert_eq!(pool.free(), 195);
    }

    proptest! {
        #[test]
        fn every_pair_is_even_inside_the_range_and_has_one_owner(
            low: u16, high: u16, workers in 1usize..9, start: u64,
        ) {
            let Some(pools) = PortPool::split(&(low..=high), workers, start) else { return Ok(()) };
            let mut seen = HashSet::new();
            for mut pool in pools {
                prop_assert!(pool.free() > 0);
                let range = pool.range();
                while let Some(port) = pool.take() {
                    prop_assert!(port % 2 == 0 && port >= low.max(1) && port < high);
                    prop_assert!(range.contains(&port) && range.contains(&(port + 1)));
                    prop_assert!(seen.insert(port));
                }
            }
        }
    }
}
