use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::limit::Limit;
use super::peers::{Links, Peer, PeerRoute, Tracked};
use super::table::{Asked, Table};
use super::*;
use crate::netlink::{Link, Neighbour, NeighbourState, Route, VlanLink};

const INTERFACE: u32 = 3;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn numbered(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

fn known(number: u8) -> Way {
    let hop = Hop {
        source_mac: MacAddress([2, 0, 0, 0, 1, number]),
        destination_mac: MacAddress([2, 0, 0, 0, 2, number]),
        vlan: (number % 2 == 1).then(|| u16::from(number)),
    };
    let source = (number % 3 == 1).then(|| IpAddr::from([192, 0, 2, number]));
    Way::Known(NextHop { hop, interface: INTERFACE, source })
}

fn link(index: u32, vlan: Option<VlanLink>) -> Link {
    let mac = Some(MacAddress([2, 0, 0, 0, 0, index as u8]));
    Link { index, name: format!("l{index}"), mac, up: true, mtu: 1500, vlan, programs: [0; 4] }
}

fn links(links: impl IntoIterator<Item = Link>) -> Links {
    Links { interface: INTERFACE, by_index: links.into_iter().map(|link| (link.index, link)).collect() }
}

fn heard(state: NeighbourState, mac: Option<u8>) -> Neighbour {
    let mac = mac.map(|last| MacAddress([2, 0, 0, 0, 9, last]));
    Neighbour { interface: INTERFACE, ip: ip("192.0.2.1"), mac, state }
}

#[test]
fn the_table_says_what_was_written() {
    let table = Table::new();
    assert_eq!(table.lookup(ip("192.0.2.1"), INTERFACE), None);
    // What an empty slot looks like is no entry.
    assert_eq!(table.lookup(ip("::"), INTERFACE), None);
    let ways = [known(0), known(1), known(4), Way::Elsewhere, Way::Unknown];
    for (number, way) in (0..).zip(ways) {
        let (slot, former) = table.place(numbered(number));
        assert_eq!(former, None);
        table.write(slot, numbered(number), &way);
        assert_eq!(table.lookup(numbered(number), INTERFACE), Some(way));
        table.clear(slot);
        assert_eq!(table.lookup(numbered(number), INTERFACE), None);
    }
}

#[test]
fn an_ipv4_address_and_its_mapped_form_are_one_peer() {
    let table = Table::new();
    let (slot, _) = table.place(ip("192.0.2.1"));
    table.write(slot, ip("192.0.2.1"), &known(2));
    assert_eq!(table.lookup(ip("::ffff:192.0.2.1"), INTERFACE), Some(known(2)));
    assert_eq!(table.lookup(ip("::192.0.2.1"), INTERFACE), None);
}

#[test]
fn a_full_set_gives_up_what_was_looked_up_the_longest_ago() {
    let table = Table::new();
    // One busy peer among so many others that its set overflows.
    let busy = ip("198.51.100.1");
    let (slot, _) = table.place(busy);
    table.write(slot, busy, &known(2));
    let mut evicted = 0;
    for number in 0..80_000 {
        table.next_round();
        assert_eq!(table.lookup(busy, INTERFACE), Some(known(2)), "after {number} others");
        let (slot, former) = table.place(numbered(number));
        if let Some(former) = former {
            evicted += 1;
            assert_eq!(table.lookup(former, INTERFACE), Some(Way::Elsewhere));
            table.clear(slot);
            assert_eq!(table.lookup(former, INTERFACE), None);
        }
        table.write(slot, numbered(number), &Way::Elsewhere);
        table.touch(slot);
    }
    assert!(evicted >= 80_000 - 65_536, "{evicted}");
}

#[test]
fn a_reader_never_sees_half_an_entry() {
    let table = Table::new();
    let remote = ip("2001:db8::1");
    let (slot, _) = table.place(remote);
    let (stop, torn, seen) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Some(Way::Known(hop)) = table.lookup(remote, INTERFACE) {
                    let number = hop.hop.destination_mac.0[5];
                    if Way::Known(hop) != known(number) {
                        torn.store(true, Ordering::Relaxed);
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // However late the reader gets its turn.
        let mut turn = 0u32;
        while turn < 300_000 || seen.load(Ordering::Relaxed) < 1000 {
            turn = turn.wrapping_add(1);
            match turn % 64 {
                0 => table.clear(slot),
                number => table.write(slot, remote, &known(number as u8)),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!torn.into_inner());
}

#[test]
fn what_is_asked_for_is_asked_for_once() {
    let asked = Asked::new();
    let resolve = Request::Resolve(ip("192.0.2.1"));
    let learn = Request::Learn(ip("192.0.2.1"), MacAddress([2, 0, 0, 0, 0, 1]));
    assert!(asked.mark(&resolve) && !asked.mark(&resolve));
    assert!(asked.mark(&learn) && !asked.mark(&learn));
    asked.clear(&resolve);
    assert!(asked.mark(&resolve));
}

#[test]
fn a_limit_allows_its_burst_and_then_its_rate() {
    let start = Instant::now();
    let mut limit = Limit::new(3, 10, start);
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!([0, 0, 0, 0, 50].map(|ms| limit.take(at(ms))), [true, true, true, false, false]);
    assert_eq!([100, 100, 200].map(|ms| limit.take(at(ms))), [true, false, true]);
    // After a long rest the burst is there again, and no more than that.
    assert_eq!([9000; 4].map(|ms| limit.take(at(ms))), [true, true, true, false]);
}

#[test]
fn a_vlan_of_the_interface_carries_its_tag_and_its_own_mac() {
    let vlan = |parent| Some(VlanLink { parent, id: 100 });
    let links = links([link(3, None), link(7, vlan(3)), link(8, vlan(4)), link(4, None)]);
    let through = |interface| Route::Through { interface, gateway: None, source: None };
    let remote = ip("192.0.2.1");
    for foreign in [4, 8, 99] {
        assert_eq!(PeerRoute::new(remote, through(foreign), &links), PeerRoute::Elsewhere, "{foreign}");
    }
    let neighbours = HashMap::from([((7, remote), Tracked::new())]);
    let route = PeerRoute::new(remote, through(7), &links);
    let (slot, _) = Table::new().place(remote);
    let learned = Some((MacAddress([2, 0, 0, 0, 9, 9]), Instant::now()));
    let peer = Peer { slot, route, learned, way: Way::Unknown, queued: false };
    let Way::Known(hop) = peer.current(&links, &neighbours) else { panic!("it was learned") };
    assert_eq!((hop.interface, hop.hop.vlan), (3, Some(100)));
    assert_eq!(hop.hop.source_mac, MacAddress([2, 0, 0, 0, 0, 7]));
}

#[test]
fn a_silent_neighbour_keeps_its_mac_for_a_while() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut tracked = Tracked::new();
    assert!(tracked.is_due(at(0)), "a new one is asked for");
    tracked.asked(at(0));
    assert!(!tracked.is_due(at(1)) && tracked.is_due(at(2)));
    assert!(tracked.update(&heard(NeighbourState::Reachable, Some(1)), at(2)));
    assert!(!tracked.is_due(at(9)), "the kernel is sure");
    assert!(!tracked.update(&heard(NeighbourState::Stale, Some(1)), at(30)));
    assert!(tracked.is_due(at(30)), "it must be verified");
    tracked.asked(at(30));
    assert!(!tracked.update(&heard(NeighbourState::Failed, None), at(38)), "its MAC is kept");
    assert!(tracked.is_due(at(38)), "everyone is asked at once");
    assert!(!tracked.give_up(at(41)) && tracked.mac.is_some());
    assert!(tracked.give_up(at(42)) && tracked.mac.is_none());
    assert!(!tracked.give_up(at(43)));
    assert!(tracked.update(&heard(NeighbourState::Reachable, Some(2)), at(50)), "it is back");
    assert!(!tracked.give_up(at(99)));
    tracked.in_use = false;
    assert!(!tracked.update(&heard(NeighbourState::Stale, Some(2)), at(99)) && !tracked.is_due(at(99)));
}

#[test]
fn a_neighbour_that_never_answers_is_asked_for_ever_more_seldom() {
    let start = Instant::now();
    let mut tracked = Tracked::new();
    let _ = tracked.update(&heard(NeighbourState::Failed, None), start);
    let mut asked = Vec::new();
    for second in 0..200 {
        let now = start + Duration::from_secs(second);
        if tracked.is_due(now) {
            asked.push(second);
            tracked.asked(now);
            // Each attempt fails after three seconds.
            let _ = tracked.update(&heard(NeighbourState::Incomplete, None), now);
            let _ = tracked.update(&heard(NeighbourState::Failed, None), now + Duration::from_secs(3));
        }
    }
    assert_eq!(asked, [0, 2, 6, 14, 30, 62, 94, 126, 158, 190]);
}

proptest! {
    // A table is 4 MiB.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_table_equals_a_map(steps in proptest::collection::vec((0u32..40, 0u8..60, any::<bool>()), 1..300)) {
        let table = Table::new();
        let mut model = HashMap::new();
        for (number, way, remove) in steps {
            let remote = numbered(number);
            let way = match way { 58 => Way::Elsewhere, 59 => Way::Unknown, number => known(number) };
            match model.remove(&remote) {
                Some((slot, _)) if remove => table.clear(slot),
                Some((slot, _)) => {
                    table.write(slot, remote, &way);
                    model.insert(remote, (slot, way));
                }
                None => {
                    let (slot, former) = table.place(remote);
                    prop_assert_eq!(former, None);
                    table.write(slot, remote, &way);
                    model.insert(remote, (slot, way));
                }
            }
            for number in 0..40 {
                let expected = model.get(&numbered(number)).map(|(_, way)| *way);
                prop_assert_eq!(table.lookup(numbered(number), INTERFACE), expected);
            }
        }
    }
}
