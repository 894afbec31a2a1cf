//! Latency budgets and what is told of them.

use std::sync::Arc;

use xdp::Doorbell;

use super::{AiCounters, AiPort, Backend, FromWorker, LatencyBudget, LatencyPolicy, PortConfig};
use crate::time::{Duration, Instant};

fn pair(limit_ms: u64, policy: LatencyPolicy) -> (AiPort, Backend, Arc<AiCounters>) {
    let counters = Arc::new(AiCounters::default());
    let latency = LatencyBudget { limit: Duration::from_millis(limit_ms), policy };
    let config = PortConfig { latency, ..PortConfig::default() };
    let (port, backend) = AiPort::pair(&config, Doorbell::new().expect("an eventfd"), Arc::clone(&counters));
    (port, backend, counters)
}

/// Plays frames and reads; returns what was told of pressure.
fn play(port: &mut AiPort, backend: &mut Backend, frames: usize) -> Vec<bool> {
    let mut told = vec![];
    for _ in 0..frames {
        port.pull(Instant::ZERO, 0, &mut [0; 160]);
        backend.top_up();
        while let Some(report) = backend.poll() {
            told.extend(match report {
                FromWorker::Pressure { high } => Some(high),
                _ => None,
            });
        }
    }
    told
}

#[test]
fn keeping_all_counts_every_time_that_the_limit_is_passed() {
    let (mut port, mut backend, counters) = pair(1000, LatencyPolicy::Keep);
    for round in 1..=3 {
        for _ in 0..20 {
            assert_eq!(backend.queue_audio(&[1; 800]), 0);
        }
        assert_eq!(counters.budget_exceeded.value(), round, "a burst is one violation");
        assert_eq!(backend.queued(), 16_000);
        assert!(play(&mut port, &mut backend, 110).is_empty());
        assert!(!backend.is_speaking());
    }
    assert_eq!(backend.tally().budget_exceeded, 3);
    assert_eq!(backend.tally().bot_samples_dropped, 0);
}

#[test]
fn what_is_beyond_the_limit_is_refused_to_the_sample() {
    let (mut port, mut backend, counters) = pair(500, LatencyPolicy::Reject);
    assert_eq!(backend.queue_audio(&[1; 3999]), 0);
    assert_eq!(backend.queue_audio(&[2; 100]), 99);
    assert_eq!((backend.queued(), backend.position()), (4000, 4000), "what is refused has no position");
    assert_eq!((counters.budget_exceeded.value(), counters.budget_refused_bytes.value()), (1, 99));
    assert_eq!(counters.bot_audio_overflow_bytes.value(), 0);
    play(&mut port, &mut backend, 5);
    assert_eq!(backend.queue_audio(&[3; 1000]), 200);
    assert_eq!(backend.tally().bot_samples_dropped, 299);
}

#[test]
fn back_pressure_is_told_at_the_limit_and_again_below_four_fifths() {
    let (mut port, mut backend, _) = pair(500, LatencyPolicy::BackPressure);
    backend.queue_audio(&[1; 3999]);
    assert!(play(&mut port, &mut backend, 0).is_empty());
    assert_eq!(backend.poll(), None);
    backend.queue_audio(&[1; 1]);
    assert_eq!(backend.poll(), Some(FromWorker::Pressure { high: true }));
    assert_eq!(backend.poll(), None);
    // 3200 samples are four fifths.
    assert!(play(&mut port, &mut backend, 5).is_empty());
    assert_eq!(backend.queued(), 3200);
    assert_eq!(play(&mut port, &mut backend, 1), [false]);
    backend.queue_audio(&[1; 900]);
    assert_eq!(backend.poll(), None, "between the two nothing is said");
    backend.queue_audio(&[1; 100]);
    assert_eq!(backend.poll(), Some(FromWorker::Pressure { high: true }));
    backend.clear();
    assert_eq!(play(&mut port, &mut backend, 1), [false]);
}

#[test]
fn oldest_phrase_is_left_out_and_told_as_not_played() {
    let (mut port, mut backend, counters) = pair(3000, LatencyPolicy::DropOldest);
    let mut spans = vec![];
    for phrase in 0..5 {
        let start = backend.position();
        backend.queue_audio(&[phrase; 8000]);
        spans.push(start..backend.position());
        backend.queue_mark(phrase.to_string());
        backend.queue_audio(&[0xff; 2400]);
    }
    // The limit is three seconds: the first phrase is at the worker, of the others the oldest go.
    assert!(backend.queued() <= 3 * 8000 + 8000 + 2400, "{}", backend.queued());
    let mut marks = vec![];
    for _ in 0..400 {
        port.pull(Instant::ZERO, 0, &mut [0; 160]);
        backend.top_up();
        while let Some(report) = backend.poll() {
            if let FromWorker::MarkPlayed { name, report, .. } = report {
                marks.push((name, report.complete, report.position));
            }
        }
    }
    let played: Vec<u64> = spans.iter().map(|span| backend.played(span.clone())).collect();
    assert_eq!(played[0], 8000, "what has begun is said to its end");
    assert_eq!(played[4], 8000, "the newest is said");
    assert!(played.iter().all(|&played| played == 0 || played == 8000), "{played:?}");
    assert!(played.contains(&0), "{played:?}");
    for (number, (name, complete, position)) in marks.iter().enumerate() {
        assert_eq!(*name, number.to_string());
        assert_eq!(*complete, played[number] > 0, "{marks:?} {played:?}");
        assert!(*position >= spans[number].end || !complete);
    }
    assert_eq!(marks.len(), 5);
    assert!(counters.budget_left_out_bytes.value() > 8000);
    assert_eq!(backend.tally().bot_samples_dropped, counters.budget_left_out_bytes.value());
}
