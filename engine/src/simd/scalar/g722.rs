//! G.722, call by call.

use crate::simd::g722::tables::QMF;

/// The family in this table.
pub(in crate::simd) const KERNELS: crate::simd::G722 = crate::simd::G722 { split, join };

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
