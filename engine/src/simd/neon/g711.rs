//! G.711. Encoding goes by counted leading zeros, decoding by permutes over 16 entries, the direct
//! conversions by how little the values differ.

use std::arch::aarch64::*;

use bytemuck::must_cast;

use super::level::{Meter, apply};
use crate::simd::Gain;
use crate::simd::door::neon;

crate::simd::g711::vectors!(neon, 16);

/// 16 samples to mu-law.
#[target_feature(enable = "neon")]
#[inline]
fn ulaw(samples: [int16x8_t; 2]) -> uint8x16_t {
    let codes = samples.map(|samples| {
        let biased = vreinterpretq_u16_s16(vqaddq_s16(magnitude(samples), vdupq_n_s16(33 << 2)));
        segment_and_step(biased, vclzq_u16(biased))
    });
    // Bit 7 of the sign, the others of the code, and all turned.
    let signs = vandq_u8(high_bytes(samples), vdupq_n_u8(0x80));
    vmvnq_u8(vorrq_u8(low_bytes(codes), signs))
}

/// 16 samples to A-law.
#[target_feature(enable = "neon")]
#[inline]
fn alaw(samples: [int16x8_t; 2]) -> uint8x16_t {
    let codes = samples.map(|samples| {
        let magnitude = vreinterpretq_u16_s16(magnitude(samples));
        // The first segment is as fine as the second.
        segment_and_step(magnitude, vclzq_u16(vmaxq_u16(magnitude, vdupq_n_u16(0x100))))
    });
    // Bit 7 of the sign, turned, the others of the code.
    let signs = vbicq_u8(vdupq_n_u8(0x80), high_bytes(samples));
    veorq_u8(vorrq_u8(low_bytes(codes), signs), vdupq_n_u8(0x55))
}

/// By ones' complement.
#[target_feature(enable = "neon")]
#[inline]
fn magnitude(samples: int16x8_t) -> int16x8_t {
    veorq_s16(samples, vshrq_n_s16::<15>(samples))
}

/// The code of a magnitude, without its sign, by how many zeros lead.
#[target_feature(enable = "neon")]
#[inline]
fn segment_and_step(magnitude: uint16x8_t, zeros: uint16x8_t) -> uint16x8_t {
    // To the right by 3 more than the segment, 11 - zeros. What is left has its leading one.
    let shift = vsubq_s16(vreinterpretq_s16_u16(zeros), vdupq_n_s16(11));
    let step = vaddq_u16(vshlq_u16(magnitude, shift), vdupq_n_u16((8 << 4) - 16));
    vsubq_u16(step, vshlq_n_u16::<4>(zeros))
}

#[target_feature(enable = "neon")]
#[inline]
fn low_bytes([first, second]: [uint16x8_t; 2]) -> uint8x16_t {
    vuzp1q_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(second))
}

#[target_feature(enable = "neon")]
#[inline]
fn high_bytes([first, second]: [int16x8_t; 2]) -> uint8x16_t {
    vuzp2q_u8(vreinterpretq_u8_s16(first), vreinterpretq_u8_s16(second))
}

/// 16 mu-law codes to samples.
#[target_feature(enable = "neon")]
#[inline]
fn from_ulaw(codes: uint8x16_t) -> [int16x8_t; 2] {
    let base = by_low_bits(&ULAW_BASE, codes);
    let bias = vdupq_n_u16(33 << 2);
    let [low, high] = products(base, by_high_bits(&ULAW_POWER, codes));
    signed([vsubq_u16(low, bias), vsubq_u16(high, bias)], codes)
}

/// 16 A-law codes to samples.
#[target_feature(enable = "neon")]
#[inline]
fn from_alaw(codes: uint8x16_t) -> [int16x8_t; 2] {
    let base = vorrq_u8(by_low_bits(&ALAW_BASE, codes), by_high_bits(&ALAW_LEADING, codes));
    signed(products(base, by_high_bits(&ALAW_POWER, codes)), codes)
}

#[target_feature(enable = "neon")]
#[inline]
fn by_low_bits(table: &'static [u8; 16], codes: uint8x16_t) -> uint8x16_t {
    vqtbl1q_u8(must_cast(*table), vandq_u8(codes, vdupq_n_u8(0x0F)))
}

/// By bits 4 to 7; tables do not look at bit 7.
#[target_feature(enable = "neon")]
#[inline]
fn by_high_bits(table: &'static [u8; 16], codes: uint8x16_t) -> uint8x16_t {
    vqtbl1q_u8(must_cast(*table), vshrq_n_u8::<4>(codes))
}

#[target_feature(enable = "neon")]
#[inline]
fn products(base: uint8x16_t, power: uint8x16_t) -> [uint16x8_t; 2] {
    [vmull_u8(vget_low_u8(base), vget_low_u8(power)), vmull_high_u8(base, power)]
}

/// From magnitudes: negated where bit 7 of the code is clear.
#[target_feature(enable = "neon")]
#[inline]
fn signed([low, high]: [uint16x8_t; 2], codes: uint8x16_t) -> [int16x8_t; 2] {
    let negative = vreinterpretq_s8_u8(vcltq_u8(codes, vdupq_n_u8(0x80)));
    let [low_mask, high_mask] = [vmovl_s8(vget_low_s8(negative)), vmovl_high_s8(negative)];
    [
        vsubq_s16(veorq_s16(vreinterpretq_s16_u16(low), low_mask), low_mask),
        vsubq_s16(veorq_s16(vreinterpretq_s16_u16(high), high_mask), high_mask),
    ]
}

/// Samples with a gain; the new ones at the end are measured.
#[target_feature(enable = "neon")]
#[inline]
fn amplified(samples: [int16x8_t; 2], gain: Gain, new: usize, meter: &mut Meter) -> [int16x8_t; 2] {
    let [low, high] = samples;
    let amplified = [apply(low, gain), apply(high, gain)];
    meter.add(amplified, new);
    amplified
}

/// 16 mu-law codes to A-law; `scalar` says how.
#[target_feature(enable = "neon")]
#[inline]
fn ulaw_alaw(codes: uint8x16_t) -> uint8x16_t {
    let n = vbicq_u8(vdupq_n_u8(0x7F), codes);
    let less = vminq_u8(vqsubq_u8(n, vdupq_n_u8(32)), vdupq_n_u8(4));
    let late = late(n, less, [48, 49, 64, 81]);
    let value = vsubq_u8(n, vminq_u8(vrshrq_n_u8::<1>(n), late));
    let signs = vandq_u8(codes, vdupq_n_u8(0x80));
    veorq_u8(vorrq_u8(value, signs), vdupq_n_u8(0x55))
}

/// 16 A-law codes to mu-law; `scalar` says how.
#[target_feature(enable = "neon")]
#[inline]
fn alaw_ulaw(codes: uint8x16_t) -> uint8x16_t {
    let n = vandq_u8(veorq_u8(codes, vdupq_n_u8(0x55)), vdupq_n_u8(0x7F));
    let less = vminq_u8(vshrq_n_u8::<1>(vqsubq_u8(n, vdupq_n_u8(23))), vdupq_n_u8(4));
    let late = late(n, less, [45, 47, 63, 80]);
    let value = vaddq_u8(n, vminq_u8(vaddq_u8(n, vdupq_n_u8(1)), late));
    veorq_u8(value, vorrq_u8(codes, vdupq_n_u8(0x7F)))
}

/// 8, less one from each of some values on.
#[target_feature(enable = "neon")]
#[inline]
fn late(n: uint8x16_t, less: uint8x16_t, from: [u8; 4]) -> uint8x16_t {
    from.into_iter()
        .fold(vsubq_u8(vdupq_n_u8(8), less), |late, from| vaddq_u8(late, vcgeq_u8(n, vdupq_n_u8(from))))
}

// A value is base * 2^segment, less the bias in mu-law.

/// By the step's bits, as they are in a code: twice the step, its leading one and a half, times four.
static ULAW_BASE: [u8; 16] = bases(0x0F, 0x84);
/// As in mu-law, but without the leading one,
static ALAW_BASE: [u8; 16] = bases(0x05, 4);
/// which the first segment lacks.
static ALAW_LEADING: [u8; 16] = {
    let mut table = [0x80; 16];
    table[5] = 0;
    table[5 + 8] = 0;
    table
};
/// By the segment's bits, as they are in a code.
static ULAW_POWER: [u8; 16] = powers(7, 0);
static ALAW_POWER: [u8; 16] = powers(5, 1);

const fn bases(turned: usize, first: usize) -> [u8; 16] {
    let mut table = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        table[bits] = (first + (bits ^ turned) * 8) as u8;
        bits += 1;
    }
    table
}

/// Two to the segment, but at least to `least`.
const fn powers(turned: usize, least: usize) -> [u8; 16] {
    let mut table = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        let segment = (bits ^ turned) & 7;
        table[bits] = 1 << if segment < least { least } else { segment };
        bits += 1;
    }
    table
}
