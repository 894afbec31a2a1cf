//! What an AI backend is told about the playout of its audio, held against the RTP that the caller got: to the
//! sample, through a whole stream in virtual time.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::Doorbell;
use engine::ai::dialect::AudioFormat;
use engine::ai::{AiCounters, AiPort, Backend, FromWorker, PortConfig};
use engine::codec::{Codec, Law};
use engine::stream::{App, Direction, PlayoutReport, StreamParameters};
use support::{CALLER, ENGINE, Link, Phone, World, address, format, parameters, talk};

/// A call with a bot.
struct Call {
    world: World,
    backend: Backend,
    own: StreamParameters,
    reports: Vec<FromWorker>,
    counters: Arc<AiCounters>,
}

impl Call {
    fn new(codec: Codec, ptime_ms: u64, config: PortConfig) -> Self {
        let counters = Arc::<AiCounters>::default();
        let doorbell = Doorbell::new().expect("eventfd");
        let (port, backend) = AiPort::pair(&config, doorbell, Arc::clone(&counters));
        let mut own = parameters(address(CALLER));
        own.send = format(codec);
        own.ptime = Duration::from_millis(ptime_ms);
        let mut world = World::new(Link::default(), 1);
        world.add(address(ENGINE), own, App::Ai(Box::new(port)), 0);
        Self { world, backend, own, reports: vec![], counters }
    }

    /// Lets time pass; the AI thread runs every 10 ms.
    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            self.world.run_for(10);
            self.poll();
        }
    }

    /// Lets time pass while the AI thread hands audio over but does not read.
    fn run_unread(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            self.world.run_for(10);
            self.backend.top_up();
        }
    }

    fn poll(&mut self) {
        while let Some(report) = self.backend.poll() {
            if !matches!(report, FromWorker::Audio { .. }) {
                self.reports.push(report);
            }
        }
        self.backend.top_up();
    }

    /// What the caller was sent, by RTP timestamp.
    fn heard(&self) -> BTreeMap<u32, u8> {
        let packets = self.world.rtp_from(address(ENGINE));
        packets
            .into_iter()
            .flat_map(|(_, header, payload)| {
                (0..).map(move |n| header.timestamp.wrapping_add(n)).zip(payload)
            })
            .collect()
    }

    fn mark(&self, wanted: &str) -> PlayoutReport {
        let mut marks = self.reports.iter().filter_map(|report| match report {
            FromWorker::MarkPlayed { name, report, .. } if name == wanted => Some(*report),
            _ => None,
        });
        let mark = marks.next().unwrap_or_else(|| panic!("the mark {wanted}: {:?}", self.reports));
        assert!(marks.next().is_none(), "answered once");
        mark
    }
}

fn line(codec: Codec) -> AudioFormat {
    if codec == Codec::Pcma { AudioFormat::PCMA } else { AudioFormat::PCMU }
}

/// A tone of its own for every number, never silent.
fn tone(codec: Codec, number: u32, samples: usize) -> Vec<u8> {
    let frequency = 300.0 + 97.0 * f64::from(number);
    let pcm: Vec<i16> = (0..samples)
        .map(|n| {
            (8000.0 * (n as f64 * frequency * std::f64::consts::TAU / 8000.0 + 0.7).sin()) as i16 | 0x200
        })
        .collect();
    let mut encoded = vec![0; samples];
    codec.law().expect("G.711").encode(&pcm, &mut encoded);
    encoded
}

fn span(heard: &BTreeMap<u32, u8>, from: u32, to: u32) -> Vec<u8> {
    (0..to.wrapping_sub(from)).map(|n| *heard.get(&from.wrapping_add(n)).expect("it was sent")).collect()
}

fn config(codec: Codec) -> PortConfig {
    PortConfig { line: line(codec), ..PortConfig::default() }
}

#[test]
fn marks_are_where_the_tones_end_to_the_sample() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        for ptime in [10, 20, 30] {
            for is_read in [true, false] {
                let mut call = Call::new(codec, ptime, config(codec));
                call.run(200);
                let lengths = [1234, 160, 7, 3999, 801, 2400, 1, 555];
                let mut tones = vec![];
                for (number, &length) in lengths.iter().enumerate() {
                    let start = call.backend.position();
                    let tone = tone(codec, number as u32, length);
                    assert_eq!(call.backend.queue_audio(&tone), 0);
                    assert_eq!(call.backend.queue_mark(number.to_string()), None);
                    assert_eq!(call.backend.position(), start + length as u64);
                    tones.push((start, tone));
                }
                call.backend.end_utterance();
                // The ring to the AI thread is full for half of the time.
                if is_read {
                    call.run(4000)
                } else {
                    call.run_unread(4000)
                }
                call.poll();
                let heard = call.heard();
                for (number, (start, tone)) in tones.iter().enumerate() {
                    let report = call.mark(&number.to_string());
                    let end = start + tone.len() as u64;
                    assert!(report.complete);
                    assert_eq!((report.position, report.played_samples), (end, end));
                    let begin = report.rtp_timestamp.wrapping_sub(tone.len() as u32);
                    assert_eq!(
                        span(&heard, begin, report.rtp_timestamp),
                        *tone,
                        "{codec:?} {ptime} {number} read {is_read}"
                    );
                    assert_eq!(call.backend.played(*start..end), tone.len() as u64);
                }
                assert_eq!(call.counters.caller_audio_overflow.value() > 0, !is_read);
            }
        }
    }
}

#[test]
fn clear_tells_how_much_of_a_tone_was_heard_to_the_sample() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        for ptime in [10, 20, 30] {
            for is_read in [true, false] {
                let mut call = Call::new(codec, ptime, config(codec));
                call.run(200);
                // The second is longer than the ring, so that part of it never comes to the worker.
                let (first, second) = (tone(codec, 1, 3333), tone(codec, 2, 40_000));
                call.backend.queue_audio(&first);
                let start = call.backend.position();
                call.backend.queue_audio(&second);
                call.backend.queue_mark("cleared".into());
                let end = call.backend.position();
                if is_read {
                    call.run(1000)
                } else {
                    call.run_unread(3000)
                }
                call.backend.clear();
                assert_eq!(call.backend.position(), end, "positions are never used again");
                let third = tone(codec, 3, 1000);
                let third_start = call.backend.position();
                if is_read {
                    call.run(100)
                } else {
                    call.run_unread(100)
                }
                call.backend.queue_audio(&third);
                call.backend.queue_mark("third".into());
                if is_read {
                    call.run(500)
                } else {
                    call.run_unread(500)
                }
                call.poll();
                let heard = call.heard();
                let cleared = call.reports.iter().find_map(|report| match report {
                    FromWorker::Cleared { report, .. } => Some(*report),
                    _ => None,
                });
                let report = cleared.expect("a report");
                let played = (report.position - start) as usize;
                assert!((4000..24_000).contains(&played), "{played}");
                assert_eq!(report.played_samples, report.position);
                let begin = report.rtp_timestamp.wrapping_sub(played as u32);
                assert_eq!(span(&heard, begin, report.rtp_timestamp), second[..played], "{codec:?} {ptime}");
                // 5 ms fade the click away, then there is silence.
                let law = codec.law().expect("G.711");
                let after = span(&heard, report.rtp_timestamp, report.rtp_timestamp.wrapping_add(400));
                assert!(after[39..].iter().all(|&byte| byte == law.silence()));
                let mut fade = [0; 40];
                law.decode(&after[..40], &mut fade);
                assert!(fade.windows(2).all(|pair| pair[1].abs() <= pair[0].abs()), "{fade:?}");
                assert_eq!(call.backend.played(start..end), played as u64);
                assert_eq!(call.backend.played(0..start), 3333);
                let mark = call.mark("cleared");
                assert_eq!((mark.complete, mark.played_samples), (false, report.played_samples));
                let mark = call.mark("third");
                assert_eq!(mark.position, third_start + 1000);
                assert_eq!(mark.played_samples, report.played_samples + 1000);
                let begin = mark.rtp_timestamp.wrapping_sub(1000);
                assert_eq!(span(&heard, begin, mark.rtp_timestamp), third);
                assert_eq!(call.backend.played(third_start..third_start + 1000), 1000);
            }
        }
    }
}

#[test]
fn pause_keeps_every_sample() {
    for ptime in [10, 20, 30] {
        let mut call = Call::new(Codec::Pcma, ptime, config(Codec::Pcma));
        call.run(200);
        let tone = tone(Codec::Pcma, 5, 12_345);
        call.backend.queue_audio(&tone);
        call.backend.queue_mark("end".into());
        call.run(600);
        call.backend.pause();
        call.run(700);
        assert!(call.backend.is_speaking());
        let paused_at = call.backend.queued();
        call.run(300);
        assert_eq!(call.backend.queued(), paused_at);
        call.backend.resume();
        call.run(2000);
        let heard = call.heard();
        let FromWorker::Began { report: began, .. } = call.reports[0] else { panic!("{:?}", call.reports) };
        let mark = call.mark("end");
        assert_eq!((mark.position, mark.played_samples), (12_345, 12_345));
        let begin = began.rtp_timestamp;
        let before = tone
            .iter()
            .enumerate()
            .take_while(|(n, byte)| heard[&begin.wrapping_add(*n as u32)] == **byte)
            .count();
        assert_eq!(before, 12_345 - paused_at, "what was played before the pause");
        let rest = mark.rtp_timestamp.wrapping_sub(paused_at as u32);
        assert_eq!(span(&heard, rest, mark.rtp_timestamp), tone[before..]);
        let pause = rest.wrapping_sub(begin) as usize - before;
        assert!(pause.abs_diff(8000) <= 80 * ptime as usize, "{pause}");
    }
}

#[test]
fn what_runs_on_during_hold_counts_as_not_played() {
    let mut call = Call::new(Codec::Pcmu, 20, config(Codec::Pcmu));
    call.run(200);
    let tone = tone(Codec::Pcmu, 4, 16_000);
    call.backend.queue_audio(&tone);
    call.backend.queue_mark("end".into());
    call.run(500);
    let held = StreamParameters { direction: Direction::RecvOnly, ..call.own };
    let now = call.world.local(0);
    call.world.nodes[0].stream.update(now, held);
    call.run(400);
    let now = call.world.local(0);
    call.world.nodes[0].stream.update(now, call.own);
    call.run(2000);
    let mark = call.mark("end");
    assert_eq!(mark.position, 16_000);
    assert_eq!(mark.played_samples, 16_000 - 3200, "20 frames were not sent");
    assert_eq!(call.backend.played(0..16_000), 16_000 - 3200);
    let heard = call.heard();
    let sent = heard.values().filter(|&&byte| byte != 0xFF).count();
    assert_eq!(sent, 16_000 - 3200);
    let rest = mark.rtp_timestamp.wrapping_sub(4000);
    assert_eq!(span(&heard, rest, mark.rtp_timestamp), tone[12_000..]);
}

#[test]
fn line_law_goes_through_untouched_both_ways_and_a_changed_leg_by_table() {
    for (codec, other) in [(Codec::Pcmu, Codec::Pcma), (Codec::Pcma, Codec::Pcmu)] {
        let mut call = Call::new(codec, 20, config(codec));
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        phone.header.payload_type = format(codec).payload_type;
        for _ in 0..10 {
            talk(&mut call.world, &mut phone, 10);
            call.poll();
        }
        // Every code there is, both ways.
        let codes: Vec<u8> = (0..32).flat_map(|_| 0..=255).collect();
        call.backend.queue_audio(&codes);
        let said: Vec<u8> = codes.iter().rev().copied().collect();
        let mut caller_audio = vec![];
        for frame in said.chunks_exact(160) {
            let datagram = phone.say(frame);
            phone.header.timestamp += 160;
            call.world.send(datagram);
            call.world.run_for(20);
            while let Some(report) = call.backend.poll() {
                if let FromWorker::Audio { audio, .. } = report {
                    caller_audio.extend_from_slice(&audio);
                }
            }
            call.backend.top_up();
        }
        assert!(caller_audio.windows(7800).any(|window| *window == said[..7800]), "{codec:?}");
        call.run(100);
        let sent: Vec<u8> = call.heard().into_values().collect();
        assert!(sent.windows(codes.len()).any(|window| *window == codes), "{codec:?}");
        // A re-INVITE: the leg has the other law from now on.
        call.own.send = format(other);
        let now = call.world.local(0);
        call.world.nodes[0].stream.update(now, call.own);
        call.backend.queue_audio(&codes);
        call.backend.queue_mark("changed".into());
        call.run(1500);
        let mark = call.mark("changed");
        let heard = call.heard();
        let mut expected = vec![0; codes.len()];
        let (from, to) = (codec.law().expect("G.711"), other.law().expect("G.711"));
        Law::transcode(from, to, &codes, &mut expected);
        let begin = mark.rtp_timestamp.wrapping_sub(codes.len() as u32);
        assert_eq!(span(&heard, begin, mark.rtp_timestamp), expected);
        assert_eq!(heard.values().next_back(), Some(&to.silence()));
    }
}

#[test]
fn drained_finished_and_the_hang_up_are_told() {
    let mut call = Call::new(Codec::Pcmu, 20, config(Codec::Pcmu));
    call.backend.report_drained();
    call.run(20);
    assert_eq!(call.reports, [FromWorker::Drained]);
    call.run(100);
    call.reports.clear();
    call.backend.queue_audio(&tone(Codec::Pcmu, 1, 12_000));
    call.backend.report_drained();
    call.run(1000);
    let [FromWorker::Began { report, .. }] = call.reports[..] else { panic!("{:?}", call.reports) };
    assert_eq!((report.position, report.played_samples), (0, 0));
    call.run(1000);
    let [_, FromWorker::Finished { report: finished, .. }, FromWorker::Drained] = call.reports[..] else {
        panic!("{:?}", call.reports)
    };
    assert_eq!((finished.position, finished.played_samples), (12_000, 12_000));
    assert_eq!(finished.rtp_timestamp.wrapping_sub(report.rtp_timestamp), 12_000);
    // The caller hangs up in the middle of a tone.
    let start = call.backend.position();
    call.backend.queue_audio(&tone(Codec::Pcmu, 2, 12_000));
    call.run(500);
    call.reports.clear();
    let now = call.world.local(0);
    drop(call.world.nodes[0].stream.attach(now, App::Silence));
    call.poll();
    assert!(call.backend.is_ended());
    let [FromWorker::Ended { report, .. }] = call.reports[..] else { panic!("{:?}", call.reports) };
    let heard = call.heard();
    let played = heard.values().filter(|&&byte| byte != 0xFF).count() as u64;
    assert_eq!((report.position, report.played_samples), (played, played));
    assert_eq!(call.backend.played(start..start + 12_000), played - 12_000);
    assert!(played > 14_000);
}

#[test]
fn delay_after_a_burst_and_a_clear_is_what_it_was_before() {
    let mut call = Call::new(Codec::Pcmu, 20, config(Codec::Pcmu));
    call.run(1000);
    // From queueing to the first sample in RTP, for a sender at real time.
    let delay = |call: &mut Call, number: u32| {
        call.reports.clear();
        let start = call.backend.position();
        let asked = call.world.now;
        for chunk in tone(Codec::Pcmu, number, 8000).chunks_exact(160) {
            call.backend.queue_audio(chunk);
            call.run(20);
        }
        call.run(500);
        let FromWorker::Began { at, report } = call.reports[0] else { panic!("{:?}", call.reports) };
        assert_eq!(report.position, start);
        (at - asked).as_micros() / 125
    };
    let before = delay(&mut call, 1);
    assert!(before <= 480 + 160, "{before} samples");
    for burst in 0..3 {
        call.backend.queue_audio(&tone(Codec::Pcmu, 2, 30 * 8000));
        call.run(1000 + burst * 980);
        call.backend.clear();
        call.run(1000);
        assert_eq!(delay(&mut call, 3), before, "burst {burst}");
    }
    assert_eq!(call.counters.underruns.value(), 0);
}
