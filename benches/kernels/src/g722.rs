//! G.722 at 64 kbit/s, 16 kHz: many calls in one pass against one of spandsp's coders per call.

use std::hint::black_box;

use crate::pair::Side;
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
