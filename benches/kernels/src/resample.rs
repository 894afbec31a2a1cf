//! Resampling against the faster of speexdsp at quality 3 and soxr's LQ.

use std::hint::black_box;

use engine::dsp::rate::SampleRate;
use engine::dsp::resample::{self, Quality};

use crate::pair::{Pair, Side};
use crate::peers::{Resampler, ResamplerKind};
use crate::quality::resampling::Candidate;
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

pub fn pairs() -> Vec<Pair> {
    RATES
        .map(|(name, from, to)| Pair {
            name,
            goal: GOAL,
            frames: FRAMES,
            check: Box::new(move || check(from, to)),
            ours: side(from, to),
            theirs: theirs(from, to),
            tables: Vec::new(),
        })
        .into()
}

fn resampler(from: u32, to: u32, quality: Quality) -> resample::Resampler {
    let [from, to] = [from, to].map(|hz| SampleRate::from_hz(hz).expect("a rate of speech"));
    resample::Resampler::new(from, to, quality)
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

/// Ours against speexdsp, whose delay up to a higher or down to a lower rate is the same 24 samples of the lower one.
fn check(from: u32, to: u32) -> Result<String, String> {
    let pcm = signal::speech(from, 1.0);
    let mut ours = vec![0; to as usize];
    let mut theirs = vec![0; to as usize];
    let mut peer = Resampler::new(ResamplerKind::Speex(3), from, to);
    let mut resampler = resampler(from, to, Quality::Speech);
    let (frame, made) = (from as usize / 50, to as usize / 50);
    for (input, (ours, theirs)) in
        pcm.chunks_exact(frame).zip(ours.chunks_exact_mut(made).zip(theirs.chunks_exact_mut(made)))
    {
        let written = (resampler.process(input, ours), peer.process(input, theirs));
        if written != (made, made) {
            return Err(format!("{written:?} samples of {made}"));
        }
    }
    let power = |samples: &mut dyn Iterator<Item = f64>| samples.map(|sample| sample * sample).sum::<f64>();
    let signal = power(&mut ours.iter().map(|&sample| f64::from(sample)));
    let error = power(&mut ours.iter().zip(&theirs).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let snr = 10.0 * (signal / error.max(1.0)).log10();
    if snr > 30.0 {
        Ok(format!("{snr:.0} dB to speexdsp's output"))
    } else {
        Err(format!("only {snr:.1} dB to speexdsp's"))
    }
}

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
    let make = |_: &str, from, to| -> crate::quality::resampling::Stream {
        let mut resampler = resampler(from, to, Quality::Speech);
        let mut room = vec![0; to as usize / 50 * 8];
        Box::new(move |frame, out| {
            let made = resampler.process(frame, &mut room);
            out.extend_from_slice(&room[..made]);
        })
    };
    Some(Candidate { name: "sidetone".into(), make })
}
