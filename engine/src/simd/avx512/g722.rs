//! G.722.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::door::avx512;
use crate::simd::{G722, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: G722 = G722 { split, join, encode, decode };

/// 32 words.
type V = __m512i;
type M = __mmask32;
const WIDTH: usize = 32;

crate::simd::g722::lanes!(avx512);

/// 16 sums of the filters.
type Sums = __m512i;
const ROWS: usize = 16;

crate::simd::g722::filters!(avx512);

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn splat(value: i16) -> V {
    _mm512_set1_epi16(value)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(lane: &Lane, _at: usize) -> V {
    must_cast(lane.0)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(lane: &mut Lane, _at: usize, a: V) {
    lane.0 = must_cast(a);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sub(a: V, b: V) -> V {
    _mm512_sub_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn adds(a: V, b: V) -> V {
    _mm512_adds_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn subs(a: V, b: V) -> V {
    _mm512_subs_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn min(a: V, b: V) -> V {
    _mm512_min_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn max(a: V, b: V) -> V {
    _mm512_max_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn and(a: V, b: V) -> V {
    _mm512_and_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor(a: V, b: V) -> V {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shift_left<const N: u32>(a: V) -> V {
    _mm512_slli_epi16::<N>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shift_right<const N: u32>(a: V) -> V {
    _mm512_srai_epi16::<N>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shift_right_by(a: V, counts: V) -> V {
    _mm512_srlv_epi16(a, counts)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn above(a: V, b: V) -> M {
    _mm512_cmpgt_epi16_mask(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn negative(a: V) -> M {
    _mm512_movepi16_mask(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn select(mask: M, yes: V, no: V) -> V {
    _mm512_mask_blend_epi16(mask, no, yes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
fn multiply(a: V, b: V) -> V {
    _mm512_shldi_epi16::<1>(_mm512_mulhi_epi16(a, b), _mm512_mullo_epi16(a, b))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decay_7(a: V) -> V {
    add(a, _mm512_mulhi_epi16(a, splat(-512)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decay_8(a: V) -> V {
    add(a, _mm512_mulhi_epi16(a, splat(-256)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_signed(a: V, b: V, sign: V) -> V {
    _mm512_mask_sub_epi16(add(a, b), negative(sign), a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn lookup(table: &[i16; 32], indices: V) -> V {
    _mm512_permutexvar_epi16(indices, must_cast(*table))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sums(value: i32) -> Sums {
    _mm512_set1_epi32(value)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn taps(even: i16, odd: i16) -> Sums {
    _mm512_set1_epi32(must_cast([even, odd]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs(samples: &[i16]) -> Sums {
    bytemuck::pod_read_unaligned(bytemuck::must_cast_slice(&samples[..2 * ROWS]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot(sums: Sums, pairs: Sums, taps: Sums) -> Sums {
    _mm512_dpwssd_epi32(sums, pairs, taps)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shift<const N: u32>(sums: Sums) -> Sums {
    _mm512_srai_epi32::<N>(sums)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn limit(sums: Sums, low: Sums, high: Sums) -> Sums {
    _mm512_max_epi32(_mm512_min_epi32(sums, high), low)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn narrow(sums: Sums) -> [i16; ROWS] {
    must_cast(_mm512_cvtepi32_epi16(sums))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(even: Sums, odd: Sums) -> [[i16; 2]; ROWS] {
    must_cast(_mm512_or_si512(_mm512_and_si512(even, sums(0xFFFF)), _mm512_slli_epi32::<16>(odd)))
}
