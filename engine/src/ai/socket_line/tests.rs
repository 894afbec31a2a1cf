//! The clock and the caller's timeline.

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::dialect::AudioFormat;
use super::super::line::Line;
use super::caller::CallerAudio;
use super::clock::{Clock, Due, FRAME, MOST_AT_ONCE};
use crate::time::Duration;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn each_frame_is_due_once_and_a_late_one_moves_no_other() {
    let start = Instant::now();
    let mut clock = Clock::new(start);
    let due = |clock: &mut Clock, after| clock.due(start + ms(after));
    assert_eq!(due(&mut clock, 0), Due { frames: 1, late: 0, left_out: 0 });
    assert_eq!(due(&mut clock, 19), Due::default());
    assert_eq!(due(&mut clock, 39), Due { frames: 1, late: 0, left_out: 0 });
    assert_eq!(clock.next(), start + ms(40));
    assert_eq!(due(&mut clock, 85), Due { frames: 3, late: 2, left_out: 0 });
    assert_eq!(clock.next(), start + ms(100));
}

#[test]
fn what_is_too_late_is_left_out() {
    let start = Instant::now();
    let mut clock = Clock::new(start);
    let due = clock.due(start + Duration::from_secs(3600));
    assert_eq!(due, Due { frames: MOST_AT_ONCE, late: MOST_AT_ONCE, left_out: 180_001 - MOST_AT_ONCE });
    assert_eq!(clock.next(), start + Duration::from_secs(3600) + FRAME);
}

fn caller(format: AudioFormat) -> (CallerAudio, crate::time::Instant) {
    let now = crate::time::Instant::from_nanos(1_000_000_000);
    (CallerAudio::new(now, Line::new(AudioFormat::PCMU), format).expect("a known format"), now)
}

#[test]
fn audio_that_comes_in_any_pieces_goes_on_in_blocks_without_gaps() {
    let (mut caller, now) = caller(AudioFormat::PCMU);
    let said: Vec<u8> = (0..1000).map(|n| (n % 251) as u8).collect();
    let mut heard = Vec::new();
    for piece in said.chunks(33) {
        caller.take(now, piece, |position, block| {
            assert_eq!((position, block.len()), (heard.len() as u64, 160));
            heard.extend_from_slice(block);
        });
    }
    assert_eq!(heard, said[..960]);
    assert_eq!(caller.position(), 1000);
}

#[test]
fn silence_stands_for_what_does_not_come_and_a_slow_clock_is_no_gap() {
    let (mut caller, start) = caller(AudioFormat::PCMU);
    let speech = [0x55; 160];
    let mut now = start;
    // 21 ms for 20 ms of audio: 5 % slow, for a minute.
    for _ in 0..3000 {
        now += ms(21);
        caller.take(now, &speech, |_, _| {});
        assert_eq!(caller.fill_gap(now + ms(5), |_, _| {}), 0);
    }
    let before = caller.position();
    let mut filled = 0;
    for _ in 0..50 {
        now += FRAME;
        filled += caller.fill_gap(now, |_, block| assert!(block.iter().all(|&byte| byte == 0xff)));
    }
    assert_eq!((filled, caller.position() - before), (8000, 8000), "a second of it");
    // The first that comes ends it.
    now += FRAME;
    caller.take(now, &speech, |_, block| assert_eq!(block, speech));
    assert_eq!(caller.fill_gap(now + ms(90), |_, _| {}), 0);
}

#[test]
fn who_sends_faster_than_real_time_is_left_waiting_but_a_fast_clock_is_not() {
    let (mut caller, start) = caller(AudioFormat::PCMU);
    let second = [0x55; 8000];
    caller.take(start, &second, |_, _| {});
    caller.take(start, &second, |_, _| {});
    assert!(!caller.is_ahead(start), "what a stall of the network has held up");
    caller.take(start, &second, |_, _| {});
    assert!(caller.is_ahead(start));
    assert!(!caller.is_ahead(start + ms(1001)));
    // 0.2 % fast, for an hour and more.
    let (mut caller, mut now) = self::caller(AudioFormat::PCMU);
    for _ in 0..200_000 {
        caller.take(now, &[0x55; 160], |_, _| {});
        now += Duration::from_micros(19_960);
        caller.fill_gap(now, |_, _| {});
    }
    assert!(!caller.is_ahead(now));
}

proptest! {
    #[test]
    fn nothing_is_lost_at_any_rate(
        rate in prop_oneof![Just(8_000u32), Just(16_000), Just(24_000), Just(48_000)],
        cuts in proptest::collection::vec(1usize..2_000, 1..20),
    ) {
        let (mut caller, now) = caller(AudioFormat::l16(rate));
        let mut samples = 0;
        for cut in cuts {
            samples += cut;
            caller.take(now, &vec![1; cut * 2], |_, _| {});
        }
        prop_assert_eq!(caller.position(), samples as u64 * 8_000 / u64::from(rate));
    }
}
