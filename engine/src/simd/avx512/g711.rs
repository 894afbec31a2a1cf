//! G.711 by permutes over 128 bytes: one instruction looks up what a code, or the top bits of a sample, means.
//!
//! A table of one polarity is enough, as both laws are symmetric; signs are put back by mask or by logic.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use super::level::{Meter, apply};
use crate::simd::Gain;
use crate::simd::door::avx512;
use crate::simd::law::{ALAW_TO_LINEAR, ALAW_TO_ULAW, ULAW_TO_ALAW, ULAW_TO_LINEAR};

crate::simd::g711::vectors!(avx512, 64);

/// 64 samples to mu-law.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn ulaw(samples: [__m512i; 2]) -> __m512i {
    let codes = low_bytes(samples.map(|samples| {
        let biased = _mm512_adds_epi16(magnitude(samples), _mm512_set1_epi16(33 << 2));
        segment_and_step(biased, &ULAW_SHIFTS)
    }));
    let codes = _mm512_sub_epi8(codes, _mm512_set1_epi8(SURPLUS));
    // All bits are turned: bit 7 of the sign, the others of the code.
    _mm512_ternarylogic_epi32::<0x27>(codes, high_bytes(samples), _mm512_set1_epi8(-128))
}

/// 64 samples to A-law.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn alaw(samples: [__m512i; 2]) -> __m512i {
    let codes = low_bytes(samples.map(|samples| segment_and_step(magnitude(samples), &ALAW_SHIFTS)));
    let codes = _mm512_sub_epi8(codes, _mm512_set1_epi8(SURPLUS));
    let codes = _mm512_xor_si512(codes, _mm512_set1_epi8(0x55));
    // Bit 7 of the sign, turned, the others of the code.
    _mm512_ternarylogic_epi32::<0x72>(codes, high_bytes(samples), _mm512_set1_epi8(-128))
}

/// By ones' complement.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn magnitude(samples: __m512i) -> __m512i {
    _mm512_xor_si512(samples, _mm512_srai_epi16::<15>(samples))
}

/// In the low byte of each word: the code of a magnitude without its sign, plus [`SURPLUS`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn segment_and_step(magnitude: __m512i, shifts: &'static [u8; 128]) -> __m512i {
    let top = _mm512_srli_epi16::<8>(magnitude);
    let shift = _mm512_maskz_permutex2var_epi8(LOW_BYTES, half(shifts, 0), top, half(shifts, 1));
    _mm512_add_epi16(_mm512_slli_epi16::<4>(shift), _mm512_srlv_epi16(magnitude, shift))
}

/// 64 codes to samples.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn linear(table: &'static Linear, codes: __m512i) -> [__m512i; 2] {
    let low = _mm512_permutex2var_epi8(half(&table.low, 0), codes, half(&table.low, 1));
    let high = _mm512_permutex2var_epi8(half(&table.high, 0), codes, half(&table.high, 1));
    let negative = !_mm512_movepi8_mask(codes);
    let first = _mm512_permutex2var_epi8(low, half(&INTERLEAVED, 0), high);
    let second = _mm512_permutex2var_epi8(low, half(&INTERLEAVED, 1), high);
    let zero = _mm512_setzero_si512();
    [
        _mm512_mask_sub_epi16(first, negative as u32, zero, first),
        _mm512_mask_sub_epi16(second, (negative >> 32) as u32, zero, second),
    ]
}

/// 64 mu-law codes to samples.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn from_ulaw(codes: __m512i) -> [__m512i; 2] {
    linear(&ULAW_LINEAR, codes)
}

/// 64 A-law codes to samples.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn from_alaw(codes: __m512i) -> [__m512i; 2] {
    linear(&ALAW_LINEAR, codes)
}

/// 64 mu-law codes to A-law.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn ulaw_alaw(codes: __m512i) -> __m512i {
    other_law(&ULAW_ALAW, codes)
}

/// 64 A-law codes to mu-law.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn alaw_ulaw(codes: __m512i) -> __m512i {
    other_law(&ALAW_ULAW, codes)
}

/// Samples with a gain; the new ones at the end are measured.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn amplified(samples: [__m512i; 2], gain: Gain, new: usize, meter: &mut Meter) -> [__m512i; 2] {
    let [low, high] = samples;
    let amplified = [apply(low, gain), apply(high, gain)];
    meter.add(amplified, new);
    amplified
}

/// 64 codes to the other law, signs kept.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn other_law(table: &'static [u8; 128], codes: __m512i) -> __m512i {
    let converted = _mm512_permutex2var_epi8(half(table, 0), codes, half(table, 1));
    // Bit 7 of the code, the others of the table.
    _mm512_ternarylogic_epi32::<0xD8>(converted, codes, _mm512_set1_epi8(-128))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn low_bytes([first, second]: [__m512i; 2]) -> __m512i {
    _mm512_permutex2var_epi8(first, must_cast(EVEN), second)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn high_bytes([first, second]: [__m512i; 2]) -> __m512i {
    _mm512_permutex2var_epi8(first, must_cast(ODD), second)
}

#[inline(always)]
fn half(table: &[u8; 128], index: usize) -> __m512i {
    must_cast(table.as_chunks::<64>().0[index])
}

const LOW_BYTES: __mmask64 = 0x5555_5555_5555_5555;

/// A shift is 3 more than the segment, and a step keeps its leading one: 16 * 3 + 16. In A-law's first segment the
/// shift is 4 more than the segment and there is no leading one: 16 * 4.
const SURPLUS: i8 = 64;

/// By the high byte of a biased magnitude: how far right the step lies.
static ULAW_SHIFTS: [u8; 128] = shifts(3);
/// By the high byte of a magnitude: how far right the step lies.
static ALAW_SHIFTS: [u8; 128] = shifts(4);

const fn shifts(first: u8) -> [u8; 128] {
    let mut table = [first; 128];
    let mut top = 1;
    while top < 128 {
        table[top] = 4 + top.ilog2() as u8;
        top += 1;
    }
    table
}

/// The values of the positive codes, by their low seven bits.
struct Linear {
    low: [u8; 128],
    high: [u8; 128],
}

static ULAW_LINEAR: Linear = bytes_of(&ULAW_TO_LINEAR);
static ALAW_LINEAR: Linear = bytes_of(&ALAW_TO_LINEAR);

const fn bytes_of(values: &[i16; 256]) -> Linear {
    let mut table = Linear { low: [0; 128], high: [0; 128] };
    let mut code = 0;
    while code < 128 {
        [table.low[code], table.high[code]] = values[code | 0x80].to_le_bytes();
        code += 1;
    }
    table
}

/// By the low seven bits of a code.
static ULAW_ALAW: [u8; 128] = first_half(&ULAW_TO_ALAW);
static ALAW_ULAW: [u8; 128] = first_half(&ALAW_TO_ULAW);

const fn first_half(table: &[u8; 256]) -> [u8; 128] {
    let mut half = [0; 128];
    let mut code = 0;
    while code < 128 {
        half[code] = table[code];
        code += 1;
    }
    half
}

/// Byte indices into two vectors: words of a byte from each.
static INTERLEAVED: [u8; 128] = {
    let mut index = [0; 128];
    let mut word = 0;
    while word < 64 {
        index[2 * word] = word as u8;
        index[2 * word + 1] = 64 + word as u8;
        word += 1;
    }
    index
};

const EVEN: [u8; 64] = every_other(0);
const ODD: [u8; 64] = every_other(1);

const fn every_other(first: u8) -> [u8; 64] {
    let mut index = [0; 64];
    let mut byte = 0;
    while byte < 64 {
        index[byte] = first + 2 * byte as u8;
        byte += 1;
    }
    index
}
