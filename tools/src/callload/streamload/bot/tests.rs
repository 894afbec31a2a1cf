use std::collections::VecDeque;

use super::*;

const MS: u64 = 1_000_000;

/// An engine that plays frames of 20 ms, with known faults.
#[derive(Default)]
struct Engine {
    queue: VecDeque<u8>,
    marks: VecDeque<(usize, String)>,
    played: usize,
    /// Frame number -> what goes wrong.
    silent_frames: Vec<u64>,
    lost_packets: Vec<u64>,
    /// Time from a packet to the echo of its marks; negative is before.
    mark_delay_ms: i64,
    clear_delay_frames: u64,
    clear_at: Option<u64>,
}

/// One bot for `ms`, starting with the given kind.
fn run(mut engine: Engine, turn: u64, ms: u64) -> StreamStats {
    let (mut bot, mut stats) = (Bot::new(9, 5 * MS), StreamStats::new());
    bot.turn = turn;
    let mut echoes: Vec<(u64, String)> = Vec::new();
    for now_ms in 0..ms {
        for say in bot.poll(now_ms * MS, &mut stats) {
            match say {
                Say::Audio(audio) => engine.queue.extend(audio),
                Say::Mark(name) => engine.marks.push_back((engine.played + engine.queue.len(), name)),
                Say::Clear => engine.clear_at = Some(now_ms / 20 + engine.clear_delay_frames),
            }
        }
        echoes.retain(|(due_ms, name)| {
            if *due_ms == now_ms {
                bot.handle_mark(name, now_ms * MS, &mut stats);
            }
            *due_ms != now_ms
        });
        if now_ms % 20 != 10 {
            continue;
        }
        let frame = now_ms / 20;
        if engine.clear_at.is_some_and(|at| frame >= at) {
            engine.clear_at = None;
            engine.played += engine.queue.len();
            engine.queue.clear();
            echoes.extend(engine.marks.drain(..).map(|(_, name)| (now_ms + 2, name)));
        }
        let mut payload = [0xff; 160];
        if !engine.silent_frames.contains(&frame) {
            let len = engine.queue.len().min(160);
            payload.iter_mut().zip(engine.queue.drain(..len)).for_each(|(slot, byte)| *slot = byte);
            engine.played += len;
        }
        while engine.marks.front().is_some_and(|(position, _)| *position <= engine.played) {
            let (_, name) = engine.marks.pop_front().unwrap();
            let due_ms = now_ms.checked_add_signed(engine.mark_delay_ms).unwrap();
            if due_ms <= now_ms {
                bot.handle_mark(&name, due_ms * MS, &mut stats);
            } else {
                echoes.push((due_ms, name));
            }
        }
        if !engine.lost_packets.contains(&frame) {
            bot.handle_heard(&payload, now_ms * MS, &mut stats);
        }
    }
    stats
}

/// As near as the histogram is.
fn near(ms: f64, expected_ms: f64) -> bool {
    (ms - expected_ms).abs() <= expected_ms * 0.001
}

const BURST: u64 = 2;
const PACED: u64 = 0;
const CLEAR: u64 = 1;

#[test]
fn a_burst_is_timed_to_its_first_packet_and_its_marks_to_their_packets() {
    let stats = run(Engine { mark_delay_ms: 3, ..Engine::default() }, BURST, 1_200);
    assert_eq!((stats.utterances, stats.utterances_complete), (1, 1));
    assert_eq!((stats.bot_samples, stats.bot_samples_missing, stats.bot_samples_wrong), (8_037, 0, 0));
    assert!(near(stats.start_burst.ms(100.0), 5.0), "begun at 5 ms, first frame at 10 ms");
    assert!(near(stats.mark_after.ms(100.0), 3.0));
    assert_eq!(stats.mark_after.len(), 2);
    assert_eq!((stats.marks_early, stats.bot_gaps), (0, 0));
}

#[test]
fn early_marks_are_seen_as_such() {
    let stats = run(Engine { mark_delay_ms: -4, ..Engine::default() }, BURST, 1_200);
    assert!(near(stats.mark_before.ms(100.0), 4.0));
    assert_eq!(stats.marks_early, 2);
}

#[test]
fn silence_in_the_middle_is_a_gap_of_its_length_and_at_the_end_none() {
    let stats = run(Engine { silent_frames: vec![7, 8, 30], ..Engine::default() }, PACED, 1_400);
    assert_eq!((stats.bot_gaps, stats.bot_samples), (2, 8_000));
    assert!(near(stats.bot_gap.ms(1.0), 20.0) && near(stats.bot_gap.ms(100.0), 40.0));
    assert_eq!((stats.utterances_complete, stats.start_paced.len()), (1, 1));
}

#[test]
fn a_lost_packet_is_missing_audio_and_no_gap() {
    let stats = run(Engine { lost_packets: vec![12], ..Engine::default() }, PACED, 1_400);
    assert_eq!((stats.bot_samples, stats.bot_samples_missing), (7_840, 160));
    assert_eq!((stats.bot_gaps, stats.bot_samples_wrong, stats.utterances_complete), (0, 0, 0));
}

#[test]
fn a_clear_is_timed_to_the_last_old_packet_and_to_the_marks_behind_it() {
    let at_once = run(Engine::default(), CLEAR, 1_300);
    assert_eq!((at_once.clears, at_once.clear_packets), (1, 0));
    assert_eq!((at_once.clear_audio.ms(100.0), at_once.clear_audio.len()), (0.0, 1));
    assert_eq!((at_once.clear_mark.len(), at_once.marks_lost, at_once.utterances_complete), (1, 0, 1));
    let slow = run(Engine { clear_delay_frames: 3, ..Engine::default() }, CLEAR, 1_300);
    assert!((2..=4).contains(&slow.clear_packets), "{}", slow.clear_packets);
    assert!((40.0..80.0).contains(&slow.clear_audio.ms(100.0)), "{}", slow.clear_audio.ms(100.0));
}

#[test]
fn an_engine_that_plays_nothing_loses_everything() {
    let stats = run(Engine { silent_frames: (0..200).collect(), ..Engine::default() }, BURST, 3_300);
    assert_eq!((stats.utterances, stats.utterances_complete), (1, 0));
    assert_eq!((stats.bot_samples_missing, stats.marks_lost), (8_037, 2));
}
