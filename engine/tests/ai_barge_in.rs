//! A caller who speaks while the bot does: what the engine's detector makes of it, in frames, through a whole stream in
//! virtual time.

mod support;

use std::sync::Arc;
use std::time::Duration;

use engine::Doorbell;
use engine::ai::{AiCounters, AiPort, Backend, BargeIn, BargeInMode, FromWorker, PortConfig};
use engine::codec::Law;
use engine::dsp::level::Level;
use engine::stream::App;
use support::{CALLER, ENGINE, Link, Phone, Random, World, address, parameters};

const VOICES: [&[u8]; 4] = [
    include_bytes!("fixtures/speech/english.ulaw"),
    include_bytes!("fixtures/speech/german.ulaw"),
    include_bytes!("fixtures/speech/french.ulaw"),
    include_bytes!("fixtures/speech/spanish.ulaw"),
];
/// A byte that only the bot says.
const BOT: u8 = 0x31;

struct Call {
    world: World,
    phone: Phone,
    backend: Backend,
    reports: Vec<FromWorker>,
}

impl Call {
    fn new(mode: BargeInMode, backchannel_ms: u64) -> Self {
        Self::over(Link::default(), 1, BargeIn { mode, backchannel: Duration::from_millis(backchannel_ms) })
    }

    fn over(link: Link, seed: u64, barge_in: BargeIn) -> Self {
        let doorbell = Doorbell::new().expect("eventfd");
        let config = PortConfig { barge_in, ..PortConfig::default() };
        let (port, backend) = AiPort::pair(&config, doorbell, Arc::<AiCounters>::default());
        let mut world = World::new(link, seed);
        world.add(address(ENGINE), parameters(address(CALLER)), App::Ai(Box::new(port)), 0);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        phone.header.payload_type = 0;
        Self { world, phone, backend, reports: vec![] }
    }

    /// The caller's phone sends this, frame by frame; the AI thread keeps up.
    fn caller(&mut self, pcm: &[i16]) {
        for frame in pcm.chunks_exact(160) {
            let mut encoded = [0; 160];
            Law::Mu.encode(frame, &mut encoded);
            let datagram = self.phone.say(&encoded);
            self.phone.header.timestamp += 160;
            self.world.send(datagram);
            self.world.run_for(20);
            self.poll();
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

    /// For each frame sent, whether bot audio is in it.
    fn frames(&self) -> Vec<(engine::time::Instant, bool)> {
        let packets = self.world.rtp_from(address(ENGINE));
        packets.into_iter().map(|(at, _, payload)| (at, payload.contains(&BOT))).collect()
    }

    fn interruptions(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report, FromWorker::Interrupted { .. })).count()
    }

    fn speech(&self) -> Vec<(u64, bool)> {
        let speech = self.reports.iter().filter_map(|report| match report {
            FromWorker::Speech { timestamp, speaking, .. } => Some((*timestamp, *speaking)),
            _ => None,
        });
        speech.collect()
    }
}

/// A voice at an active level of so many dBov.
fn voice(fixture: &[u8], dbov: f64) -> Vec<i16> {
    let mut pcm = vec![0; fixture.len()];
    Law::Mu.decode(fixture, &mut pcm);
    let powers: Vec<f64> =
        pcm.chunks_exact(160).map(|f| f.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 160.0).collect();
    let peak = powers.iter().copied().fold(0.0, f64::max);
    let active: Vec<f64> = powers.into_iter().filter(|&power| power > peak * 10f64.powf(-2.5)).collect();
    let rms = (active.iter().sum::<f64>() / active.len() as f64).sqrt();
    let gain = 32_767.0 * 10f64.powf(dbov / 20.0) / rms;
    pcm.into_iter().map(|x| (f64::from(x) * gain).clamp(-32_768.0, 32_767.0) as i16).collect()
}

/// The voice from its first loud frame on.
fn word(fixture: &[u8], dbov: f64) -> Vec<i16> {
    let pcm = voice(fixture, dbov);
    let loud = |frame: &[i16]| f64::from(Level::of(frame).dbov()) >= dbov - 10.0;
    let start = pcm.chunks_exact(160).position(loud).expect("it speaks");
    pcm[start * 160..].to_vec()
}

fn noise(frames: usize, dbov: f64) -> Vec<i16> {
    let mut random = Random(0x1234_5678_9ABC);
    let scale = 32_767.0 * 10f64.powf(dbov / 20.0) * 3f64.sqrt();
    (0..frames * 160)
        .map(|_| ((random.next() % 20_001) as f64 / 10_000.0 - 1.0) * scale)
        .map(|x| x as i16)
        .collect()
}

#[test]
fn last_bot_packet_is_at_most_one_frame_after_the_first_of_speech() {
    for fixture in VOICES {
        for dbov in [-15.0, -26.0, -35.0] {
            for floor in [-75.0, -60.0, -50.0] {
                let mut call = Call::new(BargeInMode::Engine, 0);
                call.caller(&noise(100, floor));
                // Two minutes: far more than the ring holds.
                call.backend.queue_audio(&vec![BOT; 100 * 8000]);
                call.caller(&noise(100, floor));
                let before = call.frames().len();
                assert!(call.frames()[before - 90..].iter().all(|(_, bot)| *bot), "the bot speaks");
                let speech_at = call.world.now;
                call.caller(&word(fixture, dbov)[..40 * 160]);
                let frames = call.frames();
                let last = frames.iter().rposition(|(_, bot)| *bot).expect("the bot spoke");
                // The frame made when the packet comes is the first without the bot, if the packet is loud;
                // the first of a quiet caller is not.
                let late = usize::from(dbov < -30.0);
                let excess = last as i64 - (before + late) as i64;
                assert!(excess < 1, "{dbov} {floor}: {excess} frames too late");
                assert!(frames[last].0 <= speech_at + Duration::from_millis(20 * (1 + late as u64)));
                assert_eq!(call.interruptions(), 1);
                assert!(!call.backend.is_speaking(), "the backlog is gone, too");
                assert_eq!(call.backend.tally().interruptions, 1);
            }
        }
    }
}

/// From the first packet of speech in to the last packet with bot audio out, in microseconds, for many calls.
fn stop_times(link: Link) -> Vec<i64> {
    let mut times = vec![];
    for seed in 0..60 {
        let barge_in = BargeIn { mode: BargeInMode::Engine, backchannel: Duration::ZERO };
        let mut call = Call::over(link, seed, barge_in);
        call.caller(&noise(100, -65.0));
        call.backend.queue_audio(&vec![BOT; 20 * 8000]);
        call.caller(&noise(75 + seed as usize % 7, -65.0));
        let first = call.world.sent.len();
        call.caller(&word(VOICES[seed as usize % 4], -24.0)[..25 * 160]);
        let spoken = &call.world.sent[first].1;
        assert_eq!(spoken.from, call.phone.at);
        let arrived = call.world.delivered.iter().find(|(_, datagram)| datagram.bytes == spoken.bytes);
        let arrived = arrived.expect("it came").0;
        let last = call.frames().iter().rfind(|(_, bot)| *bot).expect("the bot spoke").0;
        times.push((last.as_nanos() as i64 - arrived.as_nanos() as i64) / 1000);
        assert_eq!(call.interruptions(), 1);
    }
    times
}

#[test]
fn interruption_stops_the_bot_within_40_ms_on_a_network_with_jitter() {
    for jitter_us in [0, 4000, 20_000] {
        let link = Link { delay_us: 15_000, jitter_us, in_order: true, ..Link::default() };
        let times = stop_times(link);
        let (half, worst) = (support::percentile(&times, 0.5), support::percentile(&times, 0.99));
        println!("jitter {jitter_us} us: p50 {half} us, p99 {worst} us");
        assert!(worst <= 40_000, "{worst} us with {jitter_us} us of jitter");
    }
}

#[test]
fn noise_and_echo_at_50_db_below_full_scale_interrupt_nobody() {
    for fixture in VOICES {
        let mut call = Call::new(BargeInMode::Engine, 0);
        // A line that is silent but for the bot's echo, which is the hardest case.
        call.caller(&vec![0; 100 * 160]);
        call.backend.queue_audio(&vec![BOT; 60 * 8000]);
        let echo = voice(fixture, -50.0);
        call.caller(&echo);
        call.caller(&noise(200, -50.0));
        let tone: Vec<i16> = (0..16_000).map(|n| (146.0 * (f64::from(n) * 0.5).sin()) as i16).collect();
        call.caller(&tone);
        assert_eq!(call.interruptions(), 0);
        assert!(call.backend.is_speaking());
    }
}

#[test]
fn modes_decide_who_interrupts() {
    let speech = word(VOICES[0], -24.0);
    for mode in [BargeInMode::Backend, BargeInMode::Off] {
        let mut call = Call::new(mode, 0);
        call.caller(&noise(100, -65.0));
        call.backend.queue_audio(&vec![BOT; 20 * 8000]);
        call.caller(&speech[..100 * 160]);
        assert_eq!(call.interruptions(), 0, "{mode:?}");
        assert!(!call.speech().is_empty(), "the speech is told all the same");
        assert!(call.frames()[180].1);
    }
    // A tone is speech without any pause, so its length is known exactly.
    let tone: Vec<i16> = (0..8000).map(|n| (3000.0 * (f64::from(n) * 0.5).sin()) as i16).collect();
    let cases = [
        (BargeInMode::After(Duration::from_millis(200)), 0, 10),
        (BargeInMode::After(Duration::from_millis(500)), 0, 25),
        (BargeInMode::Engine, 300, 15),
        (BargeInMode::Engine, 0, 1),
    ];
    for (mode, backchannel, frames) in cases {
        for spoken in [frames - 1, frames] {
            let mut call = Call::new(mode, backchannel);
            call.caller(&noise(100, -65.0));
            call.backend.queue_audio(&vec![BOT; 20 * 8000]);
            call.caller(&noise(50, -65.0));
            call.caller(&tone[..spoken * 160]);
            call.caller(&noise(50, -65.0));
            assert_eq!(
                call.interruptions(),
                usize::from(spoken == frames),
                "{mode:?} {backchannel} {spoken}"
            );
            assert_eq!(call.backend.is_speaking(), spoken != frames);
        }
    }
}

#[test]
fn speech_is_told_with_its_place_on_the_timeline() {
    let mut call = Call::new(BargeInMode::Backend, 0);
    call.caller(&noise(100, -65.0));
    let tone: Vec<i16> = (0..8000).map(|n| (3000.0 * (f64::from(n) * 0.5).sin()) as i16).collect();
    call.caller(&tone);
    call.caller(&noise(100, -65.0));
    let [(began, true), (ended, false)] = call.speech()[..] else { panic!("{:?}", call.speech()) };
    assert_eq!(ended - began, 8000);
    let at = |wanted| {
        call.reports.iter().find_map(|report| match report {
            FromWorker::Speech { at, speaking, .. } if *speaking == wanted => Some(*at),
            _ => None,
        })
    };
    let spoke_for = at(false).expect("an end") - at(true).expect("a beginning");
    assert_eq!(spoke_for, Duration::from_millis(980), "the last frame is 49 after the first");
}

#[test]
fn rest_of_what_was_interrupted_is_not_heard_and_the_answer_is() {
    let mut call = Call::new(BargeInMode::Engine, 0);
    call.caller(&noise(100, -65.0));
    // A backend that paces itself and does not know yet that it was interrupted.
    let speech = word(VOICES[1], -24.0);
    let quiet = noise(400, -65.0);
    for frame in quiet[..50 * 160].chunks_exact(160) {
        call.backend.queue_audio(&[BOT; 160]);
        call.caller(frame);
    }
    assert!(call.frames().last().expect("frames").1);
    let start = call.backend.position();
    for frame in speech[..20 * 160].chunks_exact(160) {
        call.backend.queue_audio(&[BOT; 160]);
        call.caller(frame);
    }
    let frames = call.frames();
    assert!(frames[frames.len() - 19..].iter().all(|(_, bot)| !bot), "nothing more of it");
    assert!(call.backend.tally().bot_samples_cut_off >= 18 * 160);
    assert_eq!(call.backend.played(start..start + 160), 0);
    // It notices, is silent, and answers: that is heard.
    call.caller(&quiet[..15 * 160]);
    call.backend.queue_audio(&[BOT; 8000]);
    call.backend.queue_mark("answer".into());
    call.caller(&quiet[..100 * 160]);
    assert_eq!(call.frames().iter().rev().take(100).filter(|(_, bot)| *bot).count(), 50);
    let answered = call.reports.iter().any(|report| {
        matches!(report, FromWorker::MarkPlayed { name, report, .. } if name == "answer" && report.complete)
    });
    assert!(answered);
    assert_eq!(call.interruptions(), 1);
}

#[test]
fn audio_that_the_ai_thread_queues_before_it_knows_is_not_heard() {
    let mut call = Call::new(BargeInMode::Engine, 0);
    call.caller(&noise(100, -65.0));
    call.backend.queue_audio(&vec![BOT; 30_000]);
    call.backend.queue_mark("before".into());
    call.caller(&noise(50, -65.0));
    // The AI thread is busy for 300 ms: it tops up and queues, and does not read.
    for frame in word(VOICES[2], -20.0)[..15 * 160].chunks_exact(160) {
        let mut encoded = [0; 160];
        Law::Mu.encode(frame, &mut encoded);
        let datagram = call.phone.say(&encoded);
        call.phone.header.timestamp += 160;
        call.world.send(datagram);
        call.world.run_for(20);
        call.backend.queue_audio(&[BOT; 500]);
        call.backend.top_up();
    }
    call.backend.queue_mark("meanwhile".into());
    let position = call.backend.position();
    call.poll();
    call.caller(&noise(20, -65.0));
    let frames = call.frames();
    assert!(frames[frames.len() - 33..].iter().all(|(_, bot)| !bot));
    let marks: Vec<_> = call
        .reports
        .iter()
        .filter_map(|report| match report {
            FromWorker::MarkPlayed { name, report, .. } => Some((name.as_str(), report.complete)),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [("before", false), ("meanwhile", false)]);
    let interrupted = call.reports.iter().find_map(|report| match report {
        FromWorker::Interrupted { report, .. } => Some(*report),
        _ => None,
    });
    let report = interrupted.expect("a report");
    assert_eq!(report.played_samples, report.position);
    assert_eq!(call.backend.played(0..position), report.played_samples);
    assert_eq!(call.backend.position(), position);
}
