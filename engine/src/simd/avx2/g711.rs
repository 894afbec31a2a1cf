//! G.711. Encoding goes by the exponents of floats, decoding by permutes over 16 entries, the direct
//! conversions by how little the values differ.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use super::level::{Meter, apply};
use crate::simd::Gain;
use crate::simd::door::avx2;

crate::simd::g711::vectors!(avx2, 32);

/// 32 samples to mu-law.
#[target_feature(enable = "avx2")]
#[inline]
fn ulaw(samples: [__m256i; 2]) -> __m256i {
    let codes = samples
        .map(|samples| segment_and_step(_mm256_adds_epi16(magnitude(samples), _mm256_set1_epi16(33 << 2))));
    // Bit 7 of the sign, the others of the code, and all turned.
    let signs = _mm256_and_si256(sign_bytes(samples), _mm256_set1_epi8(-128));
    in_order(_mm256_xor_si256(_mm256_or_si256(bytes(codes), signs), _mm256_set1_epi8(-1)))
}

/// 32 samples to A-law.
#[target_feature(enable = "avx2")]
#[inline]
fn alaw(samples: [__m256i; 2]) -> __m256i {
    let codes = samples.map(|samples| {
        let magnitude = magnitude(samples);
        // The first segment is as fine as the second and has no leading one.
        let short = _mm256_subs_epu16(_mm256_set1_epi16(16), _mm256_srli_epi16::<4>(magnitude));
        _mm256_sub_epi16(segment_and_step(_mm256_max_epi16(magnitude, _mm256_set1_epi16(0x100))), short)
    });
    // Bit 7 of the sign, turned, the others of the code.
    let signs = _mm256_andnot_si256(sign_bytes(samples), _mm256_set1_epi8(-128));
    in_order(_mm256_xor_si256(_mm256_or_si256(bytes(codes), signs), _mm256_set1_epi8(0x55)))
}

/// By ones' complement.
#[target_feature(enable = "avx2")]
#[inline]
fn magnitude(samples: __m256i) -> __m256i {
    _mm256_xor_si256(samples, _mm256_srai_epi16::<15>(samples))
}

/// The segment of a magnitude (that of 2^7 is 0) and the four bits below its leading one: exponent and mantissa of
/// the float that it is exactly.
#[target_feature(enable = "avx2")]
#[inline]
fn segment_and_step(magnitude: __m256i) -> __m256i {
    let zero = _mm256_setzero_si256();
    let low = _mm256_cvtepi32_ps(_mm256_unpacklo_epi16(magnitude, zero));
    let high = _mm256_cvtepi32_ps(_mm256_unpackhi_epi16(magnitude, zero));
    let bits = _mm256_packus_epi32(
        _mm256_srli_epi32::<19>(_mm256_castps_si256(low)),
        _mm256_srli_epi32::<19>(_mm256_castps_si256(high)),
    );
    _mm256_sub_epi16(bits, _mm256_set1_epi16((127 + 7) << 4))
}

#[target_feature(enable = "avx2")]
#[inline]
fn bytes([first, second]: [__m256i; 2]) -> __m256i {
    _mm256_packus_epi16(first, second)
}

#[target_feature(enable = "avx2")]
#[inline]
fn sign_bytes([first, second]: [__m256i; 2]) -> __m256i {
    _mm256_packs_epi16(first, second)
}

/// Packing and unpacking work on each half of a vector: this goes after the one and before the other.
#[target_feature(enable = "avx2")]
#[inline]
fn in_order(codes: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(codes)
}

/// 32 mu-law codes to samples.
#[target_feature(enable = "avx2")]
#[inline]
fn from_ulaw(codes: __m256i) -> [__m256i; 2] {
    let codes = in_order(codes);
    let (base, power) = (by_low_bits(&ULAW_BASE, codes), by_high_bits(&ULAW_POWER, codes));
    let (bias, one) = (_mm256_set1_epi8(33 << 2), _mm256_set1_epi8(1));
    signed(
        [
            _mm256_maddubs_epi16(_mm256_unpacklo_epi8(base, bias), _mm256_unpacklo_epi8(power, one)),
            _mm256_maddubs_epi16(_mm256_unpackhi_epi8(base, bias), _mm256_unpackhi_epi8(power, one)),
        ],
        codes,
    )
}

/// 32 A-law codes to samples.
#[target_feature(enable = "avx2")]
#[inline]
fn from_alaw(codes: __m256i) -> [__m256i; 2] {
    let codes = in_order(codes);
    let (base, power) = (by_low_bits(&ALAW_BASE, codes), by_high_bits(&ALAW_POWER, codes));
    let (leading, leading_power) = (_mm256_set1_epi8(-128), by_high_bits(&ALAW_LEADING_POWER, codes));
    signed(
        [
            _mm256_maddubs_epi16(
                _mm256_unpacklo_epi8(base, leading),
                _mm256_unpacklo_epi8(power, leading_power),
            ),
            _mm256_maddubs_epi16(
                _mm256_unpackhi_epi8(base, leading),
                _mm256_unpackhi_epi8(power, leading_power),
            ),
        ],
        codes,
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn by_low_bits(table: &'static [i8; 16], codes: __m256i) -> __m256i {
    let table = _mm256_broadcastsi128_si256(must_cast(*table));
    _mm256_shuffle_epi8(table, _mm256_and_si256(codes, _mm256_set1_epi8(0x0F)))
}

/// By bits 4 to 6; tables have them twice.
#[target_feature(enable = "avx2")]
#[inline]
fn by_high_bits(table: &'static [i8; 16], codes: __m256i) -> __m256i {
    by_low_bits(table, _mm256_srli_epi16::<4>(codes))
}

/// From negated magnitudes: turned where bit 7 of the code is set.
#[target_feature(enable = "avx2")]
#[inline]
fn signed(negated: [__m256i; 2], codes: __m256i) -> [__m256i; 2] {
    // A one below each code, as zero would give zero.
    let one = _mm256_set1_epi8(1);
    [
        _mm256_sign_epi16(negated[0], _mm256_unpacklo_epi8(one, codes)),
        _mm256_sign_epi16(negated[1], _mm256_unpackhi_epi8(one, codes)),
    ]
}

/// Samples with a gain; the new ones at the end are measured.
#[target_feature(enable = "avx2")]
#[inline]
fn amplified(samples: [__m256i; 2], gain: Gain, new: usize, meter: &mut Meter) -> [__m256i; 2] {
    let [low, high] = samples;
    let amplified = [apply(low, gain), apply(high, gain)];
    meter.add(amplified, new);
    amplified
}

/// 32 mu-law codes to A-law; `scalar` says how.
#[target_feature(enable = "avx2")]
#[inline]
fn ulaw_alaw(codes: __m256i) -> __m256i {
    let n = _mm256_andnot_si256(codes, _mm256_set1_epi8(0x7F));
    let less = _mm256_min_epu8(_mm256_subs_epu8(n, _mm256_set1_epi8(32)), _mm256_set1_epi8(4));
    let late = late(n, less, [48, 49, 64, 81]);
    let early = _mm256_avg_epu8(n, _mm256_setzero_si256());
    let value = _mm256_sub_epi8(n, _mm256_min_epu8(early, late));
    let signs = _mm256_and_si256(codes, _mm256_set1_epi8(-128));
    _mm256_xor_si256(_mm256_or_si256(value, signs), _mm256_set1_epi8(0x55))
}

/// 32 A-law codes to mu-law; `scalar` says how.
#[target_feature(enable = "avx2")]
#[inline]
fn alaw_ulaw(codes: __m256i) -> __m256i {
    let n = _mm256_and_si256(_mm256_xor_si256(codes, _mm256_set1_epi8(0x55)), _mm256_set1_epi8(0x7F));
    // Half of what is above 23, rounded down, is half of what is above 24, rounded up.
    let above = _mm256_subs_epu8(n, _mm256_set1_epi8(24));
    let less = _mm256_min_epu8(_mm256_avg_epu8(above, _mm256_setzero_si256()), _mm256_set1_epi8(4));
    let late = late(n, less, [45, 47, 63, 80]);
    let early = _mm256_sub_epi8(n, _mm256_set1_epi8(-1));
    let value = _mm256_add_epi8(n, _mm256_min_epu8(early, late));
    _mm256_xor_si256(value, _mm256_or_si256(codes, _mm256_set1_epi8(0x7F)))
}

/// 8, less one from each of some values on.
#[target_feature(enable = "avx2")]
#[inline]
fn late(n: __m256i, less: __m256i, from: [i8; 4]) -> __m256i {
    from.into_iter().fold(_mm256_sub_epi8(_mm256_set1_epi8(8), less), |late, from| {
        _mm256_add_epi8(late, _mm256_cmpgt_epi8(n, _mm256_set1_epi8(from - 1)))
    })
}

// A value is base * 2^segment, less the bias in mu-law. The factors are multiplied as a byte without sign and one
// with a sign, and 128 is there only as -128: powers are negative.

/// By the step's bits, as they are in a code: twice the step, its leading one and a half, times four.
static ULAW_BASE: [i8; 16] = by_bits(0x0F, 0x84, 8);
/// By the segment's bits, as they are in a code.
static ULAW_POWER: [i8; 16] = powers(7, 0, 0);
/// As in mu-law, but without the leading one,
static ALAW_BASE: [i8; 16] = by_bits(0x05, 4, 8);
static ALAW_POWER: [i8; 16] = powers(5, 1, 0);
/// which the first segment lacks.
static ALAW_LEADING_POWER: [i8; 16] = powers(5, 1, 1);

const fn by_bits(turned: usize, first: usize, step: usize) -> [i8; 16] {
    let mut table = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        table[bits] = (first + (bits ^ turned) * step) as u8 as i8;
        bits += 1;
    }
    table
}

/// Minus two to the segment, but at least to `least`; zero in segments before `from`.
const fn powers(turned: usize, least: usize, from: usize) -> [i8; 16] {
    let mut table = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        let segment = (bits ^ turned) & 7;
        let exponent = if segment < least { least } else { segment };
        table[bits] = if segment < from { 0 } else { (-1i16 << exponent) as i8 };
        bits += 1;
    }
    table
}
