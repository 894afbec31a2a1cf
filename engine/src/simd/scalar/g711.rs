//! G.711, sample by sample, in forms that compilers vectorise: `law` has the plain ones.

use std::ops::Add;

use crate::simd::law::{ALAW_TO_LINEAR, ULAW_TO_LINEAR, linear_from_alaw, linear_from_ulaw};
use crate::simd::{G711, Gain, Loudness};

/// The family in this table.
pub(in crate::simd) const KERNELS: G711 = G711 {
    encode_ulaw,
    encode_alaw,
    decode_ulaw,
    decode_alaw,
    ulaw_to_alaw,
    alaw_to_ulaw,
    ulaw_to_alaw_in_place,
    alaw_to_ulaw_in_place,
    encode_ulaw_gain,
    encode_alaw_gain,
    decode_ulaw_gain,
    decode_alaw_gain,
    measure_ulaw,
    measure_alaw,
    peak_ulaw,
    peak_alaw,
};

#[inline(always)]
pub(in crate::simd) fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
    for (byte, &sample) in encoded.iter_mut().zip(pcm) {
        *byte = ulaw(sample);
    }
}

#[inline(always)]
pub(in crate::simd) fn encode_alaw(pcm: &[i16], encoded: &mut [u8]) {
    for (byte, &sample) in encoded.iter_mut().zip(pcm) {
        *byte = alaw(sample);
    }
}

#[inline(always)]
pub(in crate::simd) fn encode_ulaw_gain(pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
    for (byte, &sample) in encoded.iter_mut().zip(pcm) {
        *byte = ulaw(gain.apply(sample));
    }
}

#[inline(always)]
pub(in crate::simd) fn encode_alaw_gain(pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
    for (byte, &sample) in encoded.iter_mut().zip(pcm) {
        *byte = alaw(gain.apply(sample));
    }
}

pub(in crate::simd) fn decode_ulaw(encoded: &[u8], pcm: &mut [i16]) {
    for (sample, &byte) in pcm.iter_mut().zip(encoded) {
        *sample = ULAW_TO_LINEAR[usize::from(byte)];
    }
}

pub(in crate::simd) fn decode_alaw(encoded: &[u8], pcm: &mut [i16]) {
    for (sample, &byte) in pcm.iter_mut().zip(encoded) {
        *sample = ALAW_TO_LINEAR[usize::from(byte)];
    }
}

pub(in crate::simd) fn decode_ulaw_gain(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
    decode_gain(&ULAW_TO_LINEAR, encoded, gain, pcm)
}

pub(in crate::simd) fn decode_alaw_gain(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
    decode_gain(&ALAW_TO_LINEAR, encoded, gain, pcm)
}

fn decode_gain(table: &[i16; 256], encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
    let mut level = Loudness::default();
    for (sample, &byte) in pcm.iter_mut().zip(encoded) {
        *sample = gain.apply(table[usize::from(byte)]);
        level = level + Loudness::of(*sample);
    }
    level
}

pub(in crate::simd) fn measure_ulaw(encoded: &[u8]) -> Loudness {
    encoded
        .iter()
        .map(|&byte| Loudness::of(ULAW_TO_LINEAR[usize::from(byte)]))
        .fold(Loudness::default(), Add::add)
}

pub(in crate::simd) fn measure_alaw(encoded: &[u8]) -> Loudness {
    encoded
        .iter()
        .map(|&byte| Loudness::of(ALAW_TO_LINEAR[usize::from(byte)]))
        .fold(Loudness::default(), Add::add)
}

/// The codes without their signs count down to the loudest.
#[inline(always)]
pub(in crate::simd) fn peak_ulaw(encoded: &[u8]) -> u16 {
    linear_from_ulaw(!encoded.iter().fold(0, |loudest, &byte| loudest.max(!byte & 0x7F))).unsigned_abs()
}

/// The codes without their signs, and every other bit turned, count up to the loudest.
#[inline(always)]
pub(in crate::simd) fn peak_alaw(encoded: &[u8]) -> u16 {
    if encoded.is_empty() {
        return 0;
    }
    let loudest = encoded.iter().fold(0, |loudest: u8, &byte| loudest.max((byte ^ 0x55) & 0x7F));
    linear_from_alaw(loudest ^ 0x55).unsigned_abs()
}

#[inline(always)]
pub(in crate::simd) fn ulaw_to_alaw(source: &[u8], target: &mut [u8]) {
    for (target, &byte) in target.iter_mut().zip(source) {
        *target = alaw_from_ulaw(byte);
    }
}

#[inline(always)]
pub(in crate::simd) fn alaw_to_ulaw(source: &[u8], target: &mut [u8]) {
    for (target, &byte) in target.iter_mut().zip(source) {
        *target = ulaw_from_alaw(byte);
    }
}

#[inline(always)]
pub(in crate::simd) fn ulaw_to_alaw_in_place(audio: &mut [u8]) {
    for byte in audio {
        *byte = alaw_from_ulaw(*byte);
    }
}

#[inline(always)]
pub(in crate::simd) fn alaw_to_ulaw_in_place(audio: &mut [u8]) {
    for byte in audio {
        *byte = ulaw_from_alaw(*byte);
    }
}

/// A float holds any sample exactly, and its exponent and first mantissa bits are the segment and the step.
#[inline(always)]
fn ulaw(sample: i16) -> u8 {
    let sign = (sample >> 15) as u8 & 0x80;
    // 33 of 14 bits moves every segment to a power of two (G.711 table 2), the first to 2^7.
    let biased = (sample ^ (sample >> 15)).saturating_add(33 << 2);
    !(sign | segment_and_step(biased).wrapping_sub(7 << 4))
}

/// As mu-law, but the first segment is as fine as the second and has no leading one.
#[inline(always)]
fn alaw(sample: i16) -> u8 {
    let sign = !(sample >> 15) as u8 & 0x80;
    let magnitude = sample ^ (sample >> 15);
    let short = (0x100 - magnitude.min(0x100) + 0x0F) >> 4;
    let code = segment_and_step(magnitude.max(0x100)).wrapping_sub(7 << 4).wrapping_sub(short as u8);
    (sign | code) ^ 0x55
}

/// The exponent, counted from zero, and four bits of mantissa, of a positive number; the exponent's high bits are
/// cut off.
#[inline(always)]
fn segment_and_step(magnitude: i16) -> u8 {
    // The float's bias of 127 is 7 more than a multiple of 8.
    ((f32::from(magnitude).to_bits() >> 19) as u8).wrapping_sub((127 << 4) as u8)
}

/// G.711 table 3 by what it takes from each value; counted from zero at no signal.
#[inline(always)]
fn alaw_from_ulaw(byte: u8) -> u8 {
    let n = !byte & 0x7F;
    let late = 8
        - n.saturating_sub(32).min(4)
        - u8::from(n >= 48)
        - u8::from(n >= 49)
        - u8::from(n >= 64)
        - u8::from(n >= 81);
    let value = n - ((n + 1) >> 1).min(late);
    (value | (byte & 0x80)) ^ 0x55
}

/// G.711 table 4 by what it adds to each value; counted from zero at no signal.
#[inline(always)]
fn ulaw_from_alaw(byte: u8) -> u8 {
    let n = (byte ^ 0x55) & 0x7F;
    let late = 8
        - (n.saturating_sub(23) >> 1).min(4)
        - u8::from(n >= 45)
        - u8::from(n >= 47)
        - u8::from(n >= 63)
        - u8::from(n >= 80);
    let value = n + (n + 1).min(late);
    (!value & 0x7F) | (byte & 0x80)
}
