//! Resampling against the faster of speexdsp at quality 3 and soxr's LQ.

use std::hint::black_box;

use engine::dsp::resample::{Quality, SampleRate};

use crate::pair::{Pair, Side};
use crate::peers::{Resampler, ResamplerKind};
use crate::quality::resampling::{self, Candidate, Stream};
use crate::{FRAMES, SECONDS, signal};

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

pub fn pairs() -> Vec<Pair> {
    RATES
        .into_iter()
        .map(|(name, from, to)| Pair {
            name,
            goal: GOAL,
            frames: FRAMES,
            check: Box::new(move || check(from, to)),
            ours: side(from, to),
            theirs: theirs(from, to),
            uses_kernels: true,
        })
        .collect()
}

fn resampler(from: u32, to: u32, quality: Quality) -> engine::dsp::resample::Resampler {
    let rate = |hertz| SampleRate::from_hz(hertz).expect("a rate of speech");
    engine::dsp::resample::Resampler::new(rate(from), rate(to), quality)
}

fn side(from: u32, to: u32) -> Side {
    let mut resampler = resampler(from, to, Quality::Speech);
    let pcm = signal::speech(from, SECONDS);
    let mut out = vec![0; to as usize / 50];
    Side::new("", move || {
        for frame in pcm.chunks_exact(from as usize / 50) {
            black_box(resampler.process(black_box(frame), black_box(&mut out)));
        }
    })
}

/// The quality report has more; here it must not be worse than speexdsp's in the band that must pass.
fn check(from: u32, to: u32) -> Result<String, String> {
    let [ours, ..] = ours();
    let (snr, delay) = resampling::noise(&mut (ours.make)(ours.name.as_str(), from, to), from, to);
    let held_back = resampling::held_back(&mut (ours.make)(ours.name.as_str(), from, to), from, to);
    let speex = ResamplerKind::Speex(3).name();
    let (theirs, _) = resampling::noise(&mut resampling::peer(&speex, from, to), from, to);
    let line = format!(
        "noise {snr:.1} dB (speexdsp q3 {theirs:.1}), delay {delay:.2} ms, held back {held_back:.2} ms"
    );
    // Above 60 dB it is the rounding to 16 bits of either.
    let right = snr >= theirs.min(60.0) && delay <= 3.001 && held_back == 0.0;
    if right { Ok(line) } else { Err(line) }
}

/// Ours, for the quality report.
pub fn ours() -> [Candidate; 2] {
    [
        Candidate { name: "ours, speech".to_owned(), make: |_, from, to| stream(from, to, Quality::Speech) },
        Candidate { name: "ours, high".to_owned(), make: |_, from, to| stream(from, to, Quality::High) },
    ]
}

fn stream(from: u32, to: u32, quality: Quality) -> Stream {
    let mut resampler = resampler(from, to, quality);
    Box::new(move |frame, out| {
        let start = out.len();
        out.resize(start + resampler.output_len(frame.len()), 0);
        let made = resampler.process(frame, &mut out[start..]);
        assert_eq!(start + made, out.len());
    })
}
