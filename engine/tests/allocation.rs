//! A worker neither allocates nor frees after its start: counted by the allocator, on the worker's own
//! thread, through 10,000 packets and every command.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

mod audited;
mod counting;
mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use audited::{Audited, Tally};
use counting::{allocations, frees};
use engine::ai::{
    AiCounters, AiPort, Backend, BargeIn, BargeInMode, LatencyBudget, LatencyPolicy, PortConfig,
};
use engine::codec::Law;
use engine::command::{Command, Digit, StreamId};
use engine::config::EngineConfig;
use engine::dtmf::inband::{DtmfGenerator, DtmfLevels};
use engine::event::Event;
use engine::stream::{App, Stream};
use engine::{Engine, EngineEvents};
use rig::{Network, Phone, add, config, idle_stream, poll_for, start};

#[test]
fn the_allocator_counts() {
    let before = (allocations(), frees());
    let mut memory = std::hint::black_box(vec![1u8; 100]);
    memory.reserve_exact(1000);
    let between = (allocations(), frees());
    assert_eq!(between, (before.0 + 2, before.1), "one allocation, one growth");
    drop(std::hint::black_box(memory));
    assert_eq!((allocations(), frees()), (between.0, between.1 + 1));
    let other = std::thread::spawn(|| (0..1000).for_each(|_| drop(std::hint::black_box(vec![1u8; 100]))));
    other.join().expect("no panic");
    // The thread's handle is this thread's, its vectors are not.
    assert!(frees() <= between.1 + 20, "another thread's are its own");
}

#[test]
fn a_worker_neither_allocates_nor_frees_while_it_runs() {
    const CALLS: usize = 40;
    let network = Network::Udp;
    let tally = Arc::<Tally>::default();
    let device = Audited { inner: network.device(), tally: Arc::clone(&tally) };
    let (engine, mut events) =
        start(EngineConfig { streams_per_worker: 128, ..config(256) }, Box::new(device));
    let mut bots = Bots::default();
    let mut calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let mut phone = Phone::new(&network);
            let mut parameters = phone.parameters();
            if has_tones(number) {
                parameters.telephone_event = None;
            }
            let (id, local) = add(&engine, &mut events, Stream::new(parameters));
            phone.peer = Some(local);
            let app = if has_bot(number) { bots.app() } else { App::Echo };
            engine.send(Command::Attach { id, app }).expect("room in the ring");
            (id, phone)
        })
        .collect();
    let bots = bots.start();
    // Warm up: threads make their own thread-local memory at first use.
    talk(&mut calls, 25, |_| {});
    every_command(&engine, &mut events, &mut calls);

    let before = tally.read();
    assert!(tally.turns.load(Ordering::Acquire) > 0, "the worker is audited");
    let counters = Arc::clone(&engine.worker_counters()[0]);
    let device_counters = Arc::clone(&engine.device_counters()[0]);
    let moved = || device_counters.received_datagrams.value() + device_counters.transmitted_datagrams.value();
    let (packets_before, moved_before, commands_before) =
        (counters.packets.value(), moved(), counters.commands.value());
    let mut turn = 0;
    while counters.packets.value() - packets_before < 10_000 {
        talk(&mut calls, 25, |calls| {
            for (_, phone) in calls.iter_mut() {
                phone.report();
            }
        });
        every_command(&engine, &mut events, &mut calls);
        turn += 1;
        assert!(turn < 60, "packets are lost: {} arrived", counters.packets.value() - packets_before);
    }
    tally.settle();
    let heard: usize = calls.iter().map(|(_, phone)| phone.heard_rtp.len()).sum();
    let heard_rtcp: usize = calls.iter().map(|(_, phone)| phone.heard_rtcp.len()).sum();
    assert!(heard > 5_000, "{heard} packets came back");
    assert!(counters.commands.value() > commands_before + 10);
    let (allocations, frees) = tally.read();
    for (what, counter) in [
        ("interruptions", &bots.counters.interruptions),
        ("clears", &bots.counters.clears),
        ("marks", &bots.counters.marks_received),
        ("caller audio that found no room", &bots.counters.caller_audio_overflow),
        ("bot audio left out", &bots.counters.budget_left_out_bytes),
    ] {
        assert!(counter.value() > 0, "no {what}");
    }
    drop(bots);
    let id = calls[1].0;
    engine.send(Command::QueryStream { id }).expect("room in the ring");
    let statistics = poll_for(Duration::from_secs(10), || match events.poll() {
        Some(Event::StreamReport { id: of, statistics }) if of == id => Some(statistics),
        _ => None,
    });
    let keys = statistics.expect("a report").digits_inband;
    assert!(keys > 10, "{keys} keys were heard as tones");
    println!(
        "{} datagrams moved, {} commands, {heard_rtcp} RTCP packets heard, {} allocations, {} frees",
        moved() - moved_before,
        counters.commands.value() - commands_before,
        allocations - before.0,
        frees - before.1,
    );
    assert_eq!((allocations - before.0, frees - before.1), (0, 0));
    assert!(heard_rtcp > 0, "RTCP runs too");
}

/// Whether a call has its keys as tones.
fn has_tones(call: usize) -> bool {
    call % 2 == 1
}

/// Whether a call is with a bot that callers interrupt.
fn has_bot(call: usize) -> bool {
    call >= 32
}

/// The AI thread's side of all calls with bots: it speaks, marks, clears, pauses, and is slow at times.
#[derive(Default)]
struct Bots {
    backends: Vec<Backend>,
    counters: Arc<AiCounters>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bots {
    fn app(&mut self) -> App {
        let doorbell = engine::Doorbell::new().expect("an eventfd");
        let barge_in = BargeIn { mode: BargeInMode::Engine, backchannel: Duration::ZERO };
        let latency = LatencyBudget { limit: Duration::from_secs(2), policy: LatencyPolicy::DropOldest };
        let config = PortConfig { barge_in, latency, ..PortConfig::default() };
        let (port, backend) = AiPort::pair(&config, doorbell, Arc::clone(&self.counters));
        self.backends.push(backend);
        App::Ai(Box::new(port))
    }

    fn start(mut self) -> Self {
        let (mut backends, stop) = (std::mem::take(&mut self.backends), Arc::clone(&self.stop));
        let mut sentence = vec![0x22; 4000];
        sentence.extend([0xff; 2000]);
        let run = move || {
            for turn in 0u64.. {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                for (number, backend) in backends.iter_mut().enumerate() {
                    let turn = turn + number as u64 * 17;
                    // One in eight does not read for three seconds at a time.
                    if number != 0 || turn % 400 < 100 {
                        while backend.poll().is_some() {}
                    }
                    match turn % 100 {
                        0 | 1 | 2 | 50 => {
                            backend.begin_utterance();
                            backend.queue_audio(&sentence);
                            backend.queue_mark(turn.to_string());
                        }
                        3 => backend.end_utterance(),
                        20 => backend.pause(),
                        25 => backend.resume(),
                        80 if turn % 300 == 80 => drop(backend.clear()),
                        _ => {}
                    }
                    backend.top_up();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        self.thread = Some(std::thread::spawn(run));
        self
    }
}

impl Drop for Bots {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

/// 100 ms of a key, 80 ms of silence.
fn key() -> [[u8; 160]; 9] {
    let mut frames = [[0; 160]; 9];
    let digit = Digit::from_event(5).expect("a digit");
    let mut tone = DtmfGenerator::new(digit, DtmfLevels::default(), 8000, 800, 640);
    for frame in &mut frames {
        let mut pcm = [0; 160];
        tone.fill(&mut pcm);
        Law::Mu.encode(&pcm, frame);
    }
    frames
}

/// All phones speak and listen at a call's pace.
fn talk(calls: &mut [(StreamId, Phone)], packets: u32, mut at_the_end: impl FnMut(&mut [(StreamId, Phone)])) {
    let (start, key) = (Instant::now(), key());
    for packet in 1..=packets {
        for (call, (_, phone)) in calls.iter_mut().enumerate() {
            if has_tones(call) {
                phone.say(&key[packet as usize % key.len()]);
            } else {
                phone.speak(0x2a);
            }
        }
        let next = Duration::from_millis(20) * packet;
        std::thread::sleep(next.saturating_sub(start.elapsed()));
        for (_, phone) in calls.iter_mut() {
            phone.listen();
        }
    }
    at_the_end(calls);
}

/// Sends one of every command, with a whole life of a stream.
fn every_command(engine: &Engine, events: &mut EngineEvents, calls: &mut [(StreamId, Phone)]) {
    let digit = Digit::from_event(7).expect("a digit");
    let duration = Duration::from_millis(100);
    let (id, phone) = &calls[0];
    let id = *id;
    for command in [
        Command::UpdateStream { id, parameters: phone.parameters() },
        Command::Attach { id, app: App::Silence },
        Command::Attach { id, app: App::Echo },
        Command::SendDtmf { id, digit, duration },
        Command::SendDtmf { id: calls[1].0, digit, duration },
        Command::RelayDtmf { id, digit, duration },
        Command::QueryStream { id },
    ] {
        engine.send(command).expect("room in the ring");
    }
    let (short, _) = add(engine, events, idle_stream());
    engine.send(Command::RemoveStream { id: short }).expect("room in the ring");
    engine.send(Command::QueryStream { id: short }).expect("room in the ring");
    let ended = poll_for(Duration::from_secs(10), || match events.poll() {
        Some(Event::StreamRemoved { id, .. }) => Some(id),
        _ => None,
    });
    assert_eq!(ended, Some(short));
}
