//! What is forwarded, and how.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xdp::bpf::Mode;
use xdp::program::{Event, KernelFlow, Options};
use xdp::{FlowCounters, PayloadTypes, Rewriting, Unpromoted};

use crate::frames::{Checksum, Frame, Read, checksums, complete, read, rtp};
use crate::{Bench, PASS, REDIRECT};

pub(crate) const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
pub(crate) const OUT: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

/// A flow of RTP with payload types 7 and 101 from the peer to the other leg's peer.
pub(crate) fn flow(ipv6: bool) -> KernelFlow {
    let mut payload_types = PayloadTypes::default();
    payload_types.insert(7);
    payload_types.insert(101);
    let address = |ipv4: &str, address_v6: &str| (if ipv6 { address_v6 } else { ipv4 }).parse().unwrap();
    KernelFlow {
        source: address("198.51.100.7:4000", "[2001:db8:7::7]:4000"),
        local: address("192.0.2.1:30002", "[2001:db8::1]:30002"),
        remote: address("203.0.113.9:5004", "[2001:db8:9::9]:5004"),
        // There is no such interface: a test run only says that it would go there.
        interface: 12_345,
        source_mac: OUT,
        next_hop_mac: NEXT_HOP,
        vlan: None,
        payload_types,
        rewriting: Rewriting::default(),
    }
}

/// A frame of that flow.
pub(crate) fn frame(ipv6: bool) -> Frame {
    let (source, destination) = if ipv6 {
        ("[2001:db8:7::7]:4000", "[2001:db8::1]:30000")
    } else {
        ("198.51.100.7:4000", "192.0.2.1:30000")
    };
    Frame::new(source, destination)
}

fn promoted(test: &str, flow: &KernelFlow) -> Option<Bench> {
    let bench = Bench::or_skip(test, Options::default())?;
    let local = if flow.source.is_ipv6() { "2001:db8::1" } else { "192.0.2.1" };
    bench.program.ports().open(30_000, local.parse().unwrap()).unwrap();
    bench.program.ports().promote(30_000, flow).unwrap();
    Some(bench)
}

/// Flows with everything that can be rewritten, and frames of each with what is to become of them.
pub(crate) fn cases(ipv6: bool) -> impl Iterator<Item = (KernelFlow, Vec<(Frame, Read)>)> {
    let rewritings = [
        Rewriting::default(),
        Rewriting { ssrc: Some(0x0102_0304), ..Rewriting::default() },
        Rewriting { sequence_offset: 65_000, ..Rewriting::default() },
        Rewriting { timestamp_offset: 0xffff_ff00, ..Rewriting::default() },
        Rewriting { ssrc: Some(0xffff_ffff), sequence_offset: 1, timestamp_offset: 3_000_000_000 },
    ];
    let tags = [(None, None), (Some(7), None), (None, Some(4094)), (Some(7), Some(8))];
    let other = if ipv6 { "[2001:db8::9]:40000" } else { "192.0.2.9:40000" };
    let locals = [flow(ipv6).local, other.parse().unwrap()];
    rewritings.into_iter().flat_map(move |rewriting| {
        tags.into_iter().flat_map(move |(tag, vlan)| {
            locals.into_iter().map(move |local| {
                let flow = KernelFlow { rewriting, vlan, local, ..flow(ipv6) };
                (flow, frames_of(&flow, tag))
            })
        })
    })
}

/// Frames of all lengths and checksums, in a VLAN or not.
fn frames_of(flow: &KernelFlow, tag: Option<u16>) -> Vec<(Frame, Read)> {
    let ipv6 = flow.source.is_ipv6();
    let checksums = [Checksum::Right, Checksum::Partial, Checksum::Absent];
    // IPv6 has no datagrams without a checksum.
    let checksums = &checksums[..if ipv6 { 2 } else { 3 }];
    let lengths = [0, 1, 2, 3, 4, 15, 16, 17, 33, 160, 161, 1400];
    checksums
        .iter()
        .flat_map(|checksum| lengths.iter().map(move |audio| (*checksum, *audio)))
        .map(|(checksum, audio)| {
            let payload_type = if audio & 1 == 0 { 7 } else { 101 };
            let sent = frame(ipv6).with(|frame| {
                frame.tags = tag.map(|vlan| (0x8100, vlan)).into_iter().collect();
                frame.checksum = checksum;
                frame.payload = rtp(1, payload_type, 1000, 160_000, 0xdead_beef, audio);
                frame.padding = if audio == 33 { 7 } else { 0 };
            });
            let new = flow.rewriting;
            let expected = Read {
                macs: [NEXT_HOP, OUT],
                vlan: flow.vlan,
                source: flow.local,
                destination: flow.remote,
                hop_limit: 64,
                unchecked: checksum == Checksum::Absent,
                payload: rtp(
                    1,
                    payload_type,
                    1000_u16.wrapping_add(new.sequence_offset),
                    160_000_u32.wrapping_add(new.timestamp_offset),
                    new.ssrc.unwrap_or(0xdead_beef),
                    audio,
                ),
            };
            (sent, expected)
        })
        .collect()
}

#[test]
fn everything_that_the_flow_says_is_rewritten() {
    let test = "everything_that_the_flow_says_is_rewritten";
    for ipv6 in [false, true] {
        let Some(bench) = promoted(test, &flow(ipv6)) else { return };
        for (flow, frames) in cases(ipv6) {
            bench.program.ports().promote(30_000, &flow).unwrap();
            for (sent, expected) in frames {
                let outcome = bench.program.test(Mode::Native, &sent.bytes(), None).unwrap();
                let context = format!("{sent:?} {flow:?}");
                assert_eq!(outcome.verdict, REDIRECT, "{context}");
                assert_eq!(read(&outcome.frame), expected, "{context}");
            }
        }
    }
}

#[test]
fn behind_the_driver_a_partial_checksum_stays_partial() {
    let test = "behind_the_driver_a_partial_checksum_stays_partial";
    for ipv6 in [false, true] {
        let Some(bench) = promoted(test, &flow(ipv6)) else { return };
        for (flow, frames) in cases(ipv6) {
            bench.program.ports().promote(30_000, &flow).unwrap();
            for (sent, expected) in frames {
                let mut frame = bench.program.test(Mode::Generic, &sent.bytes(), None).unwrap().frame;
                if sent.checksum == Checksum::Partial {
                    assert!(checksums(&frame).partial, "{sent:?} {flow:?}");
                    complete(&mut frame);
                }
                assert_eq!(read(&frame), expected, "{sent:?} {flow:?}");
            }
        }
    }
}

/// What comes to the port of a flow and is not of it.
pub(crate) fn not_covered(ipv6: bool) -> Vec<(&'static str, Frame, Event)> {
    let payload = |payload: Vec<u8>| frame(ipv6).with(|frame| frame.payload = payload);
    let with_first = |byte: u8| {
        let mut packet = rtp(0, 7, 1, 1, 1, 20);
        packet[0] = byte;
        payload(packet)
    };
    let stranger = payload(rtp(0, 7, 1, 1, 1, 20)).with(|frame| frame.source.set_port(1));
    let mut cases = vec![
        ("another payload type", payload(rtp(0, 8, 1, 1, 1, 160)), Event::RaisedPayloadType),
        ("payload type 100", payload(rtp(1, 100, 1, 1, 1, 160)), Event::RaisedPayloadType),
        ("payload type 127", payload(rtp(1, 127, 1, 1, 1, 160)), Event::RaisedPayloadType),
        ("a sender report", payload(rtp(1, 72, 1, 1, 1, 16)), Event::RaisedControl),
        ("a receiver report", payload(rtp(1, 73, 1, 1, 1, 16)), Event::RaisedControl),
        ("BYE of 8 bytes", payload(vec![0x81, 203, 0, 1, 0, 0, 0, 1]), Event::RaisedOther),
        ("too short for RTP", payload(rtp(0, 7, 1, 1, 1, 0)[..11].to_vec()), Event::RaisedOther),
        ("empty", payload(Vec::new()), Event::RaisedOther),
        ("RTP version 1", with_first(0x40), Event::RaisedOther),
        ("STUN", with_first(0x00), Event::RaisedOther),
        ("DTLS", with_first(22), Event::RaisedOther),
        ("longer than Ethernet", payload(rtp(0, 7, 1, 1, 1, 1461)), Event::RaisedOther),
        ("a stranger", stranger, Event::DroppedStrangers),
    ];
    if ipv6 {
        let unchecked = frame(true).with(|frame| frame.checksum = Checksum::Absent);
        cases.push(("IPv6 without a checksum", unchecked, Event::RaisedOther));
    }
    cases
}

#[test]
fn what_the_flow_does_not_cover_comes_to_user_space_untouched() {
    let test = "what_the_flow_does_not_cover_comes_to_user_space_untouched";
    for ipv6 in [false, true] {
        let Some(bench) = promoted(test, &flow(ipv6)) else { return };
        for (name, frame, event) in not_covered(ipv6) {
            let bytes = frame.bytes();
            let outcome = bench.run(&bytes);
            assert_eq!(outcome.event, Some(event), "{name}");
            assert_eq!(outcome.frame, bytes, "{name}");
        }
        let counters = bench.program.ports().counters(30_000).unwrap();
        assert_eq!((counters.packets, counters.strangers, counters.last_seen), (0, 1, None));
        assert_eq!(bench.program.counters().unwrap().forwarded, 0);
    }
}

#[test]
fn a_flow_is_counted_as_rtcp_wants_to_know_it() {
    let test = "a_flow_is_counted_as_rtcp_wants_to_know_it";
    let Some(bench) = promoted(test, &flow(false)) else { return };
    let ports = bench.program.ports();
    let send = |sequence: u16, ssrc: u32| {
        let sent = frame(false).with(|frame| frame.payload = rtp(0, 7, sequence, 5000, ssrc, 160));
        assert_eq!(bench.run(&sent.bytes()).verdict, REDIRECT);
        ports.counters(30_000).unwrap()
    };
    let seen = |counters: FlowCounters| {
        (counters.packets, counters.ssrc, counters.first_sequence, counters.highest_sequence)
    };
    let before = monotonic();
    assert_eq!(seen(send(65_534, 9)), (1, 9, 65_534, 65_534));
    let counters = ports.counters(30_000).unwrap();
    let last_seen = counters.last_seen.unwrap();
    // A tick is 125 us, and its rate 8 millionths off.
    let slack = Duration::from_millis(2);
    assert!(before < last_seen + slack && last_seen < monotonic() + slack, "{before:?} {last_seen:?}");
    assert_eq!((counters.bytes, counters.jitter), (172, 0));
    assert_eq!(seen(send(65_535, 9)), (2, 9, 65_534, 65_535));
    assert_eq!(seen(send(1, 9)), (3, 9, 65_534, 65_537));
    assert_eq!(seen(send(0, 9)), (4, 9, 65_534, 65_537), "late");
    assert_eq!(seen(send(1, 9)), (5, 9, 65_534, 65_537), "twice");
    assert_eq!(seen(send(32_000, 9)), (6, 9, 65_534, 65_536 + 32_000), "many lost");
    assert_eq!(seen(send(64_000, 9)), (7, 9, 65_534, 65_536 + 64_000));
    assert_eq!(seen(send(3, 9)), (8, 9, 65_534, 131_075), "the second time around");
    assert_eq!(seen(send(777, 10)), (9, 10, 777, 777), "another SSRC begins anew");
    assert_eq!(bench.program.counters().unwrap().forwarded, 9);

    let ended = ports.demote(30_000).unwrap();
    assert_eq!((seen(ended), ended.bytes), ((9, 10, 777, 777), 9 * 172));
    assert_eq!((ports.demote(30_000), ports.counters(30_000)), (None, None));
    assert_eq!(bench.program.counters().unwrap().forwarded, 9, "kept when the flow ends");
    ports.promote(30_000, &flow(false)).unwrap();
    assert_eq!(ports.counters(30_000), Some(FlowCounters::default()));
    assert_eq!(seen(send(5, 9)), (1, 9, 5, 5));
    assert_eq!(bench.program.counters().unwrap().forwarded, 10);
}

#[test]
fn jitter_is_that_of_the_standard() {
    let test = "jitter_is_that_of_the_standard";
    let Some(bench) = promoted(test, &flow(false)) else { return };
    // Timestamps a second apart, packets at once: the transit time changes by almost 8,000 ticks each time.
    let mut jitter = 0;
    for number in 0..20_u32 {
        let sent = frame(false).with(|frame| frame.payload = rtp(0, 7, number as u16, number * 8000, 9, 160));
        bench.run(&sent.bytes());
        let seen = bench.program.ports().counters(30_000).unwrap().jitter;
        if number > 0 {
            jitter += 8000 - ((jitter + 8) >> 4);
        }
        // A quarter of a second in all is allowed to a machine that stops now and then.
        assert!(seen <= jitter && seen + 2000 >= jitter, "{number}: {seen} of {jitter}");
    }
    assert!(jitter > 80_000);
}

#[test]
fn a_flow_ends_with_its_connection_its_port_and_its_replacement() {
    let test = "a_flow_ends_with_its_connection_its_port_and_its_replacement";
    let Some(bench) = promoted(test, &flow(false)) else { return };
    let ports = bench.program.ports();
    let bytes = frame(false).bytes();
    let forwarded = || bench.run(&bytes).verdict == REDIRECT;
    assert!(forwarded());
    ports.connect(30_000, Some(flow(false).source));
    assert!(forwarded(), "nothing new");
    ports.connect(30_000, None);
    assert!(!forwarded() && ports.counters(30_000).is_none());
    assert_eq!(bench.run(&bytes).event, Some(Event::Redirected));
    ports.promote(30_000, &flow(false)).unwrap();
    ports
        .promote(30_000, &KernelFlow { source: "198.51.100.8:4000".parse().unwrap(), ..flow(false) })
        .unwrap();
    assert_eq!(bench.run(&bytes).event, Some(Event::DroppedStrangers));
    ports.promote(30_000, &flow(false)).unwrap();
    assert!(forwarded());
    ports.close(30_000);
    assert_eq!(bench.run(&bytes).event, Some(Event::PassedPort));
    assert_eq!(ports.promote(30_000, &flow(false)), Err(Unpromoted::Port));
    // A flow that leaves from an address that was taken away is left to user space.
    ports.open(30_000, "192.0.2.1".parse().unwrap()).unwrap();
    ports.promote(30_000, &KernelFlow { local: "192.0.2.9:1".parse().unwrap(), ..flow(false) }).unwrap();
    assert!(forwarded());
    bench.program.remove_address("192.0.2.9".parse().unwrap()).unwrap();
    assert_eq!(bench.run(&bytes).event, Some(Event::RaisedOther));
}

#[test]
fn no_packet_leaves_with_half_of_one_flow_and_half_of_another() {
    let test = "no_packet_leaves_with_half_of_one_flow_and_half_of_another";
    for ipv6 in [false, true] {
        let first = flow(ipv6);
        let second = KernelFlow {
            local: if ipv6 { "[2001:db8::9]:7777" } else { "192.0.2.9:7777" }.parse().unwrap(),
            remote: if ipv6 { "[2001:db8:5::5]:6666" } else { "203.0.113.5:6666" }.parse().unwrap(),
            source_mac: [2; 6],
            next_hop_mac: [4; 6],
            rewriting: Rewriting { ssrc: Some(1), sequence_offset: 2, timestamp_offset: 3 },
            vlan: Some(9),
            ..first
        };
        let Some(bench) = promoted(test, &first) else { return };
        let bytes = frame(ipv6).bytes();
        let run = || bench.program.test(Mode::Native, &bytes, None).unwrap();
        let ports = bench.program.ports();
        let whole = [first, second].map(|flow| {
            ports.promote(30_000, &flow).unwrap();
            run().frame
        });
        let done = AtomicBool::new(false);
        let (mut forwarded, mut raised) = ([0; 2], 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Each state for some hundred nanoseconds to some microseconds.
                let hold = |turns: u32| (0..turns).for_each(|_| std::hint::spin_loop());
                for turn in (0..).map(|turn: u32| turn.wrapping_mul(7919) % 500) {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    ports.promote(30_000, &first).unwrap();
                    hold(turn);
                    ports.promote(30_000, &second).unwrap();
                    hold(turn);
                    ports.demote(30_000).unwrap();
                    hold(turn);
                }
            });
            // On a busy machine the other thread does not always run beside this one.
            for number in 0..1_000_000 {
                if number >= 30_000 && forwarded[0].min(forwarded[1]).min(raised) > 0 {
                    break;
                }
                let tested = run();
                if tested.verdict == PASS {
                    assert_eq!(tested.frame, bytes);
                    raised += 1;
                } else {
                    let of = whole.iter().position(|whole| *whole == tested.frame);
                    forwarded[of.unwrap_or_else(|| panic!("{:x?}", tested.frame))] += 1;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(forwarded[0] > 0 && forwarded[1] > 0 && raised > 0, "{forwarded:?} {raised}");
    }
}

#[test]
fn what_the_program_cannot_do_is_not_promoted() {
    let test = "what_the_program_cannot_do_is_not_promoted";
    let Some(bench) = promoted(test, &flow(false)) else { return };
    let refused = |flow: KernelFlow| {
        assert_eq!(bench.program.ports().promote(30_000, &flow), Err(Unpromoted::Program), "{flow:?}");
        assert_eq!(bench.run(&frame(false).bytes()).verdict, PASS);
    };
    refused(KernelFlow { remote: flow(true).remote, ..flow(false) });
    refused(KernelFlow { local: flow(true).local, ..flow(false) });
    refused(KernelFlow { local: "0.0.0.0:1".parse().unwrap(), ..flow(false) });
    refused(KernelFlow { local: "192.0.2.200:1".parse().unwrap(), ..flow(false) });
    refused(KernelFlow { vlan: Some(0), ..flow(false) });
    refused(KernelFlow { vlan: Some(4095), ..flow(false) });
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
