//! Concealment of lost frames: how far from what was said, in the gaps and at their seams.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use super::plot::{Axis, Chart, Line};
use super::spectrum::{decibels, magnitudes, power};
use super::voices;
use crate::peers::Plc;
use crate::signal::Noise;
use crate::{FRAME, conceal};

/// A concealment of one call at 8 kHz. Both give the next frame to play, in place.
pub trait Concealer {
    /// The frame arrived.
    fn receive(&mut self, frame: &mut [i16]);
    /// It did not; what the frame holds means nothing.
    fn conceal(&mut self, frame: &mut [i16]);
}

pub struct Candidate {
    pub name: &'static str,
    pub make: fn() -> Box<dyn Concealer>,
    /// Samples by which what it plays is late.
    pub delay: usize,
}

impl Concealer for Plc {
    fn receive(&mut self, frame: &mut [i16]) {
        Self::receive(self, frame);
    }

    fn conceal(&mut self, frame: &mut [i16]) {
        Self::conceal(self, frame);
    }
}

/// What is done without concealment.
struct Silence;

impl Concealer for Silence {
    fn receive(&mut self, _: &mut [i16]) {}

    fn conceal(&mut self, frame: &mut [i16]) {
        frame.fill(0);
    }
}

/// What is done at the least: the last frame again.
struct Repetition([i16; FRAME]);

impl Concealer for Repetition {
    fn receive(&mut self, frame: &mut [i16]) {
        self.0.copy_from_slice(frame);
    }

    fn conceal(&mut self, frame: &mut [i16]) {
        frame.copy_from_slice(&self.0);
    }
}

fn candidates() -> Vec<Candidate> {
    let mut all = conceal::ours();
    all.push(Candidate { name: "spandsp", make: || Box::new(Plc::default()), delay: 0 });
    all.push(Candidate { name: "last frame again", make: || Box::new(Repetition([0; FRAME])), delay: 0 });
    all.push(Candidate { name: "silence", make: || Box::new(Silence), delay: 0 });
    all
}

/// What is lost: frames one by one, or several in a row.
#[derive(Clone, Copy)]
struct Loss {
    percent: f64,
    burst: usize,
}

const LOSSES: [Loss; 6] = [
    Loss { percent: 1.0, burst: 1 },
    Loss { percent: 3.0, burst: 1 },
    Loss { percent: 5.0, burst: 1 },
    Loss { percent: 10.0, burst: 1 },
    Loss { percent: 5.0, burst: 2 },
    Loss { percent: 5.0, burst: 3 },
];

impl Loss {
    fn pattern(self, frames: usize, seed: u64) -> Vec<bool> {
        let mut random = Noise::new(seed + 1000);
        let mut lost = vec![false; frames];
        // A tenth of a second to begin with, as every call has.
        let mut at = 5;
        while at < frames {
            if (random.uniform() + 1.0) / 2.0 < self.percent / 100.0 / self.burst as f64 {
                let end = (at + self.burst).min(frames);
                lost[at..end].fill(true);
                at = end;
            }
            at += 1;
        }
        lost
    }
}

/// Means over the frames that count.
#[derive(Clone, Copy)]
struct Score {
    snr: f64,
    distance: f64,
}

/// Of every gap: the waveform in it, and spectra of 20 ms every 10 ms from before it until behind it, so that
/// both seams count.
fn score(candidate: &Candidate, pcm: &[i16], loss: Loss, seeds: std::ops::Range<u64>) -> Score {
    let (mut snr, mut distances) = (Vec::new(), Vec::new());
    let said: Vec<f64> = pcm.iter().map(|&sample| f64::from(sample)).collect();
    for seed in seeds {
        let lost = loss.pattern(pcm.len() / FRAME, seed);
        let played: Vec<f64> = play(candidate, pcm, &lost).into_iter().map(f64::from).collect();
        let block = |at: usize| {
            let heard = played.get(at + candidate.delay..at + candidate.delay + FRAME)?;
            let said = &said[at..at + FRAME];
            (power(said) > 200.0 * 200.0).then_some((said, heard))
        };
        for at in (1..lost.len() - 2).filter(|&at| lost[at]) {
            if let Some((said, heard)) = block(at * FRAME) {
                let error: Vec<f64> = said.iter().zip(heard).map(|(said, heard)| said - heard).collect();
                snr.push(decibels(power(said) / power(&error).max(1.0)).clamp(-10.0, 35.0));
            }
            let first = if lost[at - 1] { 0 } else { -1 };
            let last = if lost[at + 1] { 1 } else { 2 };
            for half in first..=last {
                let start = (at * FRAME).saturating_add_signed(half * FRAME as isize / 2);
                distances.extend(block(start).map(|(said, heard)| distance(said, heard)));
            }
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    Score { snr: mean(&snr), distance: mean(&distances) }
}

fn play(candidate: &Candidate, pcm: &[i16], lost: &[bool]) -> Vec<i16> {
    let mut concealer = (candidate.make)();
    let mut played = pcm.to_vec();
    for (frame, &lost) in played.chunks_exact_mut(FRAME).zip(lost) {
        if lost {
            frame.fill(0);
            concealer.conceal(frame);
        } else {
            concealer.receive(frame);
        }
    }
    played
}

/// Log-spectral distance in dB up to 3.4 kHz; nothing below 50 dB under the peak of what was said counts.
fn distance(said: &[f64], heard: &[f64]) -> f64 {
    let windowed = |block: &[f64]| -> Vec<f64> {
        let n = block.len() as f64;
        let hann = |at: usize| 0.5 - 0.5 * (TAU * (at as f64 + 0.5) / n).cos();
        block.iter().enumerate().map(|(at, sample)| sample * hann(at)).collect()
    };
    let (said, heard) = (magnitudes(&windowed(said)), magnitudes(&windowed(heard)));
    let floor =
        said.iter().fold(1.0, |peak, &magnitude| f64::max(peak, magnitude)) * 10f64.powf(-50.0 / 20.0);
    let bins = 2..=68;
    let squares =
        bins.clone().map(|bin| (20.0 * (said[bin].max(floor) / heard[bin].max(floor)).log10()).powi(2));
    (squares.sum::<f64>() / bins.count() as f64).sqrt()
}

pub fn report(plots: &mut Vec<(String, String)>) -> String {
    let candidates = candidates();
    let made_up: Vec<i16> = (0..6).flat_map(|seed| voices::speaker(seed + 500, 15.0)).collect();
    let materials = [("synthesized", voices::synthesized(), 0..8), ("made up", made_up, 0..3)];
    let mut text = String::from("| voices | loss |");
    for candidate in &candidates {
        let _ = write!(text, " {}: SNR, dB | LSD, dB |", candidate.name);
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|---|".repeat(candidates.len()));
    let mut lines: Vec<Line> = candidates
        .iter()
        .map(|candidate| Line { label: candidate.name.to_owned(), points: Vec::new() })
        .collect();
    for (name, pcm, seeds) in &materials {
        for loss in LOSSES {
            let burst = if loss.burst == 1 { String::new() } else { format!(" in rows of {}", loss.burst) };
            let _ = write!(text, "| {name} | {} %{burst} |", loss.percent);
            for (candidate, line) in candidates.iter().zip(&mut lines) {
                let score = score(candidate, pcm, loss, seeds.clone());
                let _ = write!(text, " {:.2} | {:.2} |", score.snr, score.distance);
                if *name == "synthesized" && loss.percent == 5.0 {
                    line.points.push((loss.burst as f64 * 20.0, score.distance));
                }
            }
            text.push('\n');
        }
    }
    let chart = Chart {
        title: "Synthesized voices, 5 % lost: distance by the length of a gap",
        x: Axis { label: "gap, ms", from: 0.0, to: 80.0, step: 20.0 },
        y: Axis { label: "log-spectral distance, dB", from: 0.0, to: 20.0, step: 5.0 },
        lines,
    };
    plots.push(("conceal-distance.svg".to_owned(), chart.svg()));
    plots.push(("conceal-gap.svg".to_owned(), gap(&candidates)));
    text
}

/// What one gap in a vowel looks like.
fn gap(candidates: &[Candidate]) -> String {
    let pcm = voices::synthesized();
    // The loudest stretch of five frames.
    let frames: Vec<f64> = pcm
        .chunks_exact(FRAME)
        .map(|frame| power(&frame.iter().map(|&sample| f64::from(sample)).collect::<Vec<_>>()))
        .collect();
    let loudness = |at: &usize| frames[*at - 2..*at + 3].iter().fold(f64::MAX, |low, &power| low.min(power));
    let lost = (10..frames.len() - 5).max_by(|a, b| loudness(a).total_cmp(&loudness(b))).unwrap_or(10);
    let pattern: Vec<bool> = (0..frames.len()).map(|at| at == lost).collect();
    let start = (lost - 1) * FRAME;
    let line = |label: &str, played: &[i16], delay: usize| Line {
        label: label.to_owned(),
        points: played[start + delay..start + delay + 3 * FRAME]
            .iter()
            .enumerate()
            .map(|(n, &sample)| (n as f64 / 8.0 - 20.0, f64::from(sample)))
            .collect(),
    };
    let mut lines: Vec<Line> = candidates
        .iter()
        .filter(|candidate| !["silence", "last frame again"].contains(&candidate.name))
        .map(|candidate| line(candidate.name, &play(candidate, &pcm, &pattern), candidate.delay))
        .collect();
    lines.push(line("what was said", &pcm, 0));
    let peak = pcm[start..start + 3 * FRAME].iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(1);
    let top = (f64::from(peak) / 5000.0).ceil() * 5000.0;
    Chart {
        title: "A frame lost in a vowel, from 0 to 20 ms",
        x: Axis { label: "ms", from: -5.0, to: 35.0, step: 5.0 },
        y: Axis { label: "sample", from: -top, to: top, step: 5000.0 },
        lines,
    }
    .svg()
}
