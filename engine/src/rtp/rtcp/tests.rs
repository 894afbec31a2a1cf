use proptest::prelude::*;

use super::*;
use crate::time::Duration;

fn info() -> SenderInfo {
    SenderInfo { ntp: 0x0102_0304_0506_0708, rtp_timestamp: 9, packets: 10, octets: 11 }
}

fn block(lost: i32) -> ReportBlock {
    ReportBlock {
        ssrc: 7,
        fraction_lost: 3,
        cumulative_lost: lost,
        extended_highest: 65_540,
        jitter: 12,
        last_sender_report: 0x0304_0506,
        delay_since_last_sender_report: 65_536,
    }
}

#[test]
fn compound_that_was_written_is_read_back() {
    let mut buffer = [0; 256];
    let len = CompoundWriter::new(&mut buffer)
        .sender_report(1, &info(), Some(&block(-2)))
        .canonical_name(1, b"abcdef")
        .bye(1)
        .finish()
        .expect("fits");
    let packets: Vec<_> = Compound::parse(&buffer[..len]).expect("valid").packets().collect();
    let [Packet::SenderReport { ssrc: 1, info: read, blocks }, Packet::SourceDescription, bye] = packets[..]
    else {
        panic!("{packets:?}")
    };
    assert_eq!(read, info());
    assert_eq!(blocks.iter().collect::<Vec<_>>(), [block(-2)]);
    assert!(matches!(bye, Packet::Bye { sources } if sources.contains(1) && !sources.contains(2)));
}

#[test]
fn canonical_name_is_padded_to_a_word_with_at_least_one_zero() {
    for length in 0..=9 {
        let mut buffer = [0xAA; 64];
        let name = &b"123456789"[..length];
        let len = CompoundWriter::new(&mut buffer).canonical_name(5, name).finish().expect("fits");
        assert_eq!(len % 4, 0);
        assert_eq!(len, 4 + (usize::from(buffer[3]) * 4));
        assert_eq!(buffer[9], length as u8);
        assert_eq!(buffer[10 + length], 0);
        assert!(Compound::parse(&buffer[..len]).is_ok());
    }
}

#[test]
fn reduced_size_packet_is_accepted() {
    let bye = [0x81, 203, 0, 1, 0, 0, 0, 9];
    let compound = Compound::parse(&bye).expect("RFC 5506");
    assert!(matches!(compound.packets().next(), Some(Packet::Bye { sources }) if sources.contains(9)));
}

#[test]
fn unknown_types_are_passed_over() {
    let bytes = [0x80, 207, 0, 1, 1, 2, 3, 4, 0x80, 204, 0, 0, 0x81, 203, 0, 1, 0, 0, 0, 9];
    assert_eq!(Compound::parse(&bytes).expect("valid").packets().count(), 1);
}

#[test]
fn every_wrong_length_has_its_reason() {
    let cases: [(&[u8], RejectReason); 7] = [
        (&[], RejectReason::TooShort),
        (&[0x80, 200, 0], RejectReason::TooShort),
        (&[0x80, 200, 0, 1], RejectReason::RtcpLength),
        (&[0x80, 200, 0, 0, 0x80], RejectReason::RtcpLength),
        (&[0x40, 200, 0, 0], RejectReason::Version),
        (&[0x80, 100, 0, 0], RejectReason::RtcpType),
        (&[0xA0, 201, 0, 1, 0, 0, 0, 4, 0x80, 203, 0, 0], RejectReason::Padding),
    ];
    for (bytes, reason) in cases {
        assert_eq!(Compound::parse(bytes).err(), Some(reason), "{bytes:02x?}");
    }
}

#[test]
fn count_larger_than_the_body_leaves_the_packet_out() {
    assert_eq!(Compound::parse(&[0x9F, 203, 0, 1, 0, 0, 0, 9]).expect("lengths fit").packets().count(), 0);
    assert_eq!(Compound::parse(&[0x81, 201, 0, 1, 0, 0, 0, 9]).expect("lengths fit").packets().count(), 0);
}

#[test]
fn round_trip_is_arrival_less_both_delays() {
    let block = block(0);
    let arrival = block.last_sender_report.wrapping_add(65_536 + 6554);
    assert_eq!(block.round_trip(arrival), Some(6554));
    assert_eq!(block.round_trip(block.last_sender_report), None);
    assert_eq!(ReportBlock::default().round_trip(1), None);
}

#[test]
fn full_buffer_is_reported() {
    let mut buffer = [0; 27];
    assert_eq!(CompoundWriter::new(&mut buffer).sender_report(1, &info(), None).finish(), None);
}

#[test]
fn intervals_stay_in_their_range() {
    for random in (0..5000).map(|n| n * 7919) {
        let interval = report_interval(random);
        assert!(interval > Duration::from_millis(2000) && interval < Duration::from_millis(6200));
        let first = first_interval(random);
        assert!(first >= Duration::from_millis(2250) && first <= Duration::from_millis(2750));
    }
}

proptest! {
    #[test]
    fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(compound) = Compound::parse(&bytes) {
            for packet in compound.packets() {
                if let Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } = packet {
                    prop_assert!(blocks.iter().count() <= 31);
                }
            }
        }
    }

    #[test]
    fn block_parse_after_write_is_identity(
        ssrc: u32, fraction_lost: u8, lost in -0x80_0000i32..0x80_0000, highest: u32, jitter: u32, lsr: u32, dlsr: u32,
    ) {
        let block = ReportBlock {
            ssrc, fraction_lost, cumulative_lost: lost, extended_highest: highest, jitter,
            last_sender_report: lsr, delay_since_last_sender_report: dlsr,
        };
        prop_assert_eq!(ReportBlock::parse(&block.write()), block);
    }
}
