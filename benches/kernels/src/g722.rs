//! G.722 at 64 kbit/s, 16 kHz: many calls in one pass against one of spandsp's coders per call.

use std::hint::black_box;

use engine::codec::g722::batch::{Decoders, Encoders};
use engine::simd::g722::{Lane, StateLanes};
use engine::simd::{self, Kernels};

use crate::pair::{Pair, Side};
use crate::{FRAMES, SECONDS, peers, signal};

/// Samples of 20 ms at 16 kHz, and bytes that they make.
pub const FRAME: usize = 320;
pub const BYTES: usize = 160;

/// Calls that are coded together.
pub const CALLS: usize = 64;

/// Frames that one call of a side handles: one of every call.
pub const FRAMES_PER_RUN: usize = CALLS;

/// Ours with putting in and taking out, filters and all; the tables do the ADPCM of 32 calls twice, without
/// the filters.
pub fn pairs() -> Vec<Pair> {
    vec![
        Pair {
            name: "g722_encode",
            goal: 2.0,
            frames: FRAMES_PER_RUN,
            check: Box::new(check_encoders),
            ours: encode(),
            theirs: vec![spandsp_encode()],
            tables: simd::available().map(adpcm_encode).collect(),
        },
        Pair {
            name: "g722_decode",
            goal: 2.0,
            frames: FRAMES_PER_RUN,
            check: Box::new(check_decoders),
            ours: decode(),
            theirs: vec![spandsp_decode()],
            tables: simd::available().map(adpcm_decode).collect(),
        },
    ]
}

fn encode() -> Side {
    let pcm = speech();
    let mut encoders = Encoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map_while(|_| encoders.add()).collect();
    let (mut bytes, mut time) = ([0; BYTES], 0);
    Side::new("", move || {
        for (number, &call) in calls.iter().enumerate() {
            encoders.put(call, black_box(frame(&pcm, FRAME, number, time)));
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
    let calls: Vec<_> = (0..CALLS).map_while(|_| decoders.add()).collect();
    let (mut pcm, mut time) = ([0; FRAME], 0);
    Side::new("", move || {
        for (number, &call) in calls.iter().enumerate() {
            decoders.put(call, black_box(frame(&encoded, BYTES, number, time)));
        }
        decoders.decode();
        for &call in &calls {
            decoders.take(call, black_box(&mut pcm));
        }
        time += 1;
    })
}

/// Both bands get the speech, halved to their 15 bits.
fn adpcm_encode(kernels: &'static Kernels) -> Side {
    let pcm = speech();
    let row = |at: usize| Lane(std::array::from_fn(|lane| pcm[(at + lane * 1601) % pcm.len()] / 2));
    let signals: Vec<[Lane; 2]> = (0..BYTES).map(|at| [row(at), row(at)]).collect();
    let (mut state, mut octets) = (StateLanes::new(), vec![Lane::ZERO; BYTES]);
    Side::new(kernels.name, move || {
        for _ in 0..CALLS / 32 {
            (kernels.g722.encode)(&mut state, &Lane([-1; 32]), black_box(&signals), black_box(&mut octets));
        }
    })
}

fn adpcm_decode(kernels: &'static Kernels) -> Side {
    let encoded = encoded();
    let row = |at| Lane(std::array::from_fn(|lane| i16::from(encoded[(at + lane * 801) % encoded.len()])));
    let octets: Vec<Lane> = (0..BYTES).map(row).collect();
    let (mut state, mut signals) = (StateLanes::new(), vec![[Lane::ZERO; 2]; BYTES]);
    Side::new(kernels.name, move || {
        for _ in 0..CALLS / 32 {
            (kernels.g722.decode)(&mut state, &Lane([-1; 32]), black_box(&octets), black_box(&mut signals));
        }
    })
}

/// Every call against an encoder of spandsp of its own.
fn check_encoders() -> Result<String, String> {
    let pcm = speech();
    let mut encoders = Encoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map_while(|_| encoders.add()).collect();
    let mut singles: Vec<_> = (0..CALLS).map(|_| peers::G722Encoder::default()).collect();
    let (mut ours, mut theirs) = ([0; BYTES], [0; BYTES]);
    for time in 0..FRAMES {
        for (number, &call) in calls.iter().enumerate() {
            encoders.put(call, frame(&pcm, FRAME, number, time));
        }
        encoders.encode();
        for (number, (&call, single)) in calls.iter().zip(&mut singles).enumerate() {
            encoders.take(call, &mut ours);
            single.encode(frame(&pcm, FRAME, number, time), &mut theirs);
            if ours != theirs {
                return Err(format!("call {number} differs in frame {time}"));
            }
        }
    }
    Ok(format!("{CALLS} calls of {FRAMES} frames, every octet that of spandsp"))
}

/// Every call against a decoder of spandsp of its own.
fn check_decoders() -> Result<String, String> {
    let encoded = encoded();
    let mut decoders = Decoders::new(CALLS, BYTES);
    let calls: Vec<_> = (0..CALLS).map_while(|_| decoders.add()).collect();
    let mut singles: Vec<_> = (0..CALLS).map(|_| peers::G722Decoder::default()).collect();
    let (mut ours, mut theirs) = ([0; FRAME], [0; FRAME]);
    for time in 0..FRAMES {
        for (number, &call) in calls.iter().enumerate() {
            decoders.put(call, frame(&encoded, BYTES, number, time));
        }
        decoders.decode();
        for (number, (&call, single)) in calls.iter().zip(&mut singles).enumerate() {
            decoders.take(call, &mut ours);
            single.decode(frame(&encoded, BYTES, number, time), &mut theirs);
            if ours != theirs {
                return Err(format!("call {number} differs in frame {time}"));
            }
        }
    }
    Ok(format!("{CALLS} calls of {FRAMES} frames, every sample that of spandsp"))
}

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
