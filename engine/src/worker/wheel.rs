//! A hierarchical timer wheel: one deadline per stream slot, every operation O(1), memory taken once.
//!
//! Time is cut in ticks of 65.5 us. Level 0 has one list per tick for the 64 ticks around now, level `n`
//! one list per `64^n` ticks; a list moves down when its time comes. An entry is on the level of the
//! highest group of 6 bits in which its tick differs from the wheel's, so everything on a lower level is
//! earlier than everything on a higher one.

use crate::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Wheel {
    /// The tick up to which everything has been handed out.
    elapsed: u64,
    levels: [Level; LEVELS],
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Which lists are not empty.
    occupied: u64,
    heads: [u32; LISTS],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    next: u32,
    previous: u32,
    /// Level and list, while scheduled.
    place: Option<(u8, u8)>,
}

impl Wheel {
    /// A wheel for this many stream slots, at `now`.
    pub(super) fn new(slots: usize, now: Instant) -> Self {
        let entry = Entry { deadline: Instant::ZERO, next: NONE, previous: NONE, place: None };
        Self {
            elapsed: tick(now),
            levels: [Level { occupied: 0, heads: [NONE; LISTS] }; LEVELS],
            entries: vec![entry; slots].into(),
        }
    }

    /// Sets, moves or (`None`) cancels the deadline of a slot.
    pub(super) fn schedule(&mut self, slot: u32, deadline: Option<Instant>) {
        let entry = &self.entries[slot as usize];
        if entry.place.is_some() {
            if deadline == Some(entry.deadline) {
                return;
            }
            self.unlink(slot);
        }
        if let Some(deadline) = deadline {
            self.entries[slot as usize].deadline = deadline;
            self.link(slot);
        }
    }

    /// Takes one slot whose deadline is not after `now`, with that deadline.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<(u32, Instant)> {
        let now_tick = tick(now);
        loop {
            let Some((level, list, start)) = self.first() else {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            };
            if start > now_tick {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            }
            self.elapsed = self.elapsed.max(start);
            if level == 0 {
                let slot = self.list(0, list).find(|&slot| self.entries[slot as usize].deadline <= now)?;
                self.unlink(slot);
                return Some((slot, self.entries[slot as usize].deadline));
            }
            while self.levels[level].heads[list] != NONE {
                let slot = self.levels[level].heads[list];
                self.unlink(slot);
                self.link(slot);
            }
        }
    }

    /// When to call [`Wheel::pop_expired`] next: never after the first deadline, and before it only to move
    /// far entries down.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let (level, list, start) = self.first()?;
        if level > 0 {
            return Some(Instant::from_nanos(start << TICK_BITS));
        }
        self.list(0, list).map(|slot| self.entries[slot as usize].deadline).min()
    }

    /// The earliest list that is not empty, and the tick it starts at.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let list = self.levels[level].occupied.trailing_zeros();
        let shift = level as u32 * LIST_BITS;
        let above = self.elapsed.checked_shr(shift + LIST_BITS).unwrap_or(0);
        let above = above.checked_shl(shift + LIST_BITS).unwrap_or(0);
        Some((level, list as usize, above | u64::from(list) << shift))
    }

    fn list(&self, level: usize, list: usize) -> impl Iterator<Item = u32> + '_ {
        let some = |slot: u32| (slot != NONE).then_some(slot);
        std::iter::successors(some(self.levels[level].heads[list]), move |&slot| {
            some(self.entries[slot as usize].next)
        })
    }

    fn link(&mut self, slot: u32) {
        // What is overdue goes to the list that is looked at first.
        let tick = tick(self.entries[slot as usize].deadline).max(self.elapsed);
        let level = (tick ^ self.elapsed).checked_ilog2().map_or(0, |bit| bit / LIST_BITS);
        let list = (tick >> (level * LIST_BITS)) as usize % LISTS;
        let Level { occupied, heads } = &mut self.levels[level as usize];
        *occupied |= 1 << list;
        let next = std::mem::replace(&mut heads[list], slot);
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = slot;
        }
        let entry = &mut self.entries[slot as usize];
        (entry.next, entry.previous) = (next, NONE);
        entry.place = Some((level as u8, list as u8));
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { next, previous, place, .. } = self.entries[slot as usize];
        let Some((level, list)) = place else { return };
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => {
                let level = &mut self.levels[usize::from(level)];
                level.heads[usize::from(list)] = next;
                if next == NONE {
                    level.occupied &= !(1 << list);
                }
            }
        }
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        self.entries[slot as usize].place = None;
    }
}

fn tick(instant: Instant) -> u64 {
    instant.as_nanos() >> TICK_BITS
}

/// A tick is 2^16 ns.
const TICK_BITS: u32 = 16;

const LIST_BITS: u32 = 6;

/// Lists per level.
const LISTS: usize = 1 << LIST_BITS;

/// Enough for every tick that 64 bits of nanoseconds have.
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(LIST_BITS) as usize;

/// No slot.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BTreeMap, BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    const SLOTS: u32 = 24;

    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u32, u64),
        Cancel(u32),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Microseconds to hours: all the levels that matter.
        let nanos = (0u32..44, any::<u64>()).prop_map(|(bits, value)| value & ((1 << bits) - 1));
        prop_oneof![
            4 => (0..SLOTS, nanos.clone()).prop_map(|(slot, nanos)| Step::Schedule(slot, nanos)),
            1 => (0..SLOTS).prop_map(Step::Cancel),
            3 => nanos.prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_fires_what_a_heap_fires(start in 0..u64::MAX / 4, steps in prop::collection::vec(step(), 1..200)) {
            let mut now = start;
            let mut wheel = Wheel::new(SLOTS as usize, Instant::from_nanos(now));
            let mut heap = BinaryHeap::new();
            let mut current = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Schedule(slot, after) => {
                        let deadline = now + after;
                        wheel.schedule(slot, Some(Instant::from_nanos(deadline)));
                        current.insert(slot, deadline);
                        heap.push(Reverse((deadline, slot)));
                    }
                    Step::Cancel(slot) => {
                        wheel.schedule(slot, None);
                        current.remove(&slot);
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut expected = Vec::new();
                        while let Some(&Reverse((deadline, slot))) = heap.peek() {
                            if deadline > now { break }
                            heap.pop();
                            if current.get(&slot) == Some(&deadline) {
                                current.remove(&slot);
                                expected.push((slot, Instant::from_nanos(deadline)));
                            }
                        }
                        let pop = || wheel.pop_expired(Instant::from_nanos(now));
                        let mut fired: Vec<_> = std::iter::from_fn(pop).collect();
                        fired.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(fired, expected);
                        let earliest = current.values().min().copied();
                        match (wheel.next_deadline(), earliest) {
                            (None, None) => {}
                            (Some(next), Some(earliest)) => prop_assert!(
                                next.as_nanos() > now && next.as_nanos() <= earliest
                            ),
                            other => prop_assert!(false, "{other:?}"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let mut wheel = Wheel::new(1, Instant::from_millis(500));
        wheel.schedule(0, Some(Instant::from_millis(3)));
        assert_eq!(wheel.next_deadline(), Some(Instant::from_millis(3)));
        assert_eq!(wheel.pop_expired(Instant::from_millis(500)), Some((0, Instant::from_millis(3))));
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_deadline_inside_the_current_tick_is_not_fired_early() {
        let mut wheel = Wheel::new(1, Instant::ZERO);
        wheel.schedule(0, Some(Instant::from_nanos(1000)));
        assert_eq!(wheel.pop_expired(Instant::from_nanos(999)), None);
        assert_eq!(wheel.next_deadline(), Some(Instant::from_nanos(1000)));
        assert!(wheel.pop_expired(Instant::from_nanos(1000)).is_some());
    }

    #[test]
    fn the_end_of_time_can_be_waited_for() {
        let mut wheel = Wheel::new(1, Instant::ZERO);
        let end = Instant::from_nanos(u64::MAX);
        wheel.schedule(0, Some(end));
        assert!(wheel.pop_expired(Instant::from_millis(1)).is_none());
        assert_eq!(wheel.pop_expired(end), Some((0, end)));
    }
}
