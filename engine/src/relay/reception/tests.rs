use proptest::prelude::*;

use super::*;
use crate::rtp::{self, SequenceNumber};

const SSRC: u32 = 7;

fn header(number: u32) -> Header {
    Header {
        sequence_number: SequenceNumber(number as u16),
        timestamp: number.wrapping_mul(160),
        ssrc: SSRC,
        ..Header::default()
    }
}

/// A party's account as a relay keeps it.
struct Account {
    reception: Reception,
    history: History,
    ssrc: u32,
}

impl Account {
    fn new(first: u32, at: Instant) -> Self {
        let mut account = Self { reception: Reception::default(), history: History::default(), ssrc: SSRC };
        let Self { reception, history, .. } = &mut account;
        assert!(reception.take_other(at, &header(first), 172, true, history));
        account
    }

    fn take(&mut self, at: Instant, number: u32) {
        self.reception.take(at, &header(number), 172, &mut self.history);
    }

    fn lost(&self) -> i64 {
        self.reception.lost(&self.history)
    }

    fn absorb(&mut self, kernel: &KernelCounters) {
        self.reception.absorb(kernel, &mut self.ssrc, &mut self.history);
    }
}

/// What the kernel would say of these packets (RFC 3550 appendix A.1).
fn kernel(numbers: &[(Instant, u32)]) -> KernelCounters {
    let mut counters = KernelCounters::default();
    for &(at, number) in numbers {
        let number = number as u16;
        if counters.packets == 0 {
            (counters.first_sequence, counters.highest_sequence) = (number, number.into());
        }
        let ahead = number.wrapping_sub(counters.highest_sequence as u16);
        if ahead < 3000 {
            counters.highest_sequence += u32::from(ahead);
        }
        counters.packets += 1;
        counters.bytes += 172;
        counters.last_seen = Some(at);
        counters.ssrc = SSRC;
    }
    counters
}

/// A party's packets as they arrive: numbers on a line that does not wrap, some lost, some twice, some late.
fn arrivals() -> impl Strategy<Value = Vec<(Instant, u32)>> {
    let packet = (0u32..100, 0u64..40);
    (0u32..70_000, prop::collection::vec(packet, 2..400)).prop_map(|(first, packets)| {
        let mut arrivals = vec![(Instant::from_millis(5000), first)];
        for (n, (fate, jitter_ms)) in packets.into_iter().enumerate() {
            let number = first + 1 + n as u32;
            let at = Instant::from_millis(5000 + (n as u64 + 1) * 20 + jitter_ms);
            match fate {
                0..8 => {}
                8..12 => arrivals.extend([(at, number); 2]),
                _ => arrivals.push((at, number)),
            }
        }
        let (_, rest) = arrivals.split_first_mut().expect("the first");
        rest.sort_by_key(|&(at, _)| at);
        arrivals
    })
}

proptest! {
    #[test]
    fn it_counts_what_the_receiver_of_a_stream_counts(arrivals in arrivals()) {
        let (&(at, first), rest) = arrivals.split_first().expect("the first");
        let mut account = Account::new(first, at);
        let mut reference = rtp::Reception::new(&header(first));
        let (mut duplicates, mut reordered) = (0, 0);
        for &(at, number) in rest {
            account.take(at, number);
            match reference.update(SequenceNumber(number as u16)) {
                rtp::Sequence::Duplicate => duplicates += 1,
                rtp::Sequence::Reordered(_) => reordered += 1,
                _ => {}
            }
            reference.measure_jitter(at, header(number).timestamp);
        }
        prop_assert_eq!(account.lost(), reference.lost());
        prop_assert_eq!(account.reception.jitter(), reference.jitter());
        prop_assert_eq!(account.history.duplicates, duplicates);
        prop_assert_eq!(account.history.reordered, reordered);
        prop_assert_eq!(account.reception.last_sequence(), Some(reference.highest() as u16));
        prop_assert_eq!(account.reception.packets, arrivals.len() as u64);
    }

    #[test]
    fn numbers_that_jump_restart_it_as_they_restart_a_stream(numbers in prop::collection::vec(any::<u16>(), 1..60)) {
        let mut account = Account::new(0, Instant::ZERO);
        let mut reference = rtp::Reception::new(&header(0));
        let mut lost_before = 0;
        // Each wild number comes with the two after it.
        for number in numbers.into_iter().flat_map(|number| (0..3).map(move |n| number.wrapping_add(n))) {
            let before = reference.lost();
            account.take(Instant::ZERO, number.into());
            if matches!(reference.update(SequenceNumber(number)), rtp::Sequence::Restarted(_)) {
                lost_before += before;
            }
            prop_assert_eq!(account.lost(), lost_before + reference.lost());
        }
    }

    #[test]
    fn the_account_goes_on_over_promotion_and_demotion(
        arrivals in arrivals(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..5), 0..6),
    ) {
        let (&(at, first), rest) = arrivals.split_first().expect("the first");
        let mut account = Account::new(first, at);
        let mut reference = rtp::Reception::new(&header(first));
        let mut cuts: Vec<(usize, usize)> = cuts.iter().map(|(at, ring)| (at.index(rest.len()), *ring)).collect();
        cuts.sort_unstable();
        let mut done = 0;
        for (turn, (end, ring)) in cuts.into_iter().chain([(rest.len(), 0)]).enumerate() {
            let part = &rest[done..end.max(done)];
            done = end.max(done);
            if turn % 2 == 0 {
                part.iter().for_each(|&(at, number)| account.take(at, number));
            } else {
                // What was on its way to user space when the kernel took over still comes up.
                let (up, down) = part.split_at(ring.min(part.len()));
                let Account { reception, history, .. } = &mut account;
                up.iter().for_each(|&(at, number)| reception.take_beside(at, &header(number), 172, history));
                account.absorb(&kernel(down));
            }
            for &(_, number) in part {
                reference.update(SequenceNumber(number as u16));
            }
            prop_assert_eq!(account.lost(), reference.lost());
            prop_assert_eq!(account.reception.last_sequence(), Some(reference.highest() as u16));
        }
        prop_assert_eq!(account.reception.packets, arrivals.len() as u64);
        prop_assert_eq!(account.reception.bytes, arrivals.len() as u64 * 172);
    }
}

#[test]
fn a_source_that_changes_in_the_kernel_is_counted_from_then_on() {
    let at = Instant::from_millis(5000);
    let mut account = Account::new(100, at);
    account.take(at, 101);
    account.take(at, 103);
    let kernel = KernelCounters {
        packets: 500,
        bytes: 86_000,
        ssrc: 9,
        first_sequence: 104,
        highest_sequence: 40_000,
        jitter_x16: 160,
        last_seen: Some(at + Duration::from_secs(10)),
        strangers: 0,
    };
    account.absorb(&kernel);
    assert_eq!((account.ssrc, account.lost(), account.reception.packets), (9, 1, 503));
    assert_eq!(account.reception.last_seen, at + Duration::from_secs(10));
    assert_eq!(account.reception.jitter(), Duration::from_micros(1250));
    let next = Header { ssrc: 9, ..header(40_002) };
    account.reception.take(at + Duration::from_secs(11), &next, 172, &mut account.history);
    assert_eq!(account.lost(), 2);
}

#[test]
fn a_key_that_came_up_beside_the_kernel_is_not_lost() {
    let at = Instant::from_millis(5000);
    let mut account = Account::new(0, at);
    let audio: Vec<_> = (1..5000).filter(|number| number % 1000 != 0).map(|number| (at, number)).collect();
    for number in [1000, 2000, 3000, 4000, 5000] {
        let Account { reception, history, .. } = &mut account;
        reception.take_beside(at, &header(number), 16, history);
    }
    account.absorb(&kernel(&audio));
    assert_eq!((account.lost(), account.reception.last_sequence()), (0, Some(5000)));
    account.take(at, 5001);
    assert_eq!((account.lost(), account.reception.packets), (0, 5002));
}
