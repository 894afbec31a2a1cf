//! A relay without a network: what goes in, what comes out, what is refused and what is told.

mod relay_support;

use std::time::Duration;

use engine::codec::Law;
use engine::command::Digit;
use engine::dtmf::TelephoneEvent;
use engine::dtmf::inband::{DtmfGenerator, DtmfLevels};
use engine::relay::{Conversion, Relay, RelayEvent, RelayFormat, RelayOptions, RelayTaps, RelayUpdate, Side};
use engine::rtp::Packet;
use engine::stream::{Component, Direction, Refusal, SourcePolicy};
use relay_support::{
    PARTY_A, PARTY_B, Party, STRANGER, address, between, formats, happened, leg, ms, parameters, refused,
    talking, untouched,
};

#[test]
fn packets_of_both_parties_go_on_untouched_and_in_order() {
    let (mut relay, mut parties) = talking(parameters());
    for n in 1..200u64 {
        for party in &mut parties {
            let payload = [n as u8; 160];
            let sent = party.packet(&payload);
            let (transmit, got) =
                party.send(&mut relay, ms(n * 20), Component::Rtp, sent.clone()).expect("relayed");
            assert_eq!(got, sent);
            assert_eq!((transmit.side, transmit.component), (party.side.other(), Component::Rtp));
            assert_eq!(transmit.remote, address(if party.side == Side::A { PARTY_B } else { PARTY_A }));
        }
    }
    let [a, b] = relay.statistics(ms(4000), [None; 2]).sides;
    for side in [a, b] {
        assert_eq!((side.received_packets, side.sent_packets, side.refused_packets), (200, 200, 0));
        assert_eq!((side.received_bytes, side.sent_bytes), (200 * 172, 200 * 172));
        assert_eq!((side.lost_packets, side.duplicate_packets, side.reordered_packets), (0, 0, 0));
        assert_eq!(side.jitter, Duration::ZERO);
        assert_eq!(side.last_sequence, Some(299));
        assert_eq!(side.last_packet_age, Some(Duration::from_millis(20)));
    }
    assert_eq!((a.ssrc, b.ssrc), (Some(0xAAAA), Some(0xBBBB)));
    assert_eq!((a.latched, b.latched), (Some(address(PARTY_A)), Some(address(PARTY_B))));
}

#[test]
fn payload_types_are_mapped_and_others_pass_only_where_they_may() {
    let mut parameters = parameters();
    let mapped = RelayFormat { send: 111, ..untouched(96) };
    parameters.legs[0].receive = formats(&[mapped, untouched(0)]);
    let (mut relay, [mut a, _]) = talking(parameters);
    a.header.payload_type = 96;
    a.header.marker = true;
    let (_, got) = a.say(&mut relay, ms(20), &[1, 2, 3]).expect("relayed");
    let header = Packet::parse(&got).expect("RTP").header();
    assert_eq!((header.payload_type, header.marker), (111, true));

    a.header.payload_type = 98;
    assert!(a.say(&mut relay, ms(40), &[1]).is_none());
    assert_eq!(refused(&relay, Side::A, Refusal::PayloadType), 1);
    parameters.legs[0].receive.others = true;
    relay.update(ms(50), &mut RelayUpdate::new(parameters));
    let (_, got) = a.say(&mut relay, ms(60), &[1]).expect("relayed");
    assert_eq!(Packet::parse(&got).expect("RTP").header().payload_type, 98);
    // What is RTCP where RTCP does not belong is no payload type.
    (a.header.payload_type, a.header.marker) = (72, true);
    assert!(a.say(&mut relay, ms(80), &[0; 16]).is_none());
    let side = relay.statistics(ms(80), [None; 2]).sides[0];
    assert_eq!(side.refusals.count(Refusal::PayloadType), 2);
    assert_eq!(side.lost_packets, 0, "what was refused is not lost");
}

#[test]
fn laws_are_converted_bit_by_bit_and_nothing_but_the_payload() {
    let codes: Vec<u8> = (0..=255).collect();
    for (from, to) in [(Law::Mu, Law::A), (Law::A, Law::Mu)] {
        let (receive, send) = if from == Law::Mu { (0, 8) } else { (8, 0) };
        let mut parameters = parameters();
        parameters.legs[0].receive =
            formats(&[RelayFormat { receive, send, conversion: Conversion::Law { from, to } }]);
        let mut relay = Relay::new(parameters);
        let [mut a, mut b] = Party::both();
        a.header.payload_type = receive;
        b.say(&mut relay, ms(0), &[0]).expect("relayed");
        let mut expected = vec![0; 256];
        from.transcode(to, &codes, &mut expected);
        for turn in 0..3 {
            // The first on the long way, the others on the short one; with all that a header may have.
            let plain = a.packet(&[]);
            let mut packet = vec![plain[0] | 0x20 | 0x10 | 2];
            packet.extend(&plain[1..12]);
            packet.extend([0, 0, 0, 7, 0, 0, 0, 9, 0xBE, 0xDE, 0, 1, 1, 2, 3, 4]);
            packet.extend(&codes);
            packet.extend([9, 9, 3]);
            let (_, got) =
                a.send(&mut relay, ms(20 * turn), Component::Rtp, packet.clone()).expect("relayed");
            assert_eq!(got[1], packet[1] & 0x80 | send);
            assert_eq!((&got[2..28], &got[28..284]), (&packet[2..28], &expected[..]));
            assert_eq!(&got[284..], &[9, 9, 3]);
        }
    }
}

#[test]
fn broken_and_unknown_packets_are_refused_by_name() {
    let (mut relay, [a, _]) = talking(parameters());
    let cases: [(&[u8], Component, Refusal); 9] = [
        (&[], Component::Rtp, Refusal::TooShort),
        (&[0x80; 11], Component::Rtp, Refusal::TooShort),
        (&[0; 40], Component::Rtp, Refusal::Version),
        (&[0x8F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Component::Rtp, Refusal::CsrcCount),
        (&[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Component::Rtp, Refusal::ExtensionLength),
        (&[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], Component::Rtp, Refusal::Padding),
        (&[0x80, 55, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Component::Rtp, Refusal::PayloadType),
        (&[0x80, 100, 0, 0], Component::Rtcp, Refusal::RtcpType),
        (&[0x80, 200, 0, 9], Component::Rtcp, Refusal::RtcpLength),
    ];
    for (bytes, component, refusal) in cases {
        let before = refused(&relay, Side::A, refusal);
        assert!(a.send(&mut relay, ms(20), component, bytes.to_vec()).is_none());
        assert_eq!(refused(&relay, Side::A, refusal), before + 1, "{refusal:?}");
    }
    assert_eq!(relay.statistics(ms(20), [None; 2]).sides[0].refused_packets, 9);
}

#[test]
fn a_stranger_is_neither_relayed_nor_followed_once_the_party_is_known() {
    let (mut relay, [mut a, _]) = talking(parameters());
    let mut stranger = Party::new(Side::A, STRANGER, 0x666);
    for n in 0..50 {
        assert!(stranger.say(&mut relay, ms(n), &[1; 160]).is_none());
        assert!(a.say(&mut relay, ms(n), &[1; 160]).is_some());
    }
    assert_eq!(refused(&relay, Side::A, Refusal::Stranger), 50);
    assert_eq!(relay.statistics(ms(0), [None; 2]).sides[0].latched, Some(a.at));
    // With the same SSRC and numbers, too.
    stranger.header = a.header;
    assert!(stranger.say(&mut relay, ms(60), &[1; 160]).is_none());
}

#[test]
fn a_party_behind_nat_is_learned_and_its_media_goes_back_there() {
    let mut relay = Relay::new(between(Some(address("10.0.0.9:4000")), Some(address(PARTY_B))));
    relay.start(ms(0));
    let [mut a, mut b] = Party::both();
    assert!((0..2).all(|n| a.say(&mut relay, ms(n * 20), &[1; 160]).is_none()));
    assert_eq!(refused(&relay, Side::A, Refusal::Learning), 2);
    assert!(a.say(&mut relay, ms(40), &[1; 160]).is_some());
    assert!(relay.take_news(Side::A) && !relay.take_news(Side::A));
    assert_eq!(happened(&mut relay), [RelayEvent::Latched { side: Side::A, remote: a.at }]);
    let (transmit, _) = b.say(&mut relay, ms(60), &[1; 160]).expect("relayed");
    assert_eq!(transmit.remote, a.at);
    assert_eq!(happened(&mut relay), [RelayEvent::Latched { side: Side::B, remote: b.at }]);
    // Until it can no longer be disputed the device is told nothing.
    assert_eq!(relay.poll_connect(Side::A), None);
    let settled = relay.poll_timeout().expect("a deadline");
    relay.handle_timeout(settled, [None; 2]);
    assert_eq!(relay.poll_connect(Side::A), Some(Some(a.at)));
    assert_eq!(relay.poll_connect(Side::A), None);
}

#[test]
fn an_attacker_who_is_first_loses_to_the_signalled_address() {
    let mut relay = Relay::new(parameters());
    relay.start(ms(0));
    let [mut a, mut b] = Party::both();
    let mut stranger = Party::new(Side::A, STRANGER, 0x666);
    assert!((0..2).all(|n| stranger.say(&mut relay, ms(n), &[1; 160]).is_none()));
    assert!(stranger.say(&mut relay, ms(2), &[1; 160]).is_some(), "as good as any party behind NAT");
    assert!(a.say(&mut relay, ms(20), &[1; 160]).is_some());
    assert!((3..30).all(|n| stranger.say(&mut relay, ms(n), &[1; 160]).is_none()));
    let (transmit, _) = b.say(&mut relay, ms(22), &[1; 160]).expect("relayed");
    assert_eq!(transmit.remote, a.at);
    let side = relay.statistics(ms(30), [None; 2]).sides[0];
    assert_eq!((side.ssrc, side.lost_packets), (Some(0xAAAA), 0));
}

#[test]
fn strict_sides_believe_only_what_was_signalled() {
    let mut parameters = parameters();
    parameters.legs[0].source_policy = SourcePolicy::Strict;
    let mut relay = Relay::new(parameters);
    let mut stranger = Party::new(Side::A, STRANGER, 0x666);
    assert!((0..10).all(|n| stranger.say(&mut relay, ms(n), &[1; 160]).is_none()));
    assert_eq!(refused(&relay, Side::A, Refusal::Stranger), 10);
}

#[test]
fn on_hold_nothing_passes_and_all_is_counted() {
    let mut parameters = parameters();
    let (mut relay, [mut a, mut b]) = talking(parameters);
    // A has B wait: we neither send to B's side what A says, nor take what B says.
    parameters.legs[1].direction = Direction::Inactive;
    relay.update(ms(10), &mut RelayUpdate::new(parameters));
    for n in 1..=10 {
        assert!(a.say(&mut relay, ms(n * 20), &[1; 160]).is_none());
        assert!(b.say(&mut relay, ms(n * 20), &[1; 160]).is_none());
    }
    assert_eq!(refused(&relay, Side::A, Refusal::NotSending), 10);
    assert_eq!(refused(&relay, Side::B, Refusal::NotReceiving), 10);
    let [on_a, on_b] = relay.statistics(ms(200), [None; 2]).sides;
    assert_eq!((on_a.received_packets, on_a.refused_packets, on_b.sent_packets), (11, 0, 1));
    assert_eq!((on_b.received_packets, on_b.refused_packets, on_a.sent_packets), (1, 10, 1));
    assert_eq!((on_a.lost_packets, on_b.lost_packets), (0, 0));
    parameters.legs[1].direction = Direction::SendRecv;
    relay.update(ms(210), &mut RelayUpdate::new(parameters));
    assert!(a.say(&mut relay, ms(220), &[1; 160]).is_some());
    assert!(b.say(&mut relay, ms(220), &[1; 160]).is_some());
    assert_eq!(relay.statistics(ms(220), [None; 2]).sides[1].lost_packets, 0);
}

#[test]
fn nothing_goes_to_a_party_that_signalling_has_not_named_or_named_wrong() {
    for (remote, refusal) in [
        (None, Refusal::NoDestination),
        (Some("224.0.0.1:4000"), Refusal::ForbiddenDestination),
        (Some("0.0.0.0:4000"), Refusal::ForbiddenDestination),
        (Some("198.51.100.2:0"), Refusal::ForbiddenDestination),
    ] {
        let mut relay = Relay::new(between(Some(address(PARTY_A)), remote.map(address)));
        let [mut a, _] = Party::both();
        assert!((0..5).all(|n| a.say(&mut relay, ms(n * 20), &[1; 160]).is_none()));
        assert_eq!(refused(&relay, Side::A, refusal), 5);
        let [on_a, on_b] = relay.statistics(ms(100), [None; 2]).sides;
        assert_eq!((on_a.received_packets, on_a.refused_packets, on_b.sent_packets), (5, 0, 0));
    }
}

#[test]
fn media_to_a_party_that_never_answers_stops_after_the_limit_and_not_to_one_that_does() {
    let options = RelayOptions { silent_peer_limit: Duration::from_secs(10) };
    for answers in [false, true] {
        let mut relay = Relay::with_options(parameters(), options);
        let [mut a, mut b] = Party::both();
        let relayed = (0..1500).filter(|&n| {
            if answers && n == 100 {
                assert!(b.say(&mut relay, ms(n * 20), &[1; 160]).is_some());
            }
            a.say(&mut relay, ms(n * 20), &[1; 160]).is_some()
        });
        assert_eq!(relayed.count(), if answers { 1500 } else { 500 });
        assert_eq!(refused(&relay, Side::A, Refusal::SilentPeer), if answers { 0 } else { 1000 });
    }
}

#[test]
fn silence_of_both_is_told_once_until_somebody_is_heard() {
    let mut parameters = parameters();
    parameters.media_timeout = Duration::from_secs(5);
    let (mut relay, [mut a, _]) = talking(parameters);
    a.say(&mut relay, ms(2000), &[1; 160]);
    assert_eq!(relay.poll_timeout(), Some(ms(7000)));
    relay.handle_timeout(ms(6999), [None; 2]);
    assert!(happened(&mut relay).is_empty());
    relay.handle_timeout(ms(7000), [None; 2]);
    // Until it is told, it is offered again and again.
    assert_eq!(relay.poll_timeout(), Some(ms(7020)));
    assert_eq!(happened(&mut relay), [RelayEvent::MediaTimeout]);
    assert_eq!(relay.poll_timeout(), None);
    relay.handle_timeout(ms(20_000), [None; 2]);
    assert!(happened(&mut relay).is_empty());
    assert!(a.say(&mut relay, ms(21_000), &[1; 160]).is_some());
    assert_eq!(relay.poll_timeout(), Some(ms(26_000)));
    relay.handle_timeout(ms(26_000), [None; 2]);
    assert_eq!(happened(&mut relay), [RelayEvent::MediaTimeout]);
}

#[test]
fn only_another_signalled_address_starts_learning_over() {
    let mut parameters = parameters();
    let (mut relay, [mut a, _]) = talking(parameters);
    relay.update(ms(10), &mut RelayUpdate::new(parameters));
    assert!(a.say(&mut relay, ms(20), &[1; 160]).is_some());
    parameters.legs[0] = leg(Some(address(STRANGER)));
    relay.update(ms(30), &mut RelayUpdate::new(parameters));
    let mut moved = Party::new(Side::A, STRANGER, 0x1234);
    assert!(moved.say(&mut relay, ms(40), &[1; 160]).is_some());
    assert!(a.say(&mut relay, ms(40), &[1; 160]).is_none());
    let remote = moved.at;
    assert_eq!(happened(&mut relay), [RelayEvent::Latched { side: Side::A, remote }]);
    let side = relay.statistics(ms(40), [None; 2]).sides[0];
    assert_eq!((side.ssrc, side.lost_packets, side.received_packets), (Some(0x1234), 0, 3));
}

fn event(event: u8, end: bool, duration: u16) -> [u8; 4] {
    TelephoneEvent { event, end, volume: 10, duration }.write()
}

#[test]
fn a_key_of_telephone_events_is_relayed_in_full_and_told_once() {
    let mut parameters = parameters();
    parameters.taps = RelayTaps { telephone_events: true, inband_dtmf: false };
    let (mut relay, [mut a, _]) = talking(parameters);
    for (n, key) in [5u8, 5, 7].into_iter().enumerate() {
        let start = a.header.timestamp;
        for step in 1..=7u16 {
            (a.header.payload_type, a.header.timestamp) = (101, start);
            a.header.marker = step == 1;
            let payload = event(key, step > 4, 160 * step.min(5));
            assert!(a.say(&mut relay, ms(n as u64 * 200 + u64::from(step) * 20), &payload).is_some());
        }
        a.header.timestamp = start.wrapping_add(1600);
    }
    let told: Vec<_> = happened(&mut relay)
        .into_iter()
        .map(|event| match event {
            RelayEvent::Dtmf { side: Side::A, digit, duration, inband: false } => (digit.as_char(), duration),
            other => panic!("{other:?}"),
        })
        .collect();
    let duration = Duration::from_millis(100);
    assert_eq!(told, [('5', duration), ('5', duration), ('7', duration)]);
    assert_eq!(relay.statistics(ms(700), [None; 2]).sides[0].digits, 3);
}

#[test]
fn a_key_whose_end_is_lost_is_told_by_the_clock() {
    let mut parameters = parameters();
    parameters.taps = RelayTaps { telephone_events: true, inband_dtmf: false };
    let (mut relay, [mut a, _]) = talking(parameters);
    a.header.payload_type = 101;
    a.say(&mut relay, ms(20), &event(3, false, 160));
    assert!(relay.take_news(Side::A));
    let deadline = relay.poll_timeout().expect("a deadline");
    assert_eq!(deadline, ms(220));
    relay.handle_timeout(deadline, [None; 2]);
    assert!(matches!(happened(&mut relay)[..], [RelayEvent::Dtmf { digit, .. }] if digit.as_char() == '3'));
    assert_eq!(relay.poll_timeout(), None);
}

#[test]
fn keys_that_are_tones_are_told_when_asked_for_and_the_audio_is_relayed() {
    let mut parameters = parameters();
    let (mut relay, [mut a, _]) = talking(parameters);
    let digit = Digit::from_char('8').expect("a digit");
    let mut press = |relay: &mut Relay, at: u64| {
        let mut tone = DtmfGenerator::new(digit, DtmfLevels::default(), 8000, 800, 800);
        for n in 0..12 {
            let (mut pcm, mut audio) = ([0; 160], [0xFF; 160]);
            tone.fill(&mut pcm);
            Law::Mu.encode(&pcm, &mut audio);
            assert!(a.say(relay, ms(at + n * 20), &audio).is_some());
        }
    };
    press(&mut relay, 20);
    assert!(happened(&mut relay).is_empty());
    parameters.taps.inband_dtmf = true;
    let mut update = RelayUpdate::new(parameters);
    relay.update(ms(1000), &mut update);
    assert!(update.ears.is_none(), "they are in use");
    press(&mut relay, 1020);
    let told = happened(&mut relay);
    assert!(
        matches!(told[..], [RelayEvent::Dtmf { side: Side::A, digit: d, inband: true, .. }] if d == digit),
        "{told:?}"
    );
    parameters.taps.inband_dtmf = false;
    let mut update = RelayUpdate::new(parameters);
    relay.update(ms(2000), &mut update);
    assert!(update.ears.is_some(), "what is no longer needed goes back");
    press(&mut relay, 2020);
    assert!(happened(&mut relay).is_empty());
}

#[test]
fn a_second_source_of_one_party_is_relayed_and_counted_when_it_stays() {
    let (mut relay, [mut a, _]) = talking(parameters());
    for n in 0..10 {
        a.say(&mut relay, ms(n * 20), &[1; 160]);
    }
    a.header.ssrc = 0xCCCC;
    a.header.sequence_number.0 = 40_000;
    for n in 10..20 {
        assert!(a.say(&mut relay, ms(n * 20), &[1; 160]).is_some());
    }
    let side = relay.statistics(ms(400), [None; 2]).sides[0];
    assert_eq!((side.ssrc, side.lost_packets, side.received_packets), (Some(0xCCCC), 0, 21));
    assert_eq!(side.last_sequence, Some(40_009));
}

#[test]
fn ten_thousand_relays_take_about_thirty_megabytes() {
    let bytes = size_of::<Relay>();
    println!("{bytes} bytes per relay");
    assert!(bytes <= 3200, "{bytes}");
}
