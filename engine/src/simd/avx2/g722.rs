//! G.722.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::door::avx2;
use crate::simd::{G722, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: G722 = G722 { split, join, encode, decode };

/// 16 words.
type V = __m256i;
/// All bits of a word, or none.
type M = __m256i;
const WIDTH: usize = 16;

crate::simd::g722::lanes!(avx2);

/// 8 sums of the filters.
type Sums = __m256i;
const ROWS: usize = 8;

crate::simd::g722::filters!(avx2);

#[inline]
#[target_feature(enable = "avx2")]
fn splat(value: i16) -> V {
    _mm256_set1_epi16(value)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lane: &Lane, at: usize) -> V {
    must_cast(lane.0.as_chunks::<WIDTH>().0[at / WIDTH])
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(lane: &mut Lane, at: usize, a: V) {
    lane.0.as_chunks_mut::<WIDTH>().0[at / WIDTH] = must_cast(a);
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: V, b: V) -> V {
    _mm256_add_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sub(a: V, b: V) -> V {
    _mm256_sub_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn adds(a: V, b: V) -> V {
    _mm256_adds_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn subs(a: V, b: V) -> V {
    _mm256_subs_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn min(a: V, b: V) -> V {
    _mm256_min_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn max(a: V, b: V) -> V {
    _mm256_max_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn and(a: V, b: V) -> V {
    _mm256_and_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: V, b: V) -> V {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift_left<const N: i32>(a: V) -> V {
    _mm256_slli_epi16::<N>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift_right<const N: i32>(a: V) -> V {
    _mm256_srai_epi16::<N>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift_right_by(a: V, counts: V) -> V {
    // AVX2 shifts no words by words: the upper half of a product with a power of two does, here from a
    // table of the powers' upper bytes (none is under 16) and lower bytes.
    let upper = _mm256_shuffle_epi8(bytes_16(&UPPER), counts);
    let lower = _mm256_shuffle_epi8(bytes_16(&LOWER), counts);
    let powers = _mm256_or_si256(shift_left::<8>(upper), and(lower, splat(0xFF)));
    _mm256_mulhi_epu16(shift_left::<1>(a), powers)
}

#[inline]
#[target_feature(enable = "avx2")]
fn above(a: V, b: V) -> M {
    _mm256_cmpgt_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn negative(a: V) -> M {
    shift_right::<15>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn select(mask: M, yes: V, no: V) -> V {
    _mm256_blendv_epi8(no, yes, mask)
}

#[inline]
#[target_feature(enable = "avx2")]
fn multiply(a: V, b: V) -> V {
    let (high, low) = (_mm256_mulhi_epi16(a, b), _mm256_mullo_epi16(a, b));
    _mm256_or_si256(add(high, high), _mm256_srli_epi16::<15>(low))
}

#[inline]
#[target_feature(enable = "avx2")]
fn decay_7(a: V) -> V {
    add(a, _mm256_mulhi_epi16(a, splat(-512)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn decay_8(a: V) -> V {
    add(a, _mm256_mulhi_epi16(a, splat(-256)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_signed(a: V, b: V, sign: V) -> V {
    add(a, _mm256_sign_epi16(b, _mm256_or_si256(sign, splat(1))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn lookup(table: &[i16; 32], indices: V) -> V {
    let [a, b, c, d]: [__m128i; 4] = must_cast(*table);
    // The bytes of each word, of 64.
    let bytes = add(_mm256_mullo_epi16(indices, splat(0x0202)), splat(0x0100));
    let quarter = |quarter| _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(quarter), bytes);
    let odd = _mm256_slli_epi16::<3>(bytes);
    let below = _mm256_blendv_epi8(quarter(a), quarter(b), odd);
    let above = _mm256_blendv_epi8(quarter(c), quarter(d), odd);
    _mm256_blendv_epi8(below, above, _mm256_slli_epi16::<2>(bytes))
}

/// The upper bytes of 2^15 shifted right by the index.
const UPPER: [u8; 16] = [128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
/// The lower bytes.
const LOWER: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 128, 64, 32, 16, 8, 4, 2, 1];

#[inline]
#[target_feature(enable = "avx2")]
fn bytes_16(table: &[u8; 16]) -> V {
    _mm256_broadcastsi128_si256(must_cast(*table))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums(value: i32) -> Sums {
    _mm256_set1_epi32(value)
}

#[inline]
#[target_feature(enable = "avx2")]
fn taps(even: i16, odd: i16) -> Sums {
    _mm256_set1_epi32(must_cast([even, odd]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn pairs(samples: &[i16]) -> Sums {
    bytemuck::pod_read_unaligned(bytemuck::must_cast_slice(&samples[..2 * ROWS]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot(sums: Sums, pairs: Sums, taps: Sums) -> Sums {
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, taps))
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const N: i32>(sums: Sums) -> Sums {
    _mm256_srai_epi32::<N>(sums)
}

#[inline]
#[target_feature(enable = "avx2")]
fn limit(sums: Sums, low: Sums, high: Sums) -> Sums {
    _mm256_max_epi32(_mm256_min_epi32(sums, high), low)
}

#[inline]
#[target_feature(enable = "avx2")]
fn narrow(sums: Sums) -> [i16; ROWS] {
    let halves = _mm256_packs_epi32(sums, sums);
    must_cast(_mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(halves)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn interleave(even: Sums, odd: Sums) -> [[i16; 2]; ROWS] {
    must_cast(_mm256_or_si256(_mm256_and_si256(even, sums(0xFFFF)), _mm256_slli_epi32::<16>(odd)))
}
