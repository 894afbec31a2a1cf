//! Who is heard: latching, strangers before and after, malformed packets, silent and forbidden addresses.

mod support;

use engine::stream::{App, Component, Refusal, SourcePolicy, StreamEvent};
use engine::time::Instant;
use support::{CALLER, Datagram, ENGINE, Link, Phone, STRANGER, World, address, parameters, rtcp_of, talk};

fn world() -> World {
    let mut world = World::new(Link::default(), 1);
    world.add(address(ENGINE), parameters(address(CALLER)), App::Echo, 0);
    world
}

fn heard(world: &World, phone: &Phone) -> usize {
    let sent = world.rtp_from(phone.at);
    let out = world.rtp_from(address(ENGINE));
    out.iter().filter(|(.., payload)| sent.iter().any(|(.., own)| own == payload)).count()
}

fn stranger() -> Phone {
    let mut phone = Phone::new(STRANGER, 40_000, 7, 160);
    phone.header.ssrc = 666;
    phone
}

/// Both talk, the second right after the first.
fn talk_together(world: &mut World, first: &mut Phone, second: &mut Phone, packets: usize) {
    for _ in 0..packets {
        for phone in [&mut *first, &mut *second] {
            let datagram = phone.talk();
            world.send(datagram);
        }
        world.run_for(20);
    }
}

#[test]
fn stranger_after_the_latch_is_counted_and_never_heard() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let mut stranger = stranger();
    talk(&mut world, &mut phone, 10);
    talk_together(&mut world, &mut stranger, &mut phone, 200);
    assert_eq!(heard(&world, &stranger), 0);
    assert!(heard(&world, &phone) >= 208);
    let statistics = world.nodes[0].stream.statistics();
    assert_eq!(statistics.stranger_packets, 200);
    assert_eq!(statistics.concealed_frames, 0);
    assert!(
        world.sent.iter().all(|(_, datagram)| datagram.to != stranger.at),
        "nothing leaks to the stranger"
    );
}

#[test]
fn stranger_with_the_same_ssrc_and_sequence_is_not_heard_either() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 10);
    let mut copycat = phone.clone();
    copycat.at = address(STRANGER);
    let datagram = copycat.say(&[0x55; 160]);
    world.send(datagram);
    talk(&mut world, &mut phone, 100);
    assert!(world.rtp_from(address(ENGINE)).iter().all(|(.., payload)| payload != &[0x55; 160]));
    assert_eq!(world.nodes[0].stream.statistics().lost_packets, 0);
}

#[test]
fn stranger_before_the_signalled_address_is_not_heard_while_learning() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let mut stranger = stranger();
    // Two packets before the caller's first: one short of enough.
    talk(&mut world, &mut stranger, 2);
    talk_together(&mut world, &mut phone, &mut stranger, 50);
    assert_eq!(heard(&world, &stranger), 0);
    assert!(heard(&world, &phone) >= 49);
    assert_eq!(world.nodes[0].stream.latched(), Some(address(CALLER)));
}

#[test]
fn spray_of_strangers_does_not_keep_the_caller_out() {
    let mut world = world();
    for n in 0..500u16 {
        let mut one = stranger();
        one.at.set_port(10_000 + n);
        one.header.ssrc = u32::from(n);
        let datagram = one.talk();
        world.send(datagram);
    }
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 20);
    assert!(heard(&world, &phone) >= 19);
    assert_eq!(world.nodes[0].stream.statistics().refusals.count(Refusal::Learning), 500);
}

#[test]
fn caller_behind_nat_is_learned_after_three_packets_and_answered_there() {
    let mut world = world();
    let mut phone = Phone::new("203.0.113.9:12345", 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    assert_eq!(world.nodes[0].stream.latched(), Some(phone.at));
    assert!(heard(&world, &phone) >= 47);
    assert!(world.rtp_to(phone.at).len() >= 47);
    let latched: Vec<_> =
        world.nodes[0].events.iter().filter(|(_, e)| matches!(e, StreamEvent::Latched(_))).collect();
    assert!(matches!(latched[..], [(_, StreamEvent::Latched(at))] if *at == phone.at), "{latched:?}");
}

#[test]
fn strict_source_hears_nobody_else() {
    let mut world = World::new(Link::default(), 1);
    let mut own = parameters(address(CALLER));
    own.source_policy = SourcePolicy::Strict;
    world.add(address(ENGINE), own, App::Echo, 0);
    let mut stranger = stranger();
    talk(&mut world, &mut stranger, 50);
    assert_eq!(heard(&world, &stranger), 0);
    assert_eq!(world.nodes[0].stream.latched(), None);
}

#[test]
fn update_to_another_address_relearns_and_the_same_address_does_not() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 20);
    let now = world.local(0);
    world.nodes[0].stream.update(now, parameters(address(CALLER)));
    assert_eq!(world.nodes[0].stream.latched(), Some(address(CALLER)));

    let mut moved = Phone::new("192.0.2.1:5000", 9000, 5_000_000, 160);
    moved.header.ssrc = 5;
    world.nodes[0].stream.update(now, parameters(moved.at));
    assert_eq!(world.nodes[0].stream.latched(), None);
    talk_together(&mut world, &mut phone, &mut moved, 50);
    assert_eq!(world.nodes[0].stream.latched(), Some(moved.at));
    assert!(heard(&world, &moved) >= 49);
    let before = world.rtp_to(phone.at).len();
    world.run_for(200);
    assert_eq!(world.rtp_to(phone.at).len(), before, "the old address gets nothing any more");
}

#[test]
fn new_ssrc_of_the_source_is_heard_from_its_second_packet_on() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    let mut again = Phone::new(CALLER, 33_333, 3_000_000_000, 160);
    again.header.ssrc = 9;
    talk(&mut world, &mut again, 50);
    assert!(heard(&world, &again) >= 48, "{}", heard(&world, &again));
    let statistics = world.nodes[0].stream.statistics();
    assert_eq!(statistics.refusals.count(Refusal::Probation), 1);
    assert_eq!(statistics.lost_packets, 0);
}

#[test]
fn second_ssrc_beside_the_first_does_not_tear_the_audio() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 5);
    let mut other = Phone::new(CALLER, 500, 77, 160);
    other.header.ssrc = 9;
    talk_together(&mut world, &mut phone, &mut other, 100);
    assert!(heard(&world, &phone) >= 104);
    assert_eq!(world.nodes[0].stream.statistics().concealed_frames, 0);
}

#[test]
fn malformed_packets_are_counted_and_harmless() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 10);
    let good = phone.talk().bytes;
    let with = |first: u8, second: u8, rest: &[u8]| [&[first, second], &good[2..12], rest].concat();
    let cases: [(Vec<u8>, Refusal); 11] = [
        (vec![], Refusal::TooShort),
        (good[..11].to_vec(), Refusal::TooShort),
        (with(0x00, 0, &good[12..]), Refusal::Version),
        (with(0x40, 0, &good[12..]), Refusal::Version),
        (with(0xC0, 0, &good[12..]), Refusal::Version),
        (with(0x8F, 0, &[0; 59]), Refusal::CsrcCount),
        (with(0x90, 0, &[0xBE, 0xDE, 0xFF, 0xFF, 1, 2]), Refusal::ExtensionLength),
        (with(0xA0, 0, &[1, 2, 3, 200]), Refusal::Padding),
        (with(0xA0, 0, &[1, 2, 3, 0]), Refusal::Padding),
        (with(0x80, 77, &[0; 160]), Refusal::PayloadType),
        (with(0x80, 0, &[]), Refusal::PayloadLength),
    ];
    for (bytes, refusal) in cases {
        let before = world.nodes[0].stream.statistics();
        world.send(Datagram { from: phone.at, to: address(ENGINE), bytes: bytes.clone() });
        world.run_for(1);
        let after = world.nodes[0].stream.statistics();
        assert_eq!(after.refusals.count(refusal), before.refusals.count(refusal) + 1, "{bytes:02x?}");
        assert_eq!(after.refused_packets, before.refused_packets + 1);
    }
    world.send(Datagram { from: phone.at, to: address(ENGINE), bytes: good });
    talk(&mut world, &mut phone, 50);
    // Those with unusable payload had the number of a good one, and so count as its duplicates.
    assert_eq!(world.nodes[0].stream.statistics().lost_packets, -2);
}

#[test]
fn garbage_never_panics_and_never_sends_anything_elsewhere() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    for round in 0..3000u64 {
        let length = world.random.next() as usize % 300;
        let mut bytes: Vec<u8> = (0..length).map(|_| world.random.next() as u8).collect();
        if let Some(first) = bytes.first_mut().filter(|_| round % 2 == 0) {
            *first = 0x80 | (*first & 0x3F);
        }
        let (from, to) = match round % 4 {
            0 | 1 => (phone.at, address(ENGINE)),
            2 => (rtcp_of(phone.at), rtcp_of(address(ENGINE))),
            _ => (address(STRANGER), address(ENGINE)),
        };
        let at = world.now;
        world.send_at(at, Datagram { from, to, bytes });
        if round % 20 == 0 {
            talk(&mut world, &mut phone, 1);
        }
    }
    assert!(world.sent.iter().all(|(_, d)| d.to != address(STRANGER)));
    // Forged packets of the caller's own address may have torn the stream, but it goes on.
    world.run_for(100);
    world.sent.clear();
    talk(&mut world, &mut phone, 100);
    assert!(heard(&world, &phone) > 80, "{}", heard(&world, &phone));
}

#[test]
fn address_that_never_answers_gets_media_for_ten_seconds_and_again_when_it_speaks() {
    let mut world = world();
    world.run_for(20_000);
    assert_eq!(world.rtp_from(address(ENGINE)).len(), 500);
    let rtcp =
        world.sent.iter().filter(|(at, d)| d.from.port() % 2 == 1 && *at > Instant::from_millis(11_100));
    assert_eq!(rtcp.count(), 0, "no RTCP either");
    // A stranger does not open the gate.
    let mut other = stranger();
    talk(&mut world, &mut other, 2);
    world.run_for(100);
    assert_eq!(world.rtp_from(address(ENGINE)).len(), 500);
    // Another address does, for its own ten seconds.
    let now = world.local(0);
    world.nodes[0].stream.update(now, parameters(address("192.0.2.77:4000")));
    world.run_for(15_000);
    assert_eq!(world.rtp_from(address(ENGINE)).len(), 1000);
    let mut phone = Phone::new("192.0.2.77:4000", 1, 1, 160);
    talk(&mut world, &mut phone, 5);
    world.run_for(15_000);
    assert!(world.rtp_from(address(ENGINE)).len() > 1700);
}

#[test]
fn host_that_never_answers_gets_no_more_however_signalling_turns() {
    let mut world = world();
    let sent_to = |world: &World, port| world.rtp_to(address(&format!("192.0.2.9:{port}"))).len();
    let update = |world: &mut World, remote: &str| {
        let now = world.local(0);
        world.nodes[0].stream.update(now, parameters(address(remote)));
    };
    // Other ports of the same host share its ten seconds; the caller's own packets between them, from its
    // signalled address or from another one, do not win it more.
    for round in 0..6u16 {
        update(&mut world, &format!("192.0.2.9:{}", 4000 + 2 * round));
        world.run_for(6000);
        if round % 2 == 0 {
            update(&mut world, CALLER);
        }
        let mut phone =
            Phone::new(if round % 2 == 0 { CALLER } else { "203.0.113.9:5" }, 1 + round * 100, 1, 160);
        talk(&mut world, &mut phone, 5);
    }
    let total: usize = (0..6).map(|round| sent_to(&world, 4000 + 2 * round)).sum();
    assert!((300..=500).contains(&total), "{total} packets");
    // And no call reaches many hosts.
    world.sent.clear();
    for host in 100..120 {
        update(&mut world, &format!("192.0.2.{host}:4000"));
        world.run_for(2000);
    }
    let reached: std::collections::BTreeSet<_> = world.sent.iter().map(|(_, sent)| sent.to.ip()).collect();
    assert!(reached.len() <= 4, "{reached:?}");
}

#[test]
fn rtcp_from_one_host_wins_no_media_for_another() {
    let mut world = World::new(Link::default(), 1);
    let mut own = parameters(address(CALLER));
    let reporter = address("203.0.113.5:4001");
    own.remote_rtcp = Some(reporter);
    world.add(address(ENGINE), own, App::Silence, 0);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 77, 0x81, 202, 0, 2, 0, 0, 0, 77, 1, 1, b'a', 0];
    for _ in 0..30 {
        world.send(Datagram { from: reporter, to: rtcp_of(address(ENGINE)), bytes: report.to_vec() });
        world.run_for(1000);
    }
    assert!(world.rtp_to(address(CALLER)).len() <= 501, "{}", world.rtp_to(address(CALLER)).len());
    assert_eq!(world.nodes[0].stream.statistics().refusals.count(Refusal::RtcpStranger), 0);
}

#[test]
fn rtcp_goes_to_another_host_than_media_only_after_it_has_spoken() {
    let mut world = World::new(Link::default(), 1);
    let mut own = parameters(address(CALLER));
    let reporter = address("203.0.113.5:4001");
    own.remote_rtcp = Some(reporter);
    world.add(address(ENGINE), own, App::Echo, 0);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 1000);
    let reports = |world: &World| world.sent.iter().filter(|(_, sent)| sent.to == reporter).count();
    assert_eq!(reports(&world), 0);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 77, 0x81, 202, 0, 2, 0, 0, 0, 77, 1, 1, b'a', 0];
    world.send(Datagram { from: reporter, to: rtcp_of(address(ENGINE)), bytes: report.to_vec() });
    talk(&mut world, &mut phone, 1000);
    assert!(reports(&world) >= 2);
}

#[test]
fn caller_takes_the_stream_back_from_a_stranger_who_was_faster() {
    let mut world = world();
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let mut stranger = stranger();
    talk(&mut world, &mut stranger, 5);
    assert_eq!(world.nodes[0].stream.latched(), Some(stranger.at));
    assert_eq!(world.nodes[0].stream.settled(), None, "no socket is connected to it");
    let leaked = world.rtp_to(stranger.at).len();
    talk_together(&mut world, &mut phone, &mut stranger, 100);
    assert_eq!(world.nodes[0].stream.settled(), Some(phone.at));
    assert!(heard(&world, &phone) >= 98, "{}", heard(&world, &phone));
    assert!(heard(&world, &stranger) <= 5);
    assert!(world.rtp_to(stranger.at).len() <= leaked + 1);
}

#[test]
fn forbidden_addresses_get_nothing() {
    for text in ["224.0.0.1:4000", "255.255.255.255:4000", "0.0.0.0:4000", "[ff02::1]:4000", "192.0.2.1:0"] {
        let mut world = World::new(Link::default(), 1);
        world.add(address(ENGINE), parameters(address(text)), App::Silence, 0);
        world.run_for(6000);
        assert!(world.sent.is_empty(), "{text}");
        assert!(world.nodes[0].stream.statistics().refusals.count(Refusal::ForbiddenDestination) > 0);
    }
}

#[test]
fn nothing_is_sent_before_the_peer_has_named_its_address() {
    let mut world = World::new(Link::default(), 1);
    let mut own = parameters(address(CALLER));
    (own.remote_rtp, own.remote_rtcp) = (None, None);
    world.add(address(ENGINE), own, App::Silence, 0);
    world.run_for(6000);
    assert!(world.sent.is_empty());
    let now = world.local(0);
    world.nodes[0].stream.update(now, parameters(address(CALLER)));
    world.run_for(200);
    assert_eq!(world.rtp_from(address(ENGINE)).len(), 10);
}

#[test]
fn stream_outside_its_life_refuses_packets() {
    let mut stream = engine::stream::Stream::new(parameters(address(CALLER)));
    let mut packet = Phone::new(CALLER, 1, 1, 160).talk().bytes;
    stream.handle_packet(Instant::from_millis(5), Component::Rtp, address(CALLER), &mut packet);
    assert_eq!(stream.statistics().refusals.count(Refusal::NotRunning), 1);
    assert_eq!(stream.poll_timeout(), None);
    assert!(stream.poll_transmit(&mut [0; 1500]).is_none());
}
