//! RTCP of a relay, its numbers when those of RTP are rewritten, and a relay under garbage.

mod relay_support;

use std::net::SocketAddr;

use engine::codec::Law;
use engine::relay::{Conversion, Relay, RelayFormat, RelayParameters, RelayUpdate, Rewriting, Side};
use engine::rtp::Packet;
use engine::rtp::rtcp::{self, Compound};
use engine::stream::{Component, Direction, Refusal, SourcePolicy};
use proptest::prelude::*;
use relay_support::{
    PARTY_A, PARTY_B, Party, STRANGER, address, formats, ms, parameters, refused, report, rtcp_of, talking,
    untouched,
};

/// Sends RTCP as a party, from its RTCP port or with multiplexing from its RTP port.
fn send_rtcp(
    relay: &mut Relay,
    party: &Party,
    mux: bool,
    packet: &[u8],
) -> Option<(Component, SocketAddr, Vec<u8>)> {
    let (component, from) =
        if mux { (Component::Rtp, party.at) } else { (Component::Rtcp, rtcp_of(party.at)) };
    let mut bytes = packet.to_vec();
    let transmit = relay.handle_packet(ms(50), party.side, component, from, &mut bytes)?;
    assert_eq!(transmit.side, party.side.other());
    bytes.truncate(transmit.len);
    Some((transmit.component, transmit.remote, bytes))
}

#[test]
fn rtcp_goes_both_ways_whichever_side_multiplexes() {
    for (a_mux, b_mux) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut parameters = parameters();
        for (leg, mux) in parameters.legs.iter_mut().zip([a_mux, b_mux]) {
            leg.rtcp_mux = mux;
            if mux {
                leg.remote_rtcp = leg.remote_rtp;
            }
        }
        let (mut relay, [a, b]) = talking(parameters);
        for (from, from_mux, to, to_mux) in [(&a, a_mux, &b, b_mux), (&b, b_mux, &a, a_mux)] {
            let packet = report(from.header.ssrc, 1, to.header.ssrc, 100);
            let (component, remote, got) = send_rtcp(&mut relay, from, from_mux, &packet).expect("relayed");
            assert_eq!(got, packet, "nothing changes");
            let expected = if to_mux { (Component::Rtp, to.at) } else { (Component::Rtcp, rtcp_of(to.at)) };
            assert_eq!((component, remote), expected);
        }
        for side in relay.statistics(ms(60), [None; 2]).sides {
            assert_eq!((side.received_rtcp_packets, side.sent_rtcp_packets), (1, 1));
            assert_eq!(side.received_packets, 1, "RTCP is no RTP");
        }
    }
}

#[test]
fn rtcp_of_other_hosts_is_refused_and_follows_the_port_it_came_from() {
    let (mut relay, [a, b]) = talking(parameters());
    let stranger = Party::new(Side::A, STRANGER, 0x666);
    assert!(send_rtcp(&mut relay, &stranger, false, &report(0x666, 0, 0, 0)).is_none());
    assert_eq!(refused(&relay, Side::A, Refusal::RtcpStranger), 1);
    // Behind NAT the RTCP port is any port of the same host.
    let moved = Party { at: SocketAddr::new(a.at.ip(), 31_000), ..a.clone() };
    assert!(send_rtcp(&mut relay, &moved, false, &report(0xAAAA, 0, 0, 0)).is_some());
    let (_, remote, _) = send_rtcp(&mut relay, &b, false, &report(0xBBBB, 0, 0, 0)).expect("relayed");
    assert_eq!(remote, SocketAddr::new(a.at.ip(), 31_001));
}

#[test]
fn rtcp_flows_on_hold_and_not_to_whom_it_is_not_wanted() {
    let mut parameters = parameters();
    parameters.legs[0].direction = Direction::Inactive;
    parameters.legs[1].direction = Direction::Inactive;
    parameters.legs[1].remote_rtcp = None;
    let mut relay = Relay::new(parameters);
    let [a, b] = Party::both();
    assert!(send_rtcp(&mut relay, &a, false, &report(0xAAAA, 0, 0, 0)).is_none());
    assert_eq!(refused(&relay, Side::A, Refusal::NoDestination), 1);
    assert!(send_rtcp(&mut relay, &b, false, &report(0xBBBB, 0, 0, 0)).is_none(), "B has no RTCP");
    parameters.legs[1].remote_rtcp = parameters.legs[1].remote_rtp.map(rtcp_of);
    relay.update(ms(10), &mut RelayUpdate::new(parameters));
    assert!(send_rtcp(&mut relay, &a, false, &report(0xAAAA, 0, 0, 0)).is_some());
    assert!(send_rtcp(&mut relay, &b, false, &report(0xBBBB, 0, 0, 0)).is_some());
}

#[test]
fn a_rewritten_stream_goes_on_where_another_ended_and_its_rtcp_fits() {
    let mut parameters = parameters();
    let rewriting =
        Rewriting { ssrc: Some(0x5151_5151), sequence_offset: 65_500, timestamp_offset: u32::MAX - 99 };
    parameters.legs[0].rewriting = rewriting;
    let (mut relay, [mut a, b]) = talking(parameters);
    for n in 1..4 {
        let before = a.header;
        let (_, got) = a.say(&mut relay, ms(n * 20), &[1; 160]).expect("relayed");
        let header = Packet::parse(&got).expect("RTP").header();
        assert_eq!(header.ssrc, 0x5151_5151);
        assert_eq!(header.sequence_number.0, before.sequence_number.0.wrapping_add(65_500));
        assert_eq!(header.timestamp, before.timestamp.wrapping_sub(100));
    }
    // As it arrives: what the other party would call it is not what the statistics are about.
    let side = relay.statistics(ms(100), [None; 2]).sides[0];
    assert_eq!((side.ssrc, side.last_sequence, side.lost_packets), (Some(0xAAAA), Some(103), 0));

    let (_, _, got) = send_rtcp(&mut relay, &a, false, &report(0xAAAA, 5000, 0xBBBB, 77)).expect("relayed");
    let packets: Vec<_> = Compound::parse(&got).expect("still RTCP").packets().collect();
    match packets[..] {
        [
            rtcp::Packet::SenderReport { ssrc, info, blocks },
            rtcp::Packet::SourceDescription,
            rtcp::Packet::Bye { sources },
        ] => {
            assert_eq!((ssrc, info.rtp_timestamp), (0x5151_5151, 4900));
            let block = blocks.iter().next().expect("a block");
            assert_eq!((block.ssrc, block.extended_highest), (0xBBBB, 77), "B is not rewritten");
            assert!(sources.contains(0x5151_5151));
        }
        ref other => panic!("{other:?}"),
    }
    // What B says it heard is about the rewritten numbers.
    let heard = 65_536 + 64;
    let (_, _, got) =
        send_rtcp(&mut relay, &b, false, &report(0xBBBB, 5000, 0x5151_5151, heard)).expect("relayed");
    let first = Compound::parse(&got).expect("still RTCP").packets().next();
    let Some(rtcp::Packet::SenderReport { ssrc, info, blocks }) = first else { panic!("{first:?}") };
    assert_eq!((ssrc, info.rtp_timestamp), (0xBBBB, 5000));
    let block = blocks.iter().next().expect("a block");
    assert_eq!((block.ssrc, block.extended_highest), (0xAAAA, 100));
}

/// Anything that signalling might say.
fn any_parameters() -> impl Strategy<Value = RelayParameters> {
    let address = prop_oneof![
        Just(PARTY_A),
        Just(PARTY_B),
        Just("224.0.0.1:4000"),
        Just("255.255.255.255:1"),
        Just("0.0.0.0:9"),
        Just("[ff02::1]:4000"),
        Just("192.0.2.1:0"),
    ];
    let leg = (prop::option::of(address.clone()), prop::option::of(address), any::<[bool; 6]>(), 0u8..4);
    (leg.clone(), leg, any::<[bool; 3]>(), any::<(Option<u32>, u16, u32)>()).prop_map(
        |(a, b, taps, numbers)| {
            let mut parameters = parameters();
            for (leg, (rtp, rtcp, flags, direction)) in parameters.legs.iter_mut().zip([a, b]) {
                (leg.remote_rtp, leg.remote_rtcp) =
                    (rtp.map(relay_support::address), rtcp.map(relay_support::address));
                let [mux, strict, others, law, ..] = flags;
                leg.rtcp_mux = mux;
                leg.source_policy = if strict { SourcePolicy::Strict } else { SourcePolicy::Latch };
                leg.receive.others = others;
                if law {
                    let conversion = Conversion::Law { from: Law::Mu, to: Law::A };
                    leg.receive = formats(&[RelayFormat { receive: 0, send: 8, conversion }, untouched(72)]);
                }
                leg.direction =
                    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
                        [usize::from(direction)];
                let (ssrc, sequence_offset, timestamp_offset) = numbers;
                leg.rewriting = Rewriting { ssrc, sequence_offset, timestamp_offset };
            }
            parameters.taps.telephone_events = taps[0];
            parameters.taps.inband_dtmf = taps[1];
            parameters.in_kernel = taps[2];
            parameters
        },
    )
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let rtp =
        (any::<u8>(), prop_oneof![Just(0u8), Just(8), Just(101), Just(200), any::<u8>()], any::<[u8; 8]>());
    let rest = prop::collection::vec(any::<u8>(), 0..200);
    let likely = (rtp, rest).prop_map(|((sequence, second, numbers), rest)| {
        let mut packet = vec![0x80, second, 0, sequence];
        packet.extend(numbers);
        packet.extend(rest);
        packet
    });
    prop_oneof![4 => likely, 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    #[test]
    fn garbage_never_panics_never_goes_where_it_must_not_and_is_all_counted(
        first in any_parameters(),
        second in any_parameters(),
        packets in prop::collection::vec((any::<[bool; 3]>(), 0usize..3, any_packet()), 1..80),
    ) {
        let mut relay = Relay::new(first);
        relay.start(ms(0));
        let senders = [PARTY_A, PARTY_B, STRANGER].map(address);
        let mut relayed = 0;
        for (n, ([b, rtcp, _], sender, packet)) in packets.iter().enumerate() {
            if n == packets.len() / 2 {
                relay.update(ms(n as u64), &mut RelayUpdate::new(second));
            }
            let side = if *b { Side::B } else { Side::A };
            let component = if *rtcp { Component::Rtcp } else { Component::Rtp };
            let mut bytes = packet.clone();
            let now = ms(n as u64 * 20);
            if let Some(transmit) = relay.handle_packet(now, side, component, senders[*sender], &mut bytes) {
                relayed += 1;
                prop_assert_eq!(transmit.side, side.other());
                prop_assert_eq!(transmit.len, packet.len());
                let forbidden = match transmit.remote.ip() {
                    std::net::IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0,
                    std::net::IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified(),
                };
                prop_assert!(!forbidden && transmit.remote.port() != 0, "{:?}", transmit);
            }
            while relay.poll_event().is_some() {}
            for side in Side::BOTH {
                let _ = relay.poll_connect(side);
                let _ = relay.poll_flow(side);
            }
            prop_assert!(relay.poll_timeout().is_none_or(|at| at > now));
        }
        let sides = relay.statistics(ms(9000), [None; 2]).sides;
        let sent: u64 = sides.iter().map(|side| side.sent_packets + side.sent_rtcp_packets).sum();
        prop_assert_eq!(sent, relayed);
        // Nothing vanishes without a name.
        let own = |side: &engine::relay::RelaySideStatistics| {
            side.received_packets + side.received_rtcp_packets + side.refused_packets
        };
        prop_assert!(sides.iter().map(own).sum::<u64>() >= packets.len() as u64);
    }
}
