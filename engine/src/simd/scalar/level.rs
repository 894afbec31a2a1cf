//! Loudness, sample by sample.

use crate::simd::{Gain, Levels, Loudness};

/// The family in this table.
pub(in crate::simd) const KERNELS: Levels = Levels { measure, amplify };

pub(in crate::simd) fn measure(pcm: &[i16]) -> Loudness {
    pcm.iter().fold(Loudness::default(), |level, &sample| level + Loudness::of(sample))
}

pub(in crate::simd) fn amplify(pcm: &mut [i16], gain: Gain) -> Loudness {
    let mut level = Loudness::default();
    for sample in pcm {
        *sample = gain.apply(*sample);
        level = level + Loudness::of(*sample);
    }
    level
}
