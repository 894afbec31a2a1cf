//! Resamplers by tones and by noise of the speech band.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use super::plot::{Axis, Chart, Line};
use super::spectrum::{Sine, decibels, fit, power, quantise, wrapped};
use crate::peers::{Resampler, ResamplerKind};
use crate::signal::Noise;

/// A resampler in the making: rates to a function from a frame to as many samples as come out.
pub struct Candidate {
    pub name: String,
    pub make: fn(&str, u32, u32) -> Stream,
}

pub type Stream = Box<dyn FnMut(&[i16], &mut Vec<i16>)>;

pub const PEERS: [ResamplerKind; 5] = [
    ResamplerKind::Speex(3),
    ResamplerKind::Speex(5),
    ResamplerKind::SoxrLow,
    ResamplerKind::SoxrMedium,
    ResamplerKind::SampleRateFastest,
];

fn candidates() -> Vec<Candidate> {
    let theirs = PEERS.map(|kind| Candidate { name: kind.name(), make: peer });
    crate::resample::ours().into_iter().chain(theirs).collect()
}

pub fn peer(name: &str, from: u32, to: u32) -> Stream {
    let kind = PEERS.into_iter().find(|kind| kind.name() == name).expect("one of the peers");
    let mut resampler = Resampler::new(kind, from, to);
    let mut room = vec![0; to as usize / 50 * 8];
    Box::new(move |frame, out| {
        let made = resampler.process(frame, &mut room);
        out.extend_from_slice(&room[..made]);
    })
}

pub const RATES: [(u32, u32); 6] =
    [(8_000, 16_000), (16_000, 8_000), (8_000, 24_000), (24_000, 8_000), (16_000, 48_000), (48_000, 16_000)];

/// What was found out about one resampler between two rates.
struct Quality {
    name: String,
    /// Hertz and decibels of gain.
    response: Vec<(f64, f64)>,
    /// Hertz of the tone and decibels of what it leaves where nothing should be.
    leaks: Vec<(f64, f64)>,
    /// Hertz of the tone and decibels over everything else.
    snr: Vec<(f64, f64)>,
    noise_snr: f64,
    filter_delay: f64,
    /// The longest time that output is missing behind its input.
    held_back: f64,
}

/// The upper edge of what must pass: 3.4 of 4 kHz, and alike at higher rates.
fn edge(from: u32, to: u32) -> f64 {
    f64::from(from.min(to)) * 0.5 * 0.85
}

impl Quality {
    fn measure(candidate: &Candidate, from: u32, to: u32) -> Self {
        let make = || (candidate.make)(&candidate.name, from, to);
        let (mut response, mut leaks, mut snr) = (Vec::new(), Vec::new(), Vec::new());
        let nyquist = f64::from(from.min(to)) / 2.0;
        let top = f64::from(from) / 2.0;
        let step = if top > 12_000.0 { 166.0 } else { 83.0 };
        let mut hertz = 101.7;
        while hertz < top - 20.0 {
            let tone = Sine { hertz, amplitude: 20_000.0, phase: 0.3 };
            let out = steady(&mut make(), from, to, |time| tone.at(time));
            let rate = f64::from(to);
            let found = fit(&out, rate, 0.0, hertz);
            let rest: Vec<f64> =
                out.iter().enumerate().map(|(n, &sample)| sample - found.at(n as f64 / rate)).collect();
            let input = tone.amplitude * tone.amplitude / 2.0;
            if hertz < nyquist {
                response.push((hertz, decibels((found.amplitude / tone.amplitude).powi(2))));
                snr.push((hertz, decibels(found.amplitude.powi(2) / 2.0 / power(&rest))));
                if to > from {
                    leaks.push((hertz, decibels(power(&rest) / input)));
                }
            } else {
                leaks.push((hertz, decibels(power(&out) / input)));
            }
            hertz += step;
        }
        let (noise_snr, filter_delay) = noise(&mut make(), from, to);
        let held_back = held_back(&mut make(), from, to);
        Self { name: candidate.name.clone(), response, leaks, snr, noise_snr, filter_delay, held_back }
    }

    /// Half of the difference between the loudest and the softest that must pass.
    fn ripple(&self, edge: f64) -> f64 {
        let inside: Vec<f64> =
            self.response.iter().filter(|(hertz, _)| *hertz <= edge).map(|(_, gain)| *gain).collect();
        let (low, high) =
            inside.iter().fold((f64::MAX, f64::MIN), |(low, high), &gain| (low.min(gain), high.max(gain)));
        (high - low) / 2.0
    }

    fn minus_three(&self) -> f64 {
        let first = self.response.iter().find(|(_, gain)| *gain < -3.0);
        first.or(self.response.last()).map_or(0.0, |(hertz, _)| *hertz)
    }

    /// The loudest image or alias: up, of any tone that must pass; down, of any that falls on what must pass.
    fn worst_leak(&self, from: u32, to: u32) -> f64 {
        let edge = edge(from, to);
        let counts = |hertz: f64| if to > from { hertz <= edge } else { hertz >= f64::from(to) - edge };
        self.leaks
            .iter()
            .filter(|(hertz, _)| counts(*hertz))
            .map(|(_, level)| *level)
            .fold(f64::MIN, f64::max)
    }

    fn worst_snr(&self, edge: f64) -> f64 {
        self.snr.iter().filter(|(hertz, _)| *hertz <= edge).map(|(_, snr)| *snr).fold(f64::MAX, f64::min)
    }
}

/// Feeds frames of 20 ms and gives what came out between 100 and 340 ms.
fn steady(stream: &mut Stream, from: u32, to: u32, input: impl Fn(f64) -> f64) -> Vec<f64> {
    let out = through(stream, from, 20, input);
    let to = to as usize;
    out[to / 10..out.len().min(to * 34 / 100)].iter().map(|&sample| f64::from(sample)).collect()
}

fn through(stream: &mut Stream, from: u32, frames: usize, input: impl Fn(f64) -> f64) -> Vec<i16> {
    let frame = from as usize / 50;
    let mut out = Vec::new();
    for at in 0..frames {
        let pcm: Vec<i16> =
            (0..frame).map(|n| quantise(input((at * frame + n) as f64 / f64::from(from)))).collect();
        stream(&pcm, &mut out);
    }
    out
}

/// Noise of many sines from 300 Hz to the edge: signal to everything that one delay and one gain do not explain,
/// and that delay in milliseconds.
pub fn noise(stream: &mut Stream, from: u32, to: u32) -> (f64, f64) {
    let mut random = Noise::new(7);
    let count = ((edge(from, to) - 303.0) / 77.0) as u32 + 1;
    let sines: Vec<Sine> = (0..count)
        .map(|n| Sine {
            hertz: 303.0 + f64::from(n) * 77.0 + random.uniform() * 5.0,
            amplitude: 8000.0 / f64::from(count).sqrt(),
            phase: random.uniform() * TAU / 2.0,
        })
        .collect();
    let input = |time: f64| sines.iter().map(|sine| sine.at(time)).sum::<f64>();
    let out = through(stream, from, 60, input);
    let rate = f64::from(to);
    let skipped = to as usize / 10;
    let out: Vec<f64> =
        out[skipped..out.len().min(to as usize)].iter().map(|&sample| f64::from(sample)).collect();
    let start = skipped as f64 / rate;
    let lags: Vec<f64> =
        sines.iter().map(|sine| wrapped(sine.phase - fit(&out, rate, start, sine.hertz).phase)).collect();
    // Neighbours give the delay without ambiguity, the lags themselves then exactly.
    let slopes: f64 = sines
        .windows(2)
        .zip(lags.windows(2))
        .map(|(pair, lag)| wrapped(lag[1] - lag[0]) / (TAU * (pair[1].hertz - pair[0].hertz)))
        .sum();
    let coarse = slopes / (sines.len() - 1) as f64;
    let exact: f64 = sines
        .iter()
        .zip(&lags)
        .map(|(sine, lag)| coarse + wrapped(lag - TAU * sine.hertz * coarse) / (TAU * sine.hertz))
        .sum();
    let delay = exact / sines.len() as f64;
    let expected: Vec<f64> = (0..out.len()).map(|n| input(start + n as f64 / rate - delay)).collect();
    let gain = out.iter().zip(&expected).map(|(out, expected)| out * expected).sum::<f64>()
        / expected.iter().map(|expected| expected * expected).sum::<f64>();
    let error: Vec<f64> = out.iter().zip(&expected).map(|(out, expected)| out - gain * expected).collect();
    (decibels(power(&out) / power(&error)), delay * 1000.0)
}

/// Milliseconds of output that are missing after the frame that is worst off.
pub fn held_back(stream: &mut Stream, from: u32, to: u32) -> f64 {
    let frame = vec![0; from as usize / 50];
    let mut out = Vec::new();
    let missing = (1..=500).map(|frames| {
        stream(&frame, &mut out);
        (frames * (to as usize / 50)).saturating_sub(out.len())
    });
    missing.max().unwrap_or(0) as f64 * 1000.0 / f64::from(to)
}

/// The tables, and the plots by file name.
pub fn report(plots: &mut Vec<(String, String)>) -> String {
    let candidates = candidates();
    let mut text = String::from(
        "| rates | resampler | ripple to edge, dB | -3 dB, Hz | worst image or alias, dB | worst tone SNR, dB \
         | noise SNR, dB | filter delay, ms | held back up to, ms |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (from, to) in RATES {
        let all: Vec<Quality> =
            candidates.iter().map(|candidate| Quality::measure(candidate, from, to)).collect();
        let edge = edge(from, to);
        for quality in &all {
            let _ = writeln!(
                text,
                "| {} to {} | {} | {:.3} | {:.0} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} |",
                from / 1000,
                to / 1000,
                quality.name,
                quality.ripple(edge),
                quality.minus_three(),
                quality.worst_leak(from, to),
                quality.worst_snr(edge),
                quality.noise_snr,
                quality.filter_delay,
                quality.held_back,
            );
        }
        draw(&all, from, to, plots);
    }
    text
}

fn draw(all: &[Quality], from: u32, to: u32, plots: &mut Vec<(String, String)>) {
    let names = (from / 1000, to / 1000);
    let nyquist = f64::from(from.min(to)) / 2.0;
    let lines = |points: fn(&Quality) -> &Vec<(f64, f64)>| {
        all.iter()
            .map(|quality| Line { label: quality.name.clone(), points: points(quality).clone() })
            .collect()
    };
    let mut plot = |kind: &str, chart: &Chart<'_>| {
        plots.push((format!("resample-{}k-{}k-{kind}.svg", names.0, names.1), chart.svg()));
    };
    // One of each kind is enough to see the filters; the table has the rest.
    if (from, to) == (8_000, 16_000) {
        let chart = Chart {
            title: "8 to 16 kHz: gain",
            x: Axis { label: "tone, Hz", from: 0.0, to: nyquist, step: 500.0 },
            y: Axis { label: "dB", from: -12.0, to: 1.0, step: 1.0 },
            lines: lines(|quality| &quality.response),
        };
        plot("gain", &chart);
    }
    if (from, to) == (8_000, 16_000) || (from, to) == (16_000, 48_000) {
        let title = format!("{} to {} kHz: tone over everything else", names.0, names.1);
        let chart = Chart {
            title: &title,
            x: Axis { label: "tone, Hz", from: 0.0, to: nyquist, step: nyquist / 8.0 },
            y: Axis { label: "SNR, dB", from: 0.0, to: 100.0, step: 10.0 },
            lines: lines(|quality| &quality.snr),
        };
        plot("snr", &chart);
    }
    if to < from && to != from / 2 || (from, to) == (16_000, 8_000) {
        let title = format!("{} to {} kHz: what is left of a tone that must not pass", names.0, names.1);
        let top = f64::from(from) / 2.0;
        let chart = Chart {
            title: &title,
            x: Axis { label: "tone, Hz", from: nyquist, to: top, step: (top - nyquist) / 8.0 },
            y: Axis { label: "dB", from: -110.0, to: -50.0, step: 10.0 },
            lines: lines(|quality| &quality.leaks),
        };
        plot("alias", &chart);
    }
}
