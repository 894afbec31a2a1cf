#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::checksum::{Sum, UdpChecksum, update, update_bytes};
use super::*;

const HOP: Hop = Hop {
    source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
    destination_mac: MacAddress([2, 0, 0, 0, 0, 2]),
    vlan: None,
};

/// The definition (RFC 1071 section 1): big-endian words, the carry added again.
fn simple_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum = (sum & 0xffff) + 1;
        }
    }
    sum as u16
}

fn frame(source: SocketAddr, destination: SocketAddr, vlan: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let template = HeaderTemplate::new(&Hop { vlan, ..HOP }, source, destination, 0xb8).expect("one family");
    let mut frame = vec![0xee; (template.len() + payload.len()).max(MIN_FRAME_BYTES)];
    frame[template.len()..][..payload.len()].copy_from_slice(payload);
    let len = template.write(&mut frame, payload.len()).expect("it fits");
    frame.truncate(len);
    frame
}

fn ipv4_frame() -> Vec<u8> {
    frame(address("192.0.2.1:4000"), address("198.51.100.7:5004"), None, &[7; 20])
}

fn ipv6_frame() -> Vec<u8> {
    frame(address("[2001:db8::1]:4000"), address("[2001:db8::2]:5004"), None, &[7; 20])
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Makes an IPv4 header's checksum right again.
fn mend(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let checksum = Sum::of(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

fn a_source() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|[a, b, c, d]| IpAddr::from([a % 126 + 1, b, c, d])),
        any::<[u8; 14]>().prop_map(|rest| {
            let mut octets = [0x20; 16];
            octets[2..].copy_from_slice(&rest);
            IpAddr::from(octets)
        }),
    ]
}

proptest! {
    #[test]
    fn the_sum_equals_its_definition(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
        prop_assert_eq!(Sum::of(&bytes).fold(), simple_sum(&bytes));
    }

    #[test]
    fn a_sum_of_even_parts_is_the_sum_of_the_whole(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..150,
    ) {
        let (left, right) = bytes.split_at((cut * 2).min(bytes.len() & !1));
        prop_assert_eq!(Sum::of(left).plus(Sum::of(right)).fold(), simple_sum(&bytes));
    }

    #[test]
    fn an_update_equals_a_new_sum(
        mut words in proptest::collection::vec(any::<u16>(), 2..40), at: prop::sample::Index, new: u16,
    ) {
        // A sum of zeros only has two forms of zero; no header is all zeros.
        words.push(0x4500);
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let before = Sum::of(&bytes(&words)).checksum();
        let at = at.index(words.len() - 1);
        let old = std::mem::replace(&mut words[at], new);
        let after = Sum::of(&bytes(&words)).checksum();
        prop_assert_eq!(update(before, old, new), after);
        prop_assert_eq!(update_bytes(before, &old.to_be_bytes(), &new.to_be_bytes()), after);
    }

    #[test]
    fn what_a_template_writes_is_read_again(
        source in a_source(), other in a_source(), ports: (u16, u16), vlan: Option<u16>,
        payload in proptest::collection::vec(any::<u8>(), 0..1450),
    ) {
        let destination = SocketAddr::new(other, ports.1);
        let source = SocketAddr::new(source, ports.0);
        if source.is_ipv4() != destination.is_ipv4() {
            prop_assert!(HeaderTemplate::new(&HOP, source, destination, 0).is_none());
            return Ok(());
        }
        let bytes = frame(source, destination, vlan, &payload);
        prop_assert!(bytes.len() >= MIN_FRAME_BYTES);
        let parsed = UdpFrame::parse(&bytes).expect("valid");
        prop_assert_eq!(&bytes[parsed.payload.clone()], &payload[..]);
        let expected = UdpFrame {
            destination_mac: HOP.destination_mac, source_mac: HOP.source_mac, vlan, source, destination,
            traffic_class: 0xb8, checksum: UdpChecksum::Full, payload: parsed.payload.clone(),
        };
        prop_assert_eq!(parsed, expected);
    }

    #[test]
    fn what_is_sent_on_is_written_as_by_a_template_of_its_class(
        source in a_source(), other in a_source(), classes: (u8, u8), payload: [u8; 20],
    ) {
        prop_assume!(source.is_ipv4() == other.is_ipv4());
        let template = |class| HeaderTemplate::new(&HOP, (source, 4000).into(), (other, 5000).into(), class);
        let mut frames = [[0; 128]; 2];
        let (template, expected) = (template(classes.0).expect("one family"), template(classes.1).expect("the same"));
        for frame in &mut frames {
            frame[template.len()..][..payload.len()].copy_from_slice(&payload);
        }
        let len = template.write_as(&mut frames[0], payload.len(), classes.1).expect("it fits");
        prop_assert_eq!(expected.write(&mut frames[1], payload.len()), Some(len));
        prop_assert_eq!(frames[0], frames[1]);
        prop_assert_eq!(UdpFrame::parse(&frames[0][..len]).expect("valid").traffic_class, classes.1);
    }

    #[test]
    fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = UdpFrame::parse(&bytes);
    }

    #[test]
    fn a_damaged_frame_never_panics_and_its_payload_is_inside(
        ipv6: bool, at: prop::sample::Index, value: u8, cut: prop::sample::Index,
    ) {
        let mut bytes = if ipv6 { ipv6_frame() } else { ipv4_frame() };
        let at = at.index(bytes.len());
        bytes[at] = value;
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(parsed) = UdpFrame::parse(&bytes) {
            prop_assert!(bytes.get(parsed.payload).is_some());
        }
    }

    #[test]
    fn one_wrong_bit_of_the_datagram_is_seen(ipv6: bool, at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = if ipv6 { ipv6_frame() } else { ipv4_frame() };
        let start = if ipv6 { 54 } else { 34 };
        let at = start + at.index(bytes.len() - start);
        bytes[at] ^= 1 << bit;
        prop_assert!(UdpFrame::parse(&bytes).is_err());
    }
}

#[test]
fn the_example_of_rfc_1071() {
    // Section 3: 00 01 f2 03 f4 f5 f6 f7 gives 2ddf0, which folds to ddf2.
    assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
}

#[test]
fn the_example_of_rfc_1624() {
    // Section 4: the sum with 0x5555 changed to 0x3285 becomes zero, not 0xffff.
    assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn a_real_datagram_has_the_checksum_that_the_kernel_gave_it() {
    // 10.0.0.1:4096 to 10.0.0.2:8192, "hi!", worked out by hand.
    let bytes = frame(address("10.0.0.1:4096"), address("10.0.0.2:8192"), None, b"hi!");
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    // 45b8 001f 0000 4000 4011 0000 0a00 0001 0a00 0002
    assert_eq!(
        word(24),
        !simple_sum(&[0x45, 0xb8, 0, 31, 0, 0, 0x40, 0, 0x40, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
    );
    // 0a00 0001 0a00 0002 0011 000b 1000 2000 000b 6869 2100
    assert_eq!(word(40), !0xcd93);
    assert_eq!(bytes.len(), MIN_FRAME_BYTES);
    assert!(bytes[45..].iter().all(|byte| *byte == 0), "padding is zeros");
}

#[test]
fn a_udp_checksum_that_sums_to_zero_is_sent_as_ones() {
    let template =
        HeaderTemplate::new(&HOP, address("192.0.2.1:1"), address("192.0.2.2:2"), 0).expect("IPv4");
    let mut frame = [0; 64];
    template.write(&mut frame, 2).expect("it fits");
    // The payload that makes up what is missing.
    let checksum = [frame[40], frame[41]];
    frame[42..44].copy_from_slice(&checksum);
    template.write(&mut frame, 2).expect("it fits");
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(UdpFrame::parse(&frame).expect("valid").checksum, UdpChecksum::Full);
}

#[test]
fn a_missing_checksum_is_accepted_on_ipv4_only() {
    let mut frame = ipv4_frame();
    frame[40..42].fill(0);
    assert_eq!(UdpFrame::parse(&frame).expect("valid").checksum, UdpChecksum::Absent);
    let mut frame = ipv6_frame();
    frame[60..62].fill(0);
    assert_eq!(UdpFrame::parse(&frame), Err(Reject::BadChecksum));
}

#[test]
fn a_checksum_left_to_the_network_card_is_told() {
    let mut frame = ipv4_frame();
    // 192.0.2.1, 198.51.100.7, 17, 28 bytes.
    let partial = simple_sum(&[192, 0, 2, 1, 198, 51, 100, 7, 0, 17, 0, 28]);
    frame[40..42].copy_from_slice(&partial.to_be_bytes());
    assert_eq!(UdpFrame::parse(&frame).expect("valid").checksum, UdpChecksum::Partial);
    frame[41] ^= 1;
    assert_eq!(UdpFrame::parse(&frame), Err(Reject::BadChecksum));
}

#[test]
fn a_frame_that_ends_early_is_short_or_of_bad_length() {
    for (frame, udp) in [(ipv4_frame(), 34), (ipv6_frame(), 54)] {
        for len in 0..frame.len() {
            let expected =
                if len < udp { &[Reject::Short, Reject::BadLength][..] } else { &[Reject::BadLength] };
            let reject = UdpFrame::parse(&frame[..len]).expect_err("cut");
            assert!(expected.contains(&reject), "{len} bytes: {reject:?}");
        }
    }
}

#[test]
fn padding_is_not_payload() {
    let mut frame = ipv4_frame();
    let len = frame.len();
    frame.extend([0xaa; 30]);
    assert_eq!(UdpFrame::parse(&frame).expect("valid").payload, 42..len);
}

#[test]
fn each_foreign_frame_is_rejected_by_its_reason() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Reject, Damage); 17] = [
        ("ARP", Reject::NotIp, |frame| frame[13] = 6),
        ("IPv6 in a frame of IPv4", Reject::NotIp, |frame| frame[14] = 0x60),
        ("a service tag", Reject::TwoTags, |frame| frame[12..14].copy_from_slice(&[0x88, 0xa8])),
        ("two tags", Reject::TwoTags, |frame| drop(frame.splice(12..12, [0x81, 0, 0, 1, 0x81, 0, 0, 2]))),
        ("options", Reject::IpOptions, |frame| frame[14] = 0x46),
        ("a header of 16 bytes", Reject::BadLength, |frame| frame[14] = 0x44),
        ("a first fragment", Reject::Fragment, |frame| frame[20] = 0x20),
        ("a last fragment", Reject::Fragment, |frame| frame[21] = 1),
        ("TCP", Reject::NotUdp, |frame| frame[23] = 6),
        ("longer than the frame", Reject::BadLength, |frame| frame[16] = 1),
        ("shorter than its header", Reject::BadLength, |frame| frame[16..18].copy_from_slice(&[0, 19])),
        ("a wrong header checksum", Reject::BadHeaderChecksum, |frame| frame[22] = 1),
        ("from loopback", Reject::ImpossibleSource, |frame| frame[26] = 127),
        ("from multicast", Reject::ImpossibleSource, |frame| frame[26] = 224),
        ("from nowhere", Reject::ImpossibleSource, |frame| frame[26..30].fill(0)),
        ("from everyone", Reject::ImpossibleSource, |frame| frame[26..30].fill(255)),
        ("longer than its packet", Reject::BadLength, |frame| frame[39] += 1),
    ];
    for (name, expected, damage) in cases {
        let mut frame = ipv4_frame();
        damage(&mut frame);
        if !matches!(expected, Reject::BadHeaderChecksum | Reject::TwoTags | Reject::NotIp) {
            mend(&mut frame);
        }
        assert_eq!(UdpFrame::parse(&frame), Err(expected), "{name}");
    }
    let cases: [(&str, Reject, Damage); 7] = [
        ("IPv4 in a frame of IPv6", Reject::NotIp, |frame| frame[14] = 0x45),
        ("a hop-by-hop header", Reject::ExtensionHeader, |frame| frame[20] = 0),
        ("a fragment", Reject::ExtensionHeader, |frame| frame[20] = 44),
        ("ICMP", Reject::NotUdp, |frame| frame[20] = 58),
        ("longer than the frame", Reject::BadLength, |frame| frame[18] = 1),
        ("from loopback", Reject::ImpossibleSource, |frame| {
            frame[22..38].fill(0);
            frame[37] = 1;
        }),
        ("from a mapped address", Reject::ImpossibleSource, |frame| {
            frame[22..32].fill(0);
            frame[32..34].fill(0xff);
        }),
    ];
    for (name, expected, damage) in cases {
        let mut frame = ipv6_frame();
        damage(&mut frame);
        assert_eq!(UdpFrame::parse(&frame), Err(expected), "{name}");
    }
}

#[test]
fn each_reason_is_a_counter_of_its_own() {
    let counters = RejectCounters::default();
    for (count, reject) in Reject::ALL.iter().enumerate() {
        (0..=count).for_each(|_| counters.count(*reject));
    }
    let mut values = Vec::new();
    counters.for_each(|_, _, value| values.push(value));
    assert_eq!(values, (1..=Reject::ALL.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_payload_that_does_not_fit_is_not_written() {
    let template =
        HeaderTemplate::new(&HOP, address("192.0.2.1:1"), address("192.0.2.2:2"), 0).expect("IPv4");
    assert_eq!(template.write(&mut [0; 100], 59), None);
    assert_eq!(template.write(&mut [0; 100], usize::MAX), None);
    assert_eq!(template.write(&mut vec![0; 70_000], 65_508), None);
    assert_eq!(template.write(&mut vec![0; 70_000], 65_507), Some(65_507 + 42));
    // Too small to be padded, but whole.
    assert_eq!(template.write(&mut [0; 50], 8), Some(50));
}
