//! Both ends of the rings together, without threads.

use std::collections::VecDeque;
use std::sync::Arc;

use xdp::Doorbell;

use super::*;
use crate::ai::playout::{KEPT_BYTES, MAX_MARKS};
use crate::ai::{AiPort, PortConfig};
use crate::command::Digit;
use crate::stream::PlayoutReport;

fn pair() -> (AiPort, Backend, Arc<AiCounters>) {
    let counters = Arc::new(AiCounters::default());
    let doorbell = Doorbell::new().expect("an eventfd");
    let (port, backend) = AiPort::pair(&PortConfig::default(), doorbell, Arc::clone(&counters));
    (port, backend, counters)
}

/// What tells of spurts and of the caller's speech; not what these tests are about.
fn is_aside(report: &FromWorker) -> bool {
    matches!(report, FromWorker::Began { .. } | FromWorker::Finished { .. } | FromWorker::Speech { .. })
}

/// Pulls frames like a worker; the backend is served after each. Returns the audio and what was reported of marks
/// and clears.
fn pull_frames(port: &mut AiPort, backend: &mut Backend, frames: u32) -> (Vec<u8>, Vec<FromWorker>) {
    let (mut audio, mut reports) = (Vec::new(), Vec::new());
    for n in 0..frames {
        let mut frame = [0; 160];
        let len = port.pull(Instant::from_millis(u64::from(n) * 20), n * 160, &mut frame);
        // Where audio is cut off, it fades away.
        let fade = if len == 0 { 39 } else { 0 };
        assert!(frame[len + fade..].iter().all(|&byte| byte == 0xff));
        audio.extend_from_slice(&frame[..len]);
        while let Some(report) = backend.poll() {
            reports.extend(Some(report).filter(|report| !is_aside(report)));
        }
        backend.top_up();
    }
    (audio, reports)
}

fn names(reports: &[FromWorker]) -> Vec<(&str, bool)> {
    reports
        .iter()
        .filter_map(|report| match report {
            FromWorker::MarkPlayed { name, report, .. } => Some((name.as_str(), report.complete)),
            _ => None,
        })
        .collect()
}

fn ramp(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn a_minute_in_one_burst_is_played_out_in_full() {
    let (mut port, mut backend, counters) = pair();
    let burst = ramp(60 * 8000 + 77);
    assert_eq!(backend.queue_audio(&burst), 0);
    assert_eq!(backend.queue_mark("end".into()), None);
    let (audio, reports) = pull_frames(&mut port, &mut backend, 3001);
    assert_eq!(audio, burst);
    assert_eq!(names(&reports), [("end", true)]);
    assert!(!backend.is_speaking());
    assert_eq!(counters.bot_audio_overflow_bytes.value(), 0);
    assert!(backend.backlog_capacity() <= KEPT_BYTES);
}

#[test]
fn queue_is_bounded_and_drops_the_newest() {
    let (mut port, mut backend, counters) = pair();
    let chunk = ramp(100_000);
    let dropped: usize = (0..100).map(|_| backend.queue_audio(&chunk)).sum();
    assert_eq!(backend.queued(), 960_000);
    assert_eq!(dropped, 10_000_000 - 960_000);
    assert_eq!(counters.bot_audio_overflow_bytes.value(), dropped as u64);
    assert!(backend.backlog_capacity() < 2 * 1024 * 1024);
    let (audio, _) = pull_frames(&mut port, &mut backend, 600);
    assert_eq!(audio[..96_000], chunk[..96_000]);
}

#[test]
fn mark_comes_back_with_the_frame_that_played_its_last_sample() {
    let (mut port, mut backend, _) = pair();
    backend.queue_audio(&ramp(1000));
    backend.queue_mark("a".into());
    backend.queue_audio(&ramp(600));
    backend.queue_mark("b".into());
    backend.queue_mark("b".into());
    let (_, reports) = pull_frames(&mut port, &mut backend, 6);
    assert_eq!(reports, []);
    let (_, reports) = pull_frames(&mut port, &mut backend, 1);
    let expected = PlayoutReport { played_samples: 1000, position: 1000, rtp_timestamp: 40, complete: true };
    let at = Instant::ZERO;
    assert_eq!(reports, [FromWorker::MarkPlayed { at, name: "a".into(), report: expected }]);
    let (_, reports) = pull_frames(&mut port, &mut backend, 3);
    assert_eq!(names(&reports), [("b", true), ("b", true)]);
}

#[test]
fn mark_on_an_empty_queue_comes_back_at_once() {
    let (_port, mut backend, _) = pair();
    assert_eq!(backend.queue_mark("now".into()), Some("now".into()));
}

#[test]
fn clear_silences_the_very_next_frame_and_returns_all_marks_in_order() {
    let (mut port, mut backend, counters) = pair();
    backend.queue_audio(&ramp(320));
    backend.queue_mark("heard".into());
    // Far more than the ring holds, so that marks wait on both sides of it.
    for n in 0..100 {
        backend.queue_audio(&ramp(8000));
        backend.queue_mark(n.to_string());
    }
    let (audio, reports) = pull_frames(&mut port, &mut backend, 3);
    assert_eq!((audio.len(), names(&reports)), (480, vec![("heard", true)]));

    backend.clear();
    let fresh = vec![7; 800];
    backend.queue_audio(&fresh);
    let (audio, reports) = pull_frames(&mut port, &mut backend, 8);
    assert_eq!(audio, fresh);
    let FromWorker::Cleared { report, .. } = &reports[0] else { panic!("{:?}", reports[0]) };
    assert_eq!(report.played_samples, 480);
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let marks = names(&reports);
    assert_eq!(marks.iter().map(|(name, _)| *name).collect::<Vec<_>>(), expected);
    assert!(marks.iter().all(|(_, complete)| !complete));
    assert_eq!(counters.clear_of_empty_queue.value(), 0);
}

#[test]
fn a_report_names_the_clears_that_it_is_about_and_no_later_one() {
    let (mut port, mut backend, _) = pair();
    let mut frame = [0; 160];
    let mut pull = |port: &mut AiPort| port.pull(Instant::ZERO, 0, &mut frame);
    let cleared = |backend: &mut Backend| {
        let reports = std::iter::from_fn(|| backend.poll());
        let numbers = reports.filter_map(|report| match report {
            FromWorker::Cleared { number, report, .. } => Some((number, report.played_samples)),
            _ => None,
        });
        numbers.collect::<Vec<_>>()
    };
    backend.queue_audio(&ramp(8000));
    assert_eq!(pull(&mut port), 160);
    assert_eq!((backend.clear(), backend.clear()), (1, 2));
    pull(&mut port);
    // The worker has told of two in one frame, and a third is on its way to it with what came before.
    backend.queue_audio(&ramp(8000));
    assert_eq!(pull(&mut port), 160);
    assert_eq!(backend.clear(), 3);
    assert_eq!(cleared(&mut backend), [(2, 160)]);
    pull(&mut port);
    assert_eq!(cleared(&mut backend), [(3, 320)]);
}

#[test]
fn clear_of_an_empty_queue_changes_nothing() {
    let (mut port, mut backend, counters) = pair();
    backend.clear();
    backend.queue_audio(&ramp(800));
    backend.queue_mark("m".into());
    let (audio, reports) = pull_frames(&mut port, &mut backend, 6);
    assert_eq!(audio, ramp(800));
    assert_eq!(names(&reports), [("m", true)]);
    assert_eq!(counters.clear_of_empty_queue.value(), 1);
}

#[test]
fn marks_are_bounded_by_number_and_size() {
    let (_port, mut backend, counters) = pair();
    backend.queue_audio(&ramp(8000));
    for _ in 0..10 {
        backend.queue_mark("x".repeat(100_000));
    }
    assert_eq!(counters.marks_overflow.value(), 8);
    for _ in 0..10_000 {
        backend.queue_mark("y".into());
    }
    assert_eq!(backend.marks.len(), MAX_MARKS);
}

#[test]
fn caller_audio_arrives_in_order_and_leaves_room_for_digits() {
    let (mut port, mut backend, counters) = pair();
    for n in 0..1000u64 {
        port.push_audio(Instant::from_millis(n * 20), n * 160, &ramp(160));
    }
    assert!(counters.caller_audio_overflow.value() > 0);
    port.push_digit(160_000, Digit::from_char('5').expect("a digit"), Duration::from_millis(80));
    assert_eq!(counters.digit_overflow.value(), 0);
    let mut expected = 0;
    let mut digits = 0;
    while let Some(report) = backend.poll() {
        match report {
            FromWorker::Audio { timestamp, audio, .. } => {
                assert_eq!((timestamp, &audio[..]), (expected, ramp(160).as_slice()));
                expected += 160;
            }
            FromWorker::Digit { digit, .. } => digits += u32::from(digit.as_char() == '5'),
            other => assert!(is_aside(&other), "{other:?}"),
        }
    }
    assert_eq!(digits, 1);
    assert_eq!(expected / 160 + counters.caller_audio_overflow.value(), 1000);
}

#[test]
fn reports_wait_while_the_ring_to_the_backend_is_full() {
    let (mut port, mut backend, counters) = pair();
    for n in 0..200 {
        backend.queue_audio(&ramp(160));
        backend.queue_mark(n.to_string());
    }
    for n in 0..300u32 {
        port.pull(Instant::ZERO, n * 160, &mut [0; 160]);
        port.push_audio(Instant::ZERO, u64::from(n) * 160, &ramp(160));
        backend.top_up();
    }
    let (_, reports) = pull_frames(&mut port, &mut backend, 20);
    assert_eq!(names(&reports).len(), 200);
    assert_eq!(counters.marks_overflow.value(), 0);
}

#[test]
fn port_of_a_dead_backend_reads_closed_and_silent() {
    let (mut port, mut backend, _) = pair();
    backend.queue_audio(&ramp(1600));
    assert!(!port.is_closed() && port.is_speaking());
    drop(backend);
    let mut frame = [0; 160];
    assert_eq!((port.pull(Instant::ZERO, 0, &mut frame), frame), (0, [0xff; 160]));
    assert!(port.is_closed());
    port.push_audio(Instant::ZERO, 0, &[0; 160]);
}

#[test]
fn backend_learns_that_the_call_has_ended() {
    let (port, backend, _) = pair();
    assert!(!backend.is_ended());
    drop(port);
    assert!(backend.is_ended());
}

#[test]
fn long_blocks_are_split_on_the_timeline() {
    let (mut port, mut backend, _) = pair();
    port.push_audio(Instant::ZERO, 1000, &ramp(240));
    let blocks: Vec<_> = std::iter::from_fn(|| backend.poll())
        .filter(|report| !is_aside(report))
        .map(|report| match report {
            FromWorker::Audio { timestamp, audio, .. } => (timestamp, audio.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(blocks, [(1000, 160), (1160, 80)]);
}

proptest::proptest! {
    /// Whatever the order of audio, marks, clears and pulls: what is played is what was queued and not
    /// cleared, in order, and every mark comes back once, in order.
    #[test]
    fn rings_equal_a_queue(steps in proptest::collection::vec((0u8..10, 1usize..3000), 1..200)) {
        let (mut port, mut backend, _) = pair();
        let (mut model, mut played, mut expected) = (VecDeque::new(), Vec::new(), Vec::new());
        let (mut asked, mut answered, mut next) = (0u32, Vec::new(), 0u8);
        for (kind, len) in steps {
            match kind {
                0..4 => {
                    let audio: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                    backend.queue_audio(&audio);
                    model.extend(audio);
                }
                4..6 => {
                    answered.extend(backend.queue_mark(asked.to_string()));
                    asked += 1;
                }
                6 => {
                    backend.clear();
                    model.clear();
                }
                _ => {
                    let (audio, reports) = pull_frames(&mut port, &mut backend, 1 + len as u32 / 500);
                    expected.extend(model.drain(..audio.len()));
                    played.extend(audio);
                    answered.extend(names(&reports).iter().map(|(name, _)| (*name).to_owned()));
                }
            }
        }
        let (audio, reports) = pull_frames(&mut port, &mut backend, 4000);
        expected.extend(model);
        played.extend(audio);
        answered.extend(names(&reports).iter().map(|(name, _)| (*name).to_owned()));
        proptest::prop_assert_eq!(played, expected);
        proptest::prop_assert_eq!(answered, (0..asked).map(|n| n.to_string()).collect::<Vec<_>>());
        proptest::prop_assert!(!backend.is_speaking());
    }
}
