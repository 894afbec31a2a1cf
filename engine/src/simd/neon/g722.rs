//! G.722.

use std::arch::aarch64::*;

use bytemuck::must_cast;

use crate::simd::door::neon;
use crate::simd::{G722, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: G722 = G722 { split, join, encode, decode };

neon! {
    fn split(audio: &[i16], lower: &mut [i16], higher: &mut [i16]) {
        scalar::g722::split(audio, lower, higher);
    }

    fn join(bands: &[i16], audio: &mut [i16]) {
        scalar::g722::join(bands, audio);
    }
}

/// 8 words.
type V = int16x8_t;
/// All bits of a word, or none.
type M = uint16x8_t;
const WIDTH: usize = 8;

crate::simd::g722::lanes!(neon);

#[inline]
#[target_feature(enable = "neon")]
fn splat(value: i16) -> V {
    vdupq_n_s16(value)
}

#[inline]
#[target_feature(enable = "neon")]
fn load(lane: &Lane, at: usize) -> V {
    must_cast(lane.0.as_chunks::<WIDTH>().0[at / WIDTH])
}

#[inline]
#[target_feature(enable = "neon")]
fn store(lane: &mut Lane, at: usize, a: V) {
    lane.0.as_chunks_mut::<WIDTH>().0[at / WIDTH] = must_cast(a);
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: V, b: V) -> V {
    vaddq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn sub(a: V, b: V) -> V {
    vsubq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn adds(a: V, b: V) -> V {
    vqaddq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn subs(a: V, b: V) -> V {
    vqsubq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn min(a: V, b: V) -> V {
    vminq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn max(a: V, b: V) -> V {
    vmaxq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn and(a: V, b: V) -> V {
    vandq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn xor(a: V, b: V) -> V {
    veorq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn shift_left<const N: i32>(a: V) -> V {
    vshlq_n_s16::<N>(a)
}

#[inline]
#[target_feature(enable = "neon")]
fn shift_right<const N: i32>(a: V) -> V {
    vshrq_n_s16::<N>(a)
}

#[inline]
#[target_feature(enable = "neon")]
fn shift_right_by(a: V, counts: V) -> V {
    vshlq_s16(a, vnegq_s16(counts))
}

#[inline]
#[target_feature(enable = "neon")]
fn above(a: V, b: V) -> M {
    vcgtq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn negative(a: V) -> M {
    vcltzq_s16(a)
}

#[inline]
#[target_feature(enable = "neon")]
fn select(mask: M, yes: V, no: V) -> V {
    vbslq_s16(mask, yes, no)
}

#[inline]
#[target_feature(enable = "neon")]
fn multiply(a: V, b: V) -> V {
    // Doubles the product before it takes the upper half; no two factors here are both -32768.
    vqdmulhq_s16(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn decay_7(a: V) -> V {
    vqdmulhq_n_s16(a, 32_512)
}

#[inline]
#[target_feature(enable = "neon")]
fn decay_8(a: V) -> V {
    vqdmulhq_n_s16(a, 32_640)
}

#[inline]
#[target_feature(enable = "neon")]
fn add_signed(a: V, b: V, sign: V) -> V {
    select(negative(sign), sub(a, b), add(a, b))
}

#[inline]
#[target_feature(enable = "neon")]
fn lookup(table: &[i16; 32], indices: V) -> V {
    let [a, b, c, d]: [uint8x16_t; 4] = must_cast(*table);
    // The bytes of each word, of 64.
    let bytes = vmlaq_s16(splat(0x0100), indices, splat(0x0202));
    vreinterpretq_s16_u8(vqtbl4q_u8(uint8x16x4_t(a, b, c, d), vreinterpretq_u8_s16(bytes)))
}
