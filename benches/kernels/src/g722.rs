//! G.722 at 64 kbit/s, 16 kHz: many calls in one pass against one of spandsp's coders per call.

use std::hint::black_box;

use engine::codec::g722::batch::{Decoders, Encoders};
use engine::codec::g722::{Decoder, Encoder};

use crate::pair::{Pair, Side};
use crate::{FRAMES, SECONDS, peers, signal};

/// Samples of 20 ms at 16 kHz, and bytes that they make.
pub const FRAME: usize = 320;
pub const BYTES: usize = 160;

/// Calls that are coded together.
pub const CALLS: usize = 64;

/// Frames that one call of a side handles: one of every call.
pub const FRAMES_PER_RUN: usize = CALLS;

/// The frame of one call at one time: everyone is somewhere else in the same audio.
pub fn frame<T>(audio: &[T], length: usize, call: usize, time: usize) -> &[T] {
    let at = (time + call * 37) % FRAMES * length;
    &audio[at..at + length]
}

pub fn speech() -> Vec<i16> {
    signal::speech(16_000, SECONDS)
}

/// The speech as spandsp encodes it.
pub fn encoded() -> Vec<u8> {
    let pcm = speech();
    let mut bytes = vec![0; pcm.len() / 2];
    let mut encoder = peers::G722Encoder::default();
    for (frame, bytes) in pcm.chunks_exact(FRAME).zip(bytes.chunks_exact_mut(BYTES)) {
        assert_eq!(encoder.encode(frame, bytes), BYTES);
    }
    bytes
}

/// The encoded speech as spandsp decodes it.
pub fn decoded() -> Vec<i16> {
    let bytes = encoded();
    let mut pcm = vec![0; bytes.len() * 2];
    let mut decoder = peers::G722Decoder::default();
    for (bytes, frame) in bytes.chunks_exact(BYTES).zip(pcm.chunks_exact_mut(FRAME)) {
        assert_eq!(decoder.decode(bytes, frame), FRAME);
    }
    pcm
}

pub fn spandsp_encode() -> Side {
    let pcm = speech();
    let mut encoders: Vec<_> = (0..CALLS).map(|_| peers::G722Encoder::default()).collect();
    let (mut bytes, mut time) = ([0; BYTES], 0);
    Side::new("spandsp", move || {
        for (call, encoder) in encoders.iter_mut().enumerate() {
            encoder.encode(black_box(frame(&pcm, FRAME, call, time)), black_box(&mut bytes));
        }
        time += 1;
    })
}

pub fn spandsp_decode() -> Side {
    let encoded = encoded();
    let mut decoders: Vec<_> = (0..CALLS).map(|_| peers::G722Decoder::default()).collect();
    let (mut pcm, mut time) = ([0; FRAME], 0);
    Side::new("spandsp", move || {
        for (call, decoder) in decoders.iter_mut().enumerate() {
            decoder.decode(black_box(frame(&encoded, BYTES, call, time)), black_box(&mut pcm));
        }
        time += 1;
    })
}

pub fn pairs() -> Vec<Pair> {
    vec![
        Pair {
            name: "g722_encode",
            goal: 2.0,
            frames: FRAMES_PER_RUN,
            check: Box::new(check_encode),
            ours: encode(),
            theirs: vec![spandsp_encode()],
            uses_kernels: true,
        },
        Pair {
            name: "g722_decode",
            goal: 2.0,
            frames: FRAMES_PER_RUN,
            check: Box::new(check_decode),
            ours: decode(),
            theirs: vec![spandsp_decode()],
            uses_kernels: true,
        },
    ]
}

fn encode() -> Side {
    let pcm = speech();
    let mut encoders = Encoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map(|_| encoders.add().expect("room")).collect();
    let (mut bytes, mut time) = ([0; BYTES], 0);
    Side::new("", move || {
        for (place, &call) in calls.iter().enumerate() {
            encoders.put(call, black_box(frame(&pcm, FRAME, place, time)));
        }
        encoders.encode();
        for &call in &calls {
            encoders.take(call, black_box(&mut bytes));
        }
        time += 1;
    })
}

fn decode() -> Side {
    let encoded = encoded();
    let mut decoders = Decoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map(|_| decoders.add().expect("room")).collect();
    let (mut pcm, mut time) = ([0; FRAME], 0);
    Side::new("", move || {
        for (place, &call) in calls.iter().enumerate() {
            decoders.put(call, black_box(frame(&encoded, BYTES, place, time)));
        }
        decoders.decode();
        for &call in &calls {
            decoders.take(call, black_box(&mut pcm));
        }
        time += 1;
    })
}

/// The single coder and every call of a batch against spandsp.
fn check_encode() -> Result<String, String> {
    let (pcm, expected) = (speech(), encoded());
    let mut single = vec![0; expected.len()];
    Encoder::new().encode(&pcm, &mut single);
    let mut batched = vec![vec![0; expected.len()]; CALLS];
    let mut encoders = Encoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map(|_| encoders.add().expect("room")).collect();
    for (at, frame) in pcm.chunks_exact(FRAME).enumerate() {
        calls.iter().for_each(|&call| assert_eq!(encoders.put(call, frame), BYTES));
        encoders.encode();
        for (&call, bytes) in calls.iter().zip(&mut batched) {
            encoders.take(call, &mut bytes[at * BYTES..(at + 1) * BYTES]);
        }
    }
    compare(&single, &expected).map_err(|why| format!("one call: {why}"))?;
    batched.iter().try_for_each(|found| compare(found, &expected))?;
    Ok(format!("{} octets as spandsp, one call and {CALLS}", expected.len()))
}

fn check_decode() -> Result<String, String> {
    let (bytes, expected) = (encoded(), decoded());
    let mut single = vec![0; expected.len()];
    Decoder::new().decode(&bytes, &mut single);
    let mut batched = vec![vec![0; expected.len()]; CALLS];
    let mut decoders = Decoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map(|_| decoders.add().expect("room")).collect();
    for (at, bytes) in bytes.chunks_exact(BYTES).enumerate() {
        calls.iter().for_each(|&call| assert_eq!(decoders.put(call, bytes), FRAME));
        decoders.decode();
        for (&call, pcm) in calls.iter().zip(&mut batched) {
            decoders.take(call, &mut pcm[at * FRAME..(at + 1) * FRAME]);
        }
    }
    compare(&single, &expected).map_err(|why| format!("one call: {why}"))?;
    batched.iter().try_for_each(|found| compare(found, &expected))?;
    Ok(format!("{} samples as spandsp, one call and {CALLS}", expected.len()))
}

fn compare<T: PartialEq + std::fmt::Display>(found: &[T], expected: &[T]) -> Result<(), String> {
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        Some(at) => Err(format!("at {at}: {} instead of {}", found[at], expected[at])),
        None => Ok(()),
    }
}
