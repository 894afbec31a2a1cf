//! What was sent and received, by the time of sending, so that what this program spoiled itself can be told from what the relay lost.
//!
//! While the core of this program is taken away it neither sends nor receives, and what comes back then overflows its queue, which is
//! no fault of the relay. So slots that a hold-up touches are left out of the account of loss and latency, and so are their neighbours: what
//! was on its way when it began, and what waited when it ended. Whether a slot is left out depends on this program's own signs of life only,
//! never on what came back, and it is as likely at the moment of a loss as at any other. No pause of the relay is left out by that.

use super::histogram::{BUCKETS, Histogram, middle};

/// What happened to the packets that were sent within some milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) sent: u64,
    /// Each once.
    pub(super) received: u64,
    /// The longest hold-up that ended here.
    pub(super) held_ns: u64,
    /// All of them together.
    pub(super) held_total_ns: u64,
    /// How many by bucket of latency; empty if none.
    pub(super) latencies: Vec<u64>,
}

/// All slots of a run, each 2^`bits` ns long; the first begins with the run.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    bits: u32,
    slots: Vec<Slot>,
}

/// What is left when the slots in which this program was held up are left out.
#[derive(Clone)]
pub(super) struct Account {
    /// Slots from the first packet that counts to the last one.
    pub(super) slots: usize,
    /// So many of them are left out.
    pub(super) left_out: usize,
    /// Of the other ones.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) latency: Histogram,
    /// How long this program was held up while it sent what counts, and the longest.
    pub(super) held_ns: u64,
    pub(super) longest_held_ns: u64,
}

impl Slots {
    pub(super) const fn new(bits: u32) -> Self {
        Self { bits, slots: Vec::new() }
    }

    /// From what a program has counted.
    pub(super) const fn of(bits: u32, slots: Vec<Slot>) -> Self {
        Self { bits, slots }
    }

    /// How long slots have to be for a run, as a power of two: a few milliseconds, more if there would be more than [`MOST`].
    pub(super) const fn bits(run_ns: u64) -> u32 {
        let mut bits = SHORTEST_BITS;
        while run_ns >> bits >= MOST as u64 {
            bits += 1;
        }
        bits
    }

    /// Packets that were sent so long after the start.
    pub(super) fn send(&mut self, elapsed_ns: u64, packets: u64) {
        if let Some(slot) = self.at(elapsed_ns) {
            slot.sent += packets;
        }
    }

    /// A packet that was sent so long after the start.
    pub(super) fn receive(&mut self, elapsed_ns: u64, latency_ns: u64) {
        if let Some(slot) = self.at(elapsed_ns) {
            slot.received += 1;
            slot.latencies.resize(BUCKETS, 0);
            slot.latencies[super::histogram::bucket(latency_ns)] += 1;
        }
    }

    /// A hold-up that ended so long after the start.
    pub(super) fn hold_up(&mut self, elapsed_ns: u64, length_ns: u64) {
        if let Some(slot) = self.at(elapsed_ns) {
            slot.held_ns = slot.held_ns.max(length_ns);
            slot.held_total_ns += length_ns;
        }
    }

    fn at(&mut self, elapsed_ns: u64) -> Option<&mut Slot> {
        let at = usize::try_from(elapsed_ns >> self.bits).ok().filter(|at| *at < MOST)?;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::default);
        }
        Some(&mut self.slots[at])
    }

    /// By slot.
    fn left_out(&self) -> Vec<bool> {
        let mut left_out = vec![false; self.slots.len()];
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.held_ns > 0) {
            // It ended somewhere in this slot; so it began at the earliest so many before.
            let before = slot.held_ns.div_ceil(1 << self.bits) as usize + BEFORE;
            let touched = at.saturating_sub(before)..(at + AFTER + 1).min(left_out.len());
            left_out[touched].fill(true);
        }
        left_out
    }

    pub(super) fn account(&self) -> Account {
        let mut account = Account {
            slots: 0,
            left_out: 0,
            sent: 0,
            received: 0,
            latency: Histogram::new(),
            held_ns: 0,
            longest_held_ns: 0,
        };
        // Those in which nothing could be sent are slots, too.
        let first = self.slots.iter().position(|slot| slot.sent > 0).unwrap_or(0);
        let end = self.slots.iter().rposition(|slot| slot.sent > 0).map_or(0, |last| last + 1);
        for (slot, left_out) in self.slots.iter().zip(self.left_out()).take(end).skip(first) {
            account.slots += 1;
            account.held_ns += slot.held_total_ns;
            account.longest_held_ns = account.longest_held_ns.max(slot.held_ns);
            if left_out {
                account.left_out += 1;
                continue;
            }
            account.sent += slot.sent;
            account.received += slot.received;
            for (bucket, &count) in slot.latencies.iter().enumerate().filter(|(_, count)| **count > 0) {
                account.latency.record_n(middle(bucket as u64), count);
            }
        }
        account
    }
}

impl Account {
    pub(super) fn left_out_share(&self) -> f64 {
        self.left_out as f64 / (self.slots as f64).max(1.0)
    }
}

/// Slots of a run at most.
pub(super) const MOST: usize = 4_096;
/// A slot is at least 2^22 ns long, 4.2 ms.
const SHORTEST_BITS: u32 = 22;
/// Slots that are left out before the one in which a hold-up began, and after the one in which it ended. A relay at its limit holds
/// packets for milliseconds; those meet the hold-up on their way back.
const BEFORE: usize = 2;
const AFTER: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT_NS: u64 = 1 << SHORTEST_BITS;

    /// Ten packets a slot, of which `received` come back.
    fn slots(received: impl Fn(u64) -> u64) -> Slots {
        let mut slots = Slots::new(SHORTEST_BITS);
        for slot in 0..50 {
            slots.send(slot * SLOT_NS + 5, 10);
            (0..received(slot)).for_each(|_| slots.receive(slot * SLOT_NS + 5, 10_000));
        }
        slots
    }

    #[test]
    fn nothing_is_left_out_of_a_run_that_was_not_held_up() {
        let account = slots(|slot| if slot == 20 { 0 } else { 10 }).account();
        assert_eq!((account.slots, account.left_out), (50, 0));
        assert_eq!((account.sent, account.received, account.latency.len()), (500, 490, 490));
    }

    #[test]
    fn what_a_hold_up_touches_and_its_neighbours_are_left_out() {
        // It began in slot 20 and ended in 22.
        let mut slots = slots(|slot| if (18..=23).contains(&slot) { 0 } else { 9 });
        slots.hold_up(22 * SLOT_NS + 9, SLOT_NS + SLOT_NS / 2);
        let account = slots.account();
        assert_eq!((account.slots, account.left_out), (50, 6));
        assert_eq!((account.sent, account.received, account.latency.len()), (440, 396, 396));
        assert_eq!(account.held_ns, SLOT_NS * 3 / 2);
        assert!((account.left_out_share() - 0.12).abs() < 1e-9);
    }

    #[test]
    fn hold_ups_at_both_ends_leave_out_what_there_is() {
        let mut slots = slots(|_| 10);
        slots.hold_up(0, 10 * SLOT_NS);
        slots.hold_up(49 * SLOT_NS, 1);
        slots.hold_up(49 * SLOT_NS, 2);
        let account = slots.account();
        assert_eq!((account.left_out, account.longest_held_ns), (2 + 4, 10 * SLOT_NS));
        // Far behind the last packet, and beyond what there is room for.
        slots.hold_up(60 * SLOT_NS, 1);
        slots.hold_up(u64::MAX, 1);
        assert_eq!(slots.account().left_out, 6);
    }

    #[test]
    fn long_runs_have_long_slots() {
        assert_eq!(Slots::bits(9_200_000_000), SHORTEST_BITS);
        for seconds in [17, 18, 60, 3_600] {
            let run_ns = seconds * 1_000_000_000;
            assert!(run_ns >> Slots::bits(run_ns) < MOST as u64);
        }
    }
}
