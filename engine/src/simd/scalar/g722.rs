//! G.722, call by call.

use crate::simd::g722::tables::QMF;

use crate::simd::G722;

/// The family in this table.
pub(in crate::simd) const KERNELS: G722 = G722 { split, join, encode, decode };

#[inline(always)]
pub(in crate::simd) fn split(audio: &[i16], lower: &mut [i16], higher: &mut [i16]) {
    for ((window, lower), higher) in audio.windows(24).step_by(2).zip(lower).zip(higher) {
        let (even, odd) = halves(window);
        *lower = ((odd + even) >> 14).clamp(-16_384, 16_383) as i16;
        *higher = ((odd - even) >> 14).clamp(-16_384, 16_383) as i16;
    }
}

#[inline(always)]
pub(in crate::simd) fn join(bands: &[i16], audio: &mut [i16]) {
    for (window, samples) in bands.windows(24).step_by(2).zip(audio.as_chunks_mut::<2>().0) {
        let (even, odd) = halves(window);
        *samples = [saturate(odd >> 11), saturate(even >> 11)];
    }
}

/// The sums of products at the even and at the odd places. The response is symmetric, so that it may run in the
/// order of the samples.
#[inline(always)]
fn halves(window: &[i16]) -> (i32, i32) {
    let mut even = 0;
    let mut odd = 0;
    for (values, taps) in window.as_chunks::<2>().0.iter().zip(QMF.as_chunks::<2>().0) {
        even += i32::from(values[0]) * i32::from(taps[0]);
        odd += i32::from(values[1]) * i32::from(taps[1]);
    }
    (even, odd)
}

#[inline(always)]
fn saturate(value: i32) -> i16 {
    value.clamp(-32_768, 32_767) as i16
}

/// What the lanes are made of when there are no vectors to name.
const WIDTH: usize = 8;
type V = [i16; WIDTH];
type M = [bool; WIDTH];

macro_rules! scalar {
    ($(fn $name:ident ($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(pub(in crate::simd) fn $name ($($argument: $type),*) $body)*
    };
}

crate::simd::g722::lanes!(scalar);

#[inline(always)]
fn map(a: V, f: impl Fn(i16) -> i16) -> V {
    a.map(f)
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(i16, i16) -> i16) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn splat(value: i16) -> V {
    [value; WIDTH]
}

#[inline(always)]
fn load(lane: &Lane, at: usize) -> V {
    std::array::from_fn(|i| lane.0[at + i])
}

#[inline(always)]
fn store(lane: &mut Lane, at: usize, a: V) {
    lane.0[at..at + WIDTH].copy_from_slice(&a);
}

#[inline(always)]
fn add(a: V, b: V) -> V {
    zip(a, b, i16::wrapping_add)
}

#[inline(always)]
fn sub(a: V, b: V) -> V {
    zip(a, b, i16::wrapping_sub)
}

#[inline(always)]
fn adds(a: V, b: V) -> V {
    zip(a, b, i16::saturating_add)
}

#[inline(always)]
fn subs(a: V, b: V) -> V {
    zip(a, b, i16::saturating_sub)
}

#[inline(always)]
fn min(a: V, b: V) -> V {
    zip(a, b, i16::min)
}

#[inline(always)]
fn max(a: V, b: V) -> V {
    zip(a, b, i16::max)
}

#[inline(always)]
fn and(a: V, b: V) -> V {
    zip(a, b, |a, b| a & b)
}

#[inline(always)]
fn xor(a: V, b: V) -> V {
    zip(a, b, |a, b| a ^ b)
}

#[inline(always)]
fn shift_left<const N: u32>(a: V) -> V {
    map(a, |a| a << N)
}

#[inline(always)]
fn shift_right<const N: u32>(a: V) -> V {
    map(a, |a| a >> N)
}

#[inline(always)]
fn shift_right_by(a: V, counts: V) -> V {
    zip(a, counts, |a, count| a >> (count & 15))
}

#[inline(always)]
fn above(a: V, b: V) -> M {
    std::array::from_fn(|i| a[i] > b[i])
}

#[inline(always)]
fn negative(a: V) -> M {
    a.map(|a| a < 0)
}

#[inline(always)]
fn select(mask: M, yes: V, no: V) -> V {
    std::array::from_fn(|i| if mask[i] { yes[i] } else { no[i] })
}

#[inline(always)]
fn multiply(a: V, b: V) -> V {
    zip(a, b, |a, b| ((i32::from(a) * i32::from(b)) >> 15) as i16)
}

#[inline(always)]
fn decay_7(a: V) -> V {
    multiply(a, splat(32_512))
}

#[inline(always)]
fn decay_8(a: V) -> V {
    multiply(a, splat(32_640))
}

#[inline(always)]
fn add_signed(a: V, b: V, sign: V) -> V {
    select(negative(sign), sub(a, b), add(a, b))
}

#[inline(always)]
fn lookup(table: &[i16; 32], indices: V) -> V {
    map(indices, |index| table[usize::from(index as u16 & 31)])
}
