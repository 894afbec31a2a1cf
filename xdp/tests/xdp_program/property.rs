//! What holds for every frame.

use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use xdp::bpf::Mode;
use xdp::program::{KernelFlow, Options};
use xdp::{PayloadTypes, Rewriting};

use crate::corpus::{corpus, opened};
use crate::forward::{NEXT_HOP, OUT, flow, frame};
use crate::frames::{Checksum, Frame, Read, checksums, read, rtp};
use crate::{Bench, DROP, PASS, REDIRECT};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// The corpus' ports, of which 30000 and 30002 forward.
fn forwarding(test: &str) -> Option<Bench> {
    let bench = opened(test, Options { flood_limit: Some(1_000_000), ..Options::default() })?;
    bench.program.ports().promote(30_000, &flow(false)).unwrap();
    let new = Rewriting { ssrc: Some(5), sequence_offset: 6, timestamp_offset: 7 };
    bench.program.ports().promote(30_002, &KernelFlow { rewriting: new, ..flow(true) }).unwrap();
    Some(bench)
}

#[test]
fn random_frames_are_passed_dropped_or_forwarded_and_only_the_last_are_changed() {
    let test = "random_frames_are_passed_dropped_or_forwarded_and_only_the_last_are_changed";
    let Some(bench) = forwarding(test) else { return };
    // Frames that are almost right go further than noise.
    let mut models: Vec<Vec<u8>> = corpus().into_iter().map(|(_, frame, _)| frame).collect();
    for ipv6 in [false, true] {
        for tags in [vec![], vec![(0x8100, 9)]] {
            let model = frame(ipv6).with(|frame| {
                frame.tags.clone_from(&tags);
                frame.destination.set_port(if ipv6 { 30_002 } else { 30_000 });
            });
            models.push(model.bytes());
            models.push(model.with(|frame| frame.checksum = Checksum::Partial).bytes());
        }
    }
    let strategy = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 14..200),
        6 => (
            prop::sample::select(models),
            prop::collection::vec((0_usize..90, any::<u8>()), 0..4),
            prop::option::of(0_usize..120),
            prop::collection::vec(any::<u8>(), 0..8),
        )
            .prop_map(|(mut frame, changes, cut, more)| {
                for (at, byte) in changes {
                    if let Some(place) = frame.get_mut(at) {
                        *place = byte;
                    }
                }
                frame.truncate(cut.map_or(usize::MAX, |cut| cut.max(14)));
                frame.extend(more);
                frame
            }),
    ];
    let forwarded = std::cell::Cell::new(0_u32);
    runner(20_000)
        .run(&strategy, |frame| {
            let tested = bench.program.test(Mode::Native, &frame, None).unwrap();
            match tested.verdict {
                PASS | DROP => prop_assert_eq!(tested.frame, frame),
                REDIRECT => {
                    forwarded.set(forwarded.get() + 1);
                    // The flows leave untagged.
                    let tag = if frame[12..14] == [0x81, 0] { 4 } else { 0 };
                    prop_assert_eq!(tested.frame.len() + tag, frame.len());
                    let ip = if frame[12 + tag..14 + tag] == [8, 0] { 20 } else { 40 };
                    let payload = 14 + ip + 8 + 12;
                    prop_assert_eq!(&tested.frame[payload..], &frame[payload + tag..]);
                    // What was right is right, what was wrong stays wrong.
                    let [before, after] = [checksums(&frame), checksums(&tested.frame)];
                    prop_assert_eq!(before.ip, after.ip);
                    prop_assert_eq!(before.udp || before.partial, after.udp);
                    prop_assert_eq!(before.absent, after.absent);
                }
                other => prop_assert!(false, "verdict {}", other),
            }
            Ok(())
        })
        .unwrap();
    assert!(forwarded.get() > 100, "{} were forwarded", forwarded.get());
}

#[test]
fn every_flow_is_forwarded_with_right_checksums_and_the_same_audio() {
    let test = "every_flow_is_forwarded_with_right_checksums_and_the_same_audio";
    let Some(bench) = Bench::or_skip(test, Options::default()) else { return };
    let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    bench.program.ports().open(40_000, v4).unwrap();
    bench.program.ports().open(40_002, v6).unwrap();
    let peer = || {
        let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
        let v6 = (any::<[u8; 16]>(), any::<u16>())
            .prop_map(SocketAddr::from)
            .prop_filter("IPv4 written as IPv6", |address| address.ip().to_canonical().is_ipv6());
        (v4, v6)
    };
    let numbers = (prop::option::of(any::<u32>()), any::<u16>(), any::<u32>());
    let packet = (any::<bool>(), 0_u8..128, any::<u16>(), any::<u32>(), any::<u32>(), 0_usize..600);
    let strategy = (
        (any::<bool>(), peer(), peer(), any::<u16>(), any::<bool>()),
        numbers,
        packet,
        prop::option::of(1_u16..4095),
        prop::option::of(0_u16..4096),
        prop::sample::select(&[Checksum::Right, Checksum::Absent, Checksum::Partial][..]),
    )
        .prop_map(|(addresses, numbers, packet, vlan, tag, checksum)| {
            let (ipv6, source, remote, local_port, other) = addresses;
            let (ssrc, sequence_offset, timestamp_offset) = numbers;
            let (marker, payload_type, sequence, timestamp, old_ssrc, audio) = packet;
            let of_family = |(v4, v6): (SocketAddr, SocketAddr)| if ipv6 { v6 } else { v4 };
            let [arrives, local] = match (ipv6, other) {
                (false, false) => ["192.0.2.1", "192.0.2.1"],
                (false, true) => ["192.0.2.1", "192.0.2.9"],
                (true, false) => ["2001:db8::1", "2001:db8::1"],
                (true, true) => ["2001:db8::1", "2001:db8::9"],
            }
            .map(|address| address.parse().unwrap());
            let checksum = if ipv6 && checksum == Checksum::Absent { Checksum::Right } else { checksum };
            let flow = KernelFlow {
                source: of_family(source),
                local: SocketAddr::new(local, local_port),
                remote: of_family(remote),
                vlan,
                payload_types: PayloadTypes(u128::MAX),
                rewriting: Rewriting { ssrc, sequence_offset, timestamp_offset },
                ..flow(ipv6)
            };
            let marker = u8::from(marker);
            let sent = frame(ipv6).with(|frame| {
                frame.source = flow.source;
                frame.destination = SocketAddr::new(arrives, if ipv6 { 40_002 } else { 40_000 });
                frame.tags = tag.map(|tag| (0x8100, tag)).into_iter().collect();
                frame.checksum = checksum;
                frame.payload = rtp(marker, payload_type, sequence, timestamp, old_ssrc, audio);
            });
            let sequence = sequence.wrapping_add(sequence_offset);
            let timestamp = timestamp.wrapping_add(timestamp_offset);
            let expected = Read {
                macs: [NEXT_HOP, OUT],
                vlan,
                source: flow.local,
                destination: flow.remote,
                hop_limit: 64,
                unchecked: checksum == Checksum::Absent,
                payload: rtp(marker, payload_type, sequence, timestamp, ssrc.unwrap_or(old_ssrc), audio),
            };
            (flow, sent, (!(64..96).contains(&payload_type)).then_some(expected))
        });
    let check = |(flow, sent, expected): (KernelFlow, Frame, Option<Read>)| {
        bench.program.ports().promote(sent.destination.port(), &flow).unwrap();
        let tested = bench.program.test(Mode::Native, &sent.bytes(), None).unwrap();
        match expected {
            Some(expected) => {
                prop_assert_eq!(tested.verdict, REDIRECT);
                prop_assert_eq!(read(&tested.frame), expected);
            }
            None => prop_assert_eq!((tested.verdict, tested.frame), (PASS, sent.bytes())),
        }
        Ok(())
    };
    runner(5000).run(&strategy, check).unwrap();
}
