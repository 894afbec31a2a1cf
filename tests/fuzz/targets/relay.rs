//! A whole relay: datagrams of any content, from anybody, at any time, on all four ports, through promotion and
//! demotion, do not panic it; each comes out once at most, as long as it came, and never at a forbidden address.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use engine::codec::Law;
use engine::relay::{
    Conversion, FlowChange, KernelCounters, Relay, RelayFormat, RelayFormats, RelayLeg, RelayParameters,
    RelayTaps, RelayUpdate, Rewriting, Side,
};
use engine::stream::{Component, Direction, SourcePolicy};
use engine::time::Instant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let parties: [SocketAddr; 4] =
        ["192.0.2.1:4000", "198.51.100.1:6000", "203.0.113.9:9", "[2001:db8::1]:5000"]
            .map(|text| text.parse().expect("an address"));
    let Some((&kind, mut rest)) = data.split_first() else { return };
    let parameters = parameters([parties[0], parties[1]], kind);
    let mut relay = Relay::new(parameters);
    let mut now = Instant::from_millis(1000);
    relay.start(now);
    let (mut given, mut relayed) = (0, 0);
    // Each datagram: one byte of where and who, one of time, one of length.
    while let Some((&[control, time, length], tail)) = rest.split_first_chunk::<3>() {
        let (datagram, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        let until = now + Duration::from_millis(u64::from(time) * 4);
        while let Some(due) = relay.poll_timeout().filter(|due| *due <= until) {
            now = due.max(now);
            relay.handle_timeout(now, [None; 2]);
            settle(&mut relay, datagram);
        }
        now = until;
        let side = Side::BOTH[usize::from(control & 1)];
        let component = if control & 2 == 0 { Component::Rtp } else { Component::Rtcp };
        let mut bytes = datagram.to_vec();
        given += 1;
        if let Some(transmit) =
            relay.handle_packet(now, side, component, parties[usize::from(control >> 2 & 3)], &mut bytes)
        {
            relayed += 1;
            assert_eq!((transmit.side, transmit.len), (side.other(), datagram.len()));
            assert!(parties.contains(&transmit.remote) || component == Component::Rtcp);
        }
        settle(&mut relay, datagram);
        if control & 0xC0 == 0xC0 {
            demote(&mut relay, datagram);
            relay.update(now, &mut RelayUpdate::new(parameters));
        }
    }
    let sides = relay.statistics(now, [None; 2]).sides;
    let sent: u64 = sides.iter().map(|side| side.sent_packets + side.sent_rtcp_packets).sum();
    let kernel: u64 = sides.iter().map(|side| side.in_kernel_packets).sum();
    assert!(relayed <= given && sent == relayed + kernel, "{sent} {relayed} {kernel}");
});

fn settle(relay: &mut Relay, random: &[u8]) {
    while relay.poll_event().is_some() {}
    for side in Side::BOTH {
        let _ = relay.poll_connect(side);
        match relay.poll_flow(side) {
            Some(FlowChange::Promote(flow)) => relay.handle_promoted(side, flow),
            Some(FlowChange::Demote) => relay.handle_demoted(side, Some(counters(random))),
            None => {}
        }
    }
}

fn demote(relay: &mut Relay, random: &[u8]) {
    for side in Side::BOTH.into_iter().filter(|&side| relay.is_promoted(side)).collect::<Vec<_>>() {
        relay.handle_demoted(side, Some(counters(random)));
    }
}

/// Whatever the kernel might say.
fn counters(random: &[u8]) -> KernelCounters {
    let word = |at: usize| {
        random.get(at..at + 4).map_or(0, |word| u32::from_be_bytes(word.try_into().expect("four")))
    };
    KernelCounters {
        packets: u64::from(word(0)),
        ssrc: word(4),
        highest_sequence: word(8),
        first_sequence: word(12) as u16,
        jitter_x16: word(13) & 0xFFFF,
        ..KernelCounters::default()
    }
}

fn parameters(parties: [SocketAddr; 2], kind: u8) -> RelayParameters {
    let mut receive = RelayFormats::default();
    receive.others = kind & 1 != 0;
    let conversion =
        if kind & 2 == 0 { Conversion::Untouched } else { Conversion::Law { from: Law::Mu, to: Law::A } };
    receive.push(RelayFormat { receive: 0, send: if kind & 2 == 0 { 0 } else { 8 }, conversion });
    receive.push(RelayFormat { receive: 101, send: 101, conversion: Conversion::TelephoneEvent });
    let rewriting = if kind & 4 == 0 {
        Rewriting::default()
    } else {
        Rewriting { ssrc: Some(7), sequence_offset: 9000, timestamp_offset: 77 }
    };
    let leg = |remote: SocketAddr| RelayLeg {
        remote_rtp: Some(remote),
        remote_rtcp: Some(SocketAddr::new(remote.ip(), remote.port() + 1)),
        rtcp_mux: kind & 8 != 0,
        direction: if kind & 16 == 0 { Direction::SendRecv } else { Direction::SendOnly },
        receive,
        source_policy: SourcePolicy::Latch,
        rewriting,
    };
    RelayParameters {
        legs: parties.map(leg),
        taps: RelayTaps { telephone_events: kind & 32 != 0, inband_dtmf: kind & 64 != 0 },
        in_kernel: kind & 128 != 0,
        media_timeout: Duration::from_secs(1),
    }
}
