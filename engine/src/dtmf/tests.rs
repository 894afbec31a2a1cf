use proptest::prelude::*;

use super::*;
use crate::command::Digit;
use crate::time::{Duration, Instant};

fn event(event: u8, duration: u16, end: bool) -> TelephoneEvent {
    TelephoneEvent { event, end, volume: 10, duration }
}

fn ms(milliseconds: u64) -> Instant {
    Instant::from_millis(milliseconds)
}

/// Feeds packets 20 ms apart and lets time run out.
fn digits(packets: &[(u32, bool, TelephoneEvent)]) -> Vec<(char, u64)> {
    let mut receiver = DtmfReceiver::default();
    let mut digits = vec![];
    let mut now = 1000;
    for &(timestamp, marker, event) in packets {
        digits.extend(receiver.handle_packet(ms(now), timestamp, marker, event).into_iter().flatten());
        digits.extend(receiver.handle_timeout(ms(now)));
        now += 20;
    }
    digits.extend(receiver.handle_timeout(ms(now + 1000)));
    assert!(!receiver.is_active());
    digits.iter().map(|digit| (digit.digit.as_char(), digit.duration.as_millis() as u64)).collect()
}

/// All packets of one key: one update per 20 ms, three ends.
fn key(code: u8, timestamp: u32, updates: u16) -> Vec<(u32, bool, TelephoneEvent)> {
    let mut packets: Vec<_> =
        (1..=updates).map(|n| (timestamp, n == 1, event(code, n * 160, false))).collect();
    packets.extend([(timestamp, false, event(code, (updates + 1) * 160, true)); 3]);
    packets
}

#[test]
fn key_is_reported_once_at_its_release_with_its_duration() {
    let mut receiver = DtmfReceiver::default();
    let mut ends = 0;
    for (timestamp, marker, event) in key(5, 8000, 4) {
        ends += u32::from(event.end);
        let reported = receiver.handle_packet(ms(1), timestamp, marker, event);
        assert_eq!(reported[0], None);
        assert_eq!(reported[1].is_some(), ends == 1 && event.end);
    }
    assert_eq!(digits(&key(5, 8000, 4)), [('5', 100)]);
}

#[test]
fn audio_is_muted_from_the_first_packet_to_the_release() {
    let mut receiver = DtmfReceiver::default();
    let _ = receiver.handle_packet(ms(1), 1, true, event(1, 160, false));
    assert!(receiver.is_active());
    let _ = receiver.handle_packet(ms(21), 1, false, event(1, 320, true));
    assert!(!receiver.is_active());
    let _ = receiver.handle_packet(ms(41), 1, false, event(1, 320, true));
    assert!(!receiver.is_active());
}

#[test]
fn single_ending_packet_is_enough() {
    assert_eq!(digits(&[(1, false, event(11, 800, true))]), [('#', 100)]);
}

#[test]
fn key_without_an_end_is_over_when_its_packets_cease() {
    assert_eq!(digits(&key(3, 1, 4)[..4]), [('3', 80)]);
    let mut receiver = DtmfReceiver::default();
    let _ = receiver.handle_packet(ms(0), 1, true, event(3, 160, false));
    assert_eq!(receiver.handle_timeout(ms(199)), None);
    assert!(receiver.handle_timeout(ms(200)).is_some());
    assert_eq!(receiver.handle_timeout(ms(500)), None);
    // The rest of the key, late: not another one.
    assert_eq!(receiver.handle_packet(ms(600), 1, false, event(3, 800, true)), [None; 2]);
}

#[test]
fn same_key_twice_is_two_digits_even_without_the_ends() {
    let mut packets = key(7, 1000, 4);
    packets.extend(key(7, 3000, 4));
    assert_eq!(digits(&packets), [('7', 100), ('7', 100)]);
    let mut packets = key(7, 1000, 4)[..4].to_vec();
    packets.extend(key(7, 3000, 4));
    assert_eq!(digits(&packets), [('7', 80), ('7', 100)]);
}

#[test]
fn long_key_in_segments_is_one_digit() {
    let packets = [
        (0, true, event(2, 65_000, false)),
        (0, false, event(2, 65_535, false)),
        (65_535, false, event(2, 160, false)),
        (65_535, false, event(2, 65_535, false)),
        (131_070, false, event(2, 8_930, false)),
        (131_070, false, event(2, 8_930, true)),
        (131_070, false, event(2, 8_930, true)),
        // A straggler of an earlier segment.
        (65_535, false, event(2, 320, false)),
    ];
    assert_eq!(digits(&packets), [('2', 17_500)]);
}

#[test]
fn zero_duration_and_codes_above_15_are_ignored() {
    assert_eq!(digits(&[(1, true, event(4, 0, false)), (1, false, event(4, 0, true))]), []);
    assert_eq!(digits(&[(1, true, event(16, 800, true)), (2, true, event(255, 800, true))]), []);
    // A sender that begins with zero is still heard.
    let mut packets = vec![(1, true, event(4, 0, false))];
    packets.extend(key(4, 1, 3));
    assert_eq!(digits(&packets), [('4', 80)]);
}

#[test]
fn key_that_was_overtaken_whole_is_not_lost() {
    let packets = [
        (3000, true, event(9, 160, false)),
        (1000, false, event(8, 800, true)),
        (1000, false, event(8, 800, true)),
        (3000, false, event(9, 800, true)),
    ];
    assert_eq!(digits(&packets), [('8', 100), ('9', 100)]);
}

#[test]
fn timestamps_may_wrap() {
    let mut packets = key(1, u32::MAX - 100, 3);
    packets.extend(key(2, 2000, 3));
    assert_eq!(digits(&packets), [('1', 80), ('2', 80)]);
}

#[test]
fn sender_updates_each_frame_and_ends_three_times() {
    let mut sender = DtmfSender::new();
    assert!(sender.push(Digit::from_char('5').expect("digit"), Duration::from_millis(100)));
    let mut timestamp = 5000;
    let mut packets = vec![];
    for _ in 0..20 {
        packets.extend(sender.next_frame(timestamp, 160));
        timestamp += 160;
    }
    let seen: Vec<_> = packets.iter().map(|p| (p.marker, p.event.end, p.event.duration)).collect();
    assert!(packets.iter().all(|p| p.timestamp == 5000 && p.event.event == 5 && p.event.volume == 10));
    let expected = [
        (true, false, 160),
        (false, false, 320),
        (false, false, 480),
        (false, false, 640),
        (false, true, 800),
        (false, true, 800),
        (false, true, 800),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn queue_is_bounded_and_keys_are_apart() {
    let mut sender = DtmfSender::new();
    let digit = Digit::from_char('1').expect("digit");
    for _ in 0..DtmfSender::CAPACITY {
        assert!(sender.push(digit, Duration::ZERO));
    }
    assert!(!sender.push(digit, Duration::ZERO));
    let mut frames = vec![];
    for n in 0..2000u32 {
        frames.push(sender.next_frame(n * 160, 160));
    }
    let mut beginnings: Vec<u32> = frames.iter().flatten().map(|packet| packet.timestamp).collect();
    beginnings.dedup();
    assert_eq!(beginnings.len(), DtmfSender::CAPACITY);
    for pair in beginnings.windows(2) {
        assert!(pair[1] - pair[0] >= 320 + 320, "40 ms down and 40 ms apart");
    }
}

#[test]
fn what_is_sent_is_received_with_every_frame_length() {
    for samples in [80, 160, 240, 320, 480] {
        let mut sender = DtmfSender::new();
        let mut receiver = DtmfReceiver::default();
        let text = "0123456789*#ABCD";
        for digit in text.chars() {
            assert!(sender.push(Digit::from_char(digit).expect("digit"), Duration::from_millis(120)));
        }
        let mut received = String::new();
        for n in 0..1000u32 {
            let timestamp = n.wrapping_mul(samples);
            let now = Instant::from_nanos(u64::from(n) * u64::from(samples) * 125_000);
            if let Some(packet) = sender.next_frame(timestamp, samples) {
                let event = TelephoneEvent::parse(&packet.event.write()).expect("4 bytes");
                let digits = receiver.handle_packet(now, packet.timestamp, packet.marker, event);
                received.extend(digits.iter().flatten().map(|digit| digit.digit.as_char()));
            }
            received.extend(receiver.handle_timeout(now).map(|digit| digit.digit.as_char()));
        }
        assert_eq!(received, text, "{samples}");
    }
}

proptest! {
    #[test]
    fn parse_after_write_is_identity(event: u8, end: bool, volume in 0u8..64, duration: u16) {
        let event = TelephoneEvent { event, end, volume, duration };
        prop_assert_eq!(TelephoneEvent::parse(&event.write()), Some(event));
    }

    #[test]
    fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
        prop_assert_eq!(TelephoneEvent::parse(&bytes).is_some(), bytes.len() >= 4);
    }

    #[test]
    fn receiver_never_panics(packets in proptest::collection::vec((any::<u32>(), any::<bool>(), any::<u8>(), any::<u16>(), any::<bool>()), 0..50)) {
        let mut receiver = DtmfReceiver::default();
        for (n, (timestamp, marker, code, duration, end)) in packets.into_iter().enumerate() {
            let now = ms(n as u64 * 37);
            let _ = receiver.handle_packet(now, timestamp, marker, event(code, duration, end));
            let _ = receiver.handle_timeout(now);
        }
    }

    /// Loss, repetition and reordering by up to 100 ms; at least one packet of each key survives.
    #[test]
    fn every_key_of_which_a_packet_survives_is_one_digit(
        codes in proptest::collection::vec(0u8..16, 1..12),
        seed: u64,
        loss in 0u64..90,
    ) {
        let mut random = seed | 1;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
        };
        let mut arrivals = vec![];
        for (n, &code) in codes.iter().enumerate() {
            // 300 ms per key: 100 ms down, its ends, a gap.
            let packets = key(code, n as u32 * 2400, 4);
            let survivor = next() as usize % packets.len();
            for (m, packet) in packets.into_iter().enumerate() {
                if m != survivor && next() % 100 < loss {
                    continue;
                }
                for _ in 0..1 + next() % 2 {
                    let late = next() % 100;
                    arrivals.push((n as u64 * 300 + m as u64 * 20 + late, packet));
                }
            }
        }
        arrivals.sort_by_key(|arrival| arrival.0);
        let mut receiver = DtmfReceiver::default();
        let mut received = vec![];
        let mut arrivals = arrivals.into_iter().peekable();
        for now in 0..codes.len() as u64 * 300 + 1000 {
            while let Some((_, (timestamp, marker, event))) = arrivals.next_if(|arrival| arrival.0 <= now) {
                received.extend(receiver.handle_packet(ms(now), timestamp, marker, event).into_iter().flatten());
            }
            received.extend(receiver.handle_timeout(ms(now)));
        }
        let received: Vec<u8> = received.iter().map(|digit| digit.digit.event()).collect();
        prop_assert_eq!(received, codes);
    }
}
