//! The delay after the network stood still, with speech-like audio: caught up with, nothing lost, nothing heard of it.

mod support;

use std::time::Duration;

use engine::codec::g711;
use engine::stream::App;
use support::{CALLER, ENGINE, Link, Phone, World, address, parameters};

/// A voice of about 140 Hz whose pitch and loudness move as in speech: syllables of 250 ms, and a mark that tells its place.
fn voice(samples: usize) -> Vec<i16> {
    let mut phase = 0f64;
    (0..samples)
        .map(|n| {
            let seconds = n as f64 / 8000.0;
            let hertz = 140.0 + 25.0 * (seconds * 0.7 * std::f64::consts::TAU).sin();
            phase += hertz / 8000.0;
            let syllable = 0.55 + 0.45 * (seconds * 4.0 * std::f64::consts::TAU).sin();
            let sum: f64 =
                (1..=12u8).map(|k| (phase * f64::from(k) * std::f64::consts::TAU).sin() / f64::from(k)).sum();
            (6000.0 * syllable * sum) as i16
        })
        .collect()
}

/// What came of a call: the audio sent back, with the delay at the end of each frame sent in.
struct Outcome {
    world: World,
    spoken: Vec<u8>,
    echoed: Vec<u8>,
    /// In milliseconds, each 20 ms.
    delays: Vec<u128>,
}

/// Talks for so many frames; those from the first number on, as many as the second, are stuck until the last of them is sent.
fn call(voice: &[i16], stall: Option<(usize, usize)>, link: Link) -> Outcome {
    let mut world = World::new(link, 7);
    world.add(address(ENGINE), parameters(address(CALLER)), App::Echo, 0);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let mut spoken = vec![];
    let mut delays = vec![];
    let mut stuck = vec![];
    for (n, pcm) in voice.chunks_exact(160).enumerate() {
        let mut payload = [0; 160];
        g711::encode_ulaw(pcm, &mut payload);
        spoken.extend_from_slice(&payload);
        let datagram = phone.say(&payload);
        phone.header.timestamp += 160;
        match stall {
            Some((first, count)) if (first..first + count).contains(&n) => stuck.push(datagram),
            _ => {
                for datagram in stuck.drain(..) {
                    world.send(datagram);
                }
                world.send(datagram);
            }
        }
        world.run_for(20);
        delays.push(world.nodes[0].stream.statistics().jitter_buffer.as_millis());
    }
    let echoed = world.rtp_from(address(ENGINE)).into_iter().flat_map(|(.., payload)| payload).collect();
    Outcome { world, spoken, echoed, delays }
}

fn decoded(encoded: &[u8]) -> Vec<i16> {
    let mut pcm = vec![0; encoded.len()];
    g711::decode_ulaw(encoded, &mut pcm);
    pcm
}

fn largest_step(pcm: &[i16]) -> i32 {
    pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().expect("samples")
}

#[test]
fn speech_that_was_stuck_for_200_ms_is_all_heard_and_on_time_again_within_a_second() {
    let voice = voice(160 * 300);
    let outcome = call(&voice, Some((100, 10)), Link::default());
    let end_of_stall = 110;
    let worst = outcome.delays[end_of_stall..].iter().max().expect("delays");
    let normal = outcome.delays[90];
    let again = outcome.delays[end_of_stall..].iter().position(|&delay| delay <= normal + 20).expect("ends");
    println!("normal {normal} ms, worst {worst} ms, within 20 ms of it after {} ms", again * 20);
    println!("{:?}", &outcome.delays[95..190]);
    assert!(*worst > 150, "{worst}");
    assert!(again * 20 <= 1000, "{} ms", again * 20);
    let statistics = outcome.world.nodes[0].stream.statistics();
    assert_eq!((statistics.late_packets, statistics.lost_packets), (0, 0));
    // No syllable is missing: each 10 ms of what was said is heard somewhere, in order, nearly as it was.
    let (said, heard) = (decoded(&outcome.spoken), decoded(&outcome.echoed));
    let mut from = 0;
    let mut missing = 0;
    for block in said[160 * 20..160 * 250].chunks_exact(160) {
        match alike(block, &heard[from..(from + 4000).min(heard.len())]) {
            Some(at) => from += at,
            None => missing += 1,
        }
    }
    println!("{missing} of 230 frames are nowhere to be heard");
    assert!(missing <= 3, "{missing}");
    let (step, natural) = (largest_step(&heard[4000..]), largest_step(&said));
    assert!(step <= natural * 11 / 10, "{step} {natural}");
}

/// Where the middle of a block is heard with 90 % likeness.
fn alike(block: &[i16], heard: &[i16]) -> Option<usize> {
    let block = &block[60..100];
    let power = |pcm: &[i16]| pcm.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() + 1.0;
    heard.windows(block.len()).position(|window| {
        let product: f64 = window.iter().zip(block).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let level = power(window) / power(block);
        product / (power(window) * power(block)).sqrt() > 0.9 && (0.6..1.6).contains(&level)
    })
}

#[test]
fn clean_network_and_plain_jitter_leave_every_byte_as_it_was() {
    let voice = voice(160 * 400);
    for jitter_us in [0, 3000] {
        let outcome = call(&voice, None, Link { jitter_us, in_order: true, ..Link::default() });
        let tail = &outcome.spoken[160 * 100..160 * 380];
        assert!(outcome.echoed.windows(tail.len()).any(|window| window == tail), "{jitter_us}");
    }
}

#[test]
fn steady_tone_waits_for_the_slew_where_the_delay_is_not_far_wrong() {
    let tone: Vec<i16> = (0..160 * 300)
        .map(|n| {
            let seconds = f64::from(n) / 8000.0 * std::f64::consts::TAU;
            (5000.0 * ((seconds * 697.0).sin() + (seconds * 1209.0).sin())) as i16
        })
        .collect();
    // 60 ms too much at most.
    let outcome = call(&tone, Some((100, 3)), Link::default());
    let worst = outcome.delays[103..].iter().max().expect("delays");
    assert!((30..65).contains(worst), "{worst}");
    let tail = &outcome.spoken[160 * 110..160 * 280];
    assert!(outcome.echoed.windows(tail.len()).any(|window| window == tail), "untouched");
}

#[test]
fn silence_is_caught_up_with_frame_by_frame() {
    let outcome = call(&vec![0; 160 * 200], Some((100, 10)), Link::default());
    let normal = outcome.delays[90];
    let again = outcome.delays[110..].iter().position(|&delay| delay <= normal + 25).expect("ends");
    assert!(again * 20 <= 400, "{} ms", again * 20);
    assert!(Duration::from_millis(outcome.delays[199] as u64) < Duration::from_millis(20));
}
