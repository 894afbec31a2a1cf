//! A run over something that sends and receives in this thread.

use std::time::Duration;

use super::check::Checker;
use super::flow::Flow;
use super::histogram::Histogram;
use super::plan::{Outcome, Plan, Schedule};
use super::slots::Slots;
use super::watch::Watched;
use crate::callload::clock;

/// Sends what is due and receives what there is; never waits.
pub(super) trait Transport {
    /// Sends packets from number `from` on, which are due up to `due` (exclusive), as many as go in one batch. Returns how
    /// many were sent, and how many were refused for good.
    fn send(&mut self, plan: &Plan, from: u64, due: u64) -> (u64, u64);

    /// Hands what waits to the checker; returns how many datagrams there were.
    fn receive(&mut self, checker: &mut Checker) -> usize;

    /// Datagrams that our own queues dropped since the last call.
    fn own_drops(&mut self) -> u64;
}

/// Runs a plan. `watched` are processes whose run time is accounted; `progress` gets a line a second.
pub(super) fn run(
    transport: &mut impl Transport,
    flows: &[Flow],
    plan: Plan,
    watched: &[u32],
    mut progress: impl FnMut(String),
) -> Outcome {
    let start_ns = clock::now_ns() + 1_000_000;
    // Beyond this the rest is given up: the run is bounded.
    let planned_ns = plan.due_ns(plan.packets());
    let last_ns = start_ns + 4 * planned_ns + 2_000_000_000;
    let slots = Slots::new(Slots::bits(last_ns - start_ns));
    let mut checker =
        Checker::new(&flows[..plan.flows as usize], plan.payload_bytes, plan.warm_index(), start_ns, slots);
    let mut schedule = Schedule::new(plan, start_ns);
    transport.own_drops();
    let mut lateness = Histogram::new();
    let (packets, warm) = (plan.packets(), plan.warm_packets());
    let (mut next, mut sent, mut send_errors) = (0, 0, 0);
    let (mut cores, mut begun) = (Watched::new(watched), false);
    let (mut second_ns, mut before) = (start_ns + 1_000_000_000, (0, 0));
    while next < packets {
        let now_ns = clock::now_ns();
        if now_ns > last_ns {
            break;
        }
        let due = schedule.due(next, now_ns);
        if due.held_up {
            checker.slots.hold_up(now_ns - start_ns, due.late_ns);
        }
        if next < due.until {
            if next >= warm && !begun {
                cores.look();
                begun = true;
            }
            let (gone, refused) = transport.send(&plan, next, due.until);
            if next >= warm {
                lateness.record_n(due.late_ns, gone);
                checker.slots.send(now_ns - start_ns, gone);
                sent += gone;
                send_errors += refused;
            }
            next += gone + refused;
        }
        let received = transport.receive(&mut checker);
        if now_ns >= second_ns {
            let now = (sent, checker.received.unique);
            progress(format!(
                "{:>4} s  sent {}/s  received {}/s  wrong {} stray {} duplicate {} reordered {}  own lateness p99.9 {:.0} us",
                (now_ns - start_ns) / 1_000_000_000,
                now.0 - before.0,
                now.1 - before.1,
                checker.received.wrong,
                checker.received.stray,
                checker.received.duplicate,
                checker.received.reordered,
                lateness.us(99.9),
            ));
            before = now;
            second_ns += 1_000_000_000;
        }
        if received == 0 && next < packets {
            rest_until(schedule.at_ns(next));
        }
    }
    cores.look();
    drain(transport, &mut checker);
    Outcome {
        plan,
        sent,
        send_errors,
        unsent: packets - next,
        own_drops: transport.own_drops(),
        received: checker.received,
        silent: checker.silent(),
        account: checker.slots.account(),
        lateness,
        moved_ns: schedule.counted_ns,
        largest_burst: 0,
        watched_cores: cores.cores(),
    }
}

/// Waits for what is still on its way: until nothing has come for a while. A relay that lagged behind has seconds of packets
/// in its buffers.
fn drain(transport: &mut impl Transport, checker: &mut Checker) {
    let begun_ns = clock::now_ns();
    let mut last_ns = begun_ns;
    loop {
        let now_ns = clock::now_ns();
        if transport.receive(checker) > 0 {
            last_ns = now_ns;
        }
        if now_ns - last_ns > QUIET_NS || now_ns - begun_ns > LONGEST_DRAIN_NS {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Sleeps if there is time; wakes early, because waking is late by up to 0.1 ms, and lets the caller look again.
fn rest_until(due_ns: u64) {
    let left_ns = due_ns.saturating_sub(clock::now_ns());
    if left_ns > 2 * WAKE_NS {
        // Not for long: what arrives is to be taken from the queue.
        std::thread::sleep(Duration::from_nanos((left_ns - WAKE_NS).min(500_000)));
    }
}

const WAKE_NS: u64 = 120_000;
const QUIET_NS: u64 = 200_000_000;
const LONGEST_DRAIN_NS: u64 = 8_000_000_000;
