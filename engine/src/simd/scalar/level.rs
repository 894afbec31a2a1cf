//! Loudness, sample by sample.

use crate::simd::{Gain, Level, Levels};

/// The family in this table.
pub(in crate::simd) const KERNELS: Levels = Levels { measure, amplify };

pub(in crate::simd) fn measure(pcm: &[i16]) -> Level {
    pcm.iter().fold(Level::default(), |level, &sample| level + Level::of(sample))
}

pub(in crate::simd) fn amplify(pcm: &mut [i16], gain: Gain) -> Level {
    let mut level = Level::default();
    for sample in pcm {
        *sample = gain.apply(*sample);
        level = level + Level::of(*sample);
    }
    level
}
