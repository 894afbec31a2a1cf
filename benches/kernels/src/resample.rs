//! Resampling against the faster of speexdsp at quality 3 and soxr's LQ.

use std::hint::black_box;

use crate::pair::Side;
use crate::peers::{Resampler, ResamplerKind};
use crate::quality::resampling::Candidate;
use crate::{SECONDS, signal};

/// Name, rates and goal of every comparison.
pub const RATES: [(&str, u32, u32); 6] = [
    ("resample_8k_16k", 8_000, 16_000),
    ("resample_16k_8k", 16_000, 8_000),
    ("resample_8k_24k", 8_000, 24_000),
    ("resample_24k_8k", 24_000, 8_000),
    ("resample_16k_48k", 16_000, 48_000),
    ("resample_48k_16k", 48_000, 16_000),
];
pub const GOAL: f64 = 3.0;

/// The peers that the goal names; a call handles all [`crate::FRAMES`] frames.
pub fn theirs(from: u32, to: u32) -> Vec<Side> {
    [ResamplerKind::Speex(3), ResamplerKind::SoxrLow]
        .map(|kind| {
            let mut resampler = Resampler::new(kind, from, to);
            let pcm = signal::speech(from, SECONDS);
            // Room for what soxr holds back and gives at once.
            let mut out = vec![0; to as usize / 50 * 4];
            Side::new(kind.name(), move || {
                for frame in pcm.chunks_exact(from as usize / 50) {
                    black_box(resampler.process(black_box(frame), black_box(&mut out)));
                }
            })
        })
        .into()
}

/// Ours, for the quality report.
pub fn ours() -> Option<Candidate> {
    None
}
