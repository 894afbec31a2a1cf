//! DTMF receivers by the criteria of Q.24 and the usual test tapes, and by speech that is no digit.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use engine::dsp::tone::FULL_SCALE_DBM0;

use super::plot::{Axis, Chart, Line};
use super::spectrum::quantise;
use super::voices;
use crate::dtmf::{COLUMNS, DIGITS, ROWS};
use crate::peers;
use crate::signal::Noise;

/// What a receiver hears in audio at 8 kHz, from a fresh state.
pub struct Candidate {
    pub name: &'static str,
    pub digits: fn(&[i16]) -> String,
}

const RATE: f64 = 8000.0;
/// Peak of one tone: some -13 dBm0.
const AMPLITUDE: f64 = 5000.0;

/// Ours first.
pub fn candidates() -> Vec<Candidate> {
    let mut all = crate::dtmf::ours();
    all.push(Candidate { name: "spandsp", digits: |pcm| spandsp(pcm, false) });
    all.push(Candidate { name: "spandsp, dial tone filter", digits: |pcm| spandsp(pcm, true) });
    all
}

/// Digits are fetched as they come: its buffer holds 128.
fn spandsp(pcm: &[i16], filter: bool) -> String {
    let mut receiver = peers::Dtmf::new(filter);
    pcm.chunks(160)
        .map(|frame| {
            receiver.process(frame);
            receiver.digits()
        })
        .collect()
}

/// One key press and what is around it.
#[derive(Clone, Copy)]
struct Press {
    row: usize,
    column: usize,
    seconds: f64,
    /// Silence before it, which moves it against the receiver's blocks.
    before: f64,
    /// Decibels by which the column's tone is stronger.
    twist: f64,
    /// Both frequencies are off by this part.
    offset: f64,
    level: f64,
}

impl Press {
    fn samples(self) -> Vec<f64> {
        let before = (self.before * RATE) as usize;
        let length = (self.seconds * RATE).round() as usize;
        let after = (0.1 * RATE) as usize;
        let (row, column) = (10f64.powf(-self.twist / 40.0), 10f64.powf(self.twist / 40.0));
        let tone = |n: usize| {
            let time = n as f64 / RATE * (1.0 + self.offset) * TAU;
            self.level * (row * (time * ROWS[self.row]).sin() + column * (time * COLUMNS[self.column]).sin())
        };
        let silence = |n| std::iter::repeat_n(0.0, n);
        silence(before).chain((0..length).map(tone)).chain(silence(after)).collect()
    }

    fn digit(self) -> char {
        DIGITS[self.row][self.column]
    }
}

/// All sixteen digits at eight places against the receiver's blocks.
fn presses(change: impl Fn(&mut Press)) -> Vec<Press> {
    (0..128)
        .map(|n| {
            let mut press = Press {
                row: n % 4,
                column: n / 4 % 4,
                seconds: 0.05,
                before: 0.06 + (n / 16) as f64 * 0.0017,
                twist: 0.0,
                offset: 0.0,
                level: AMPLITUDE,
            };
            change(&mut press);
            press
        })
        .collect()
}

/// The part of presses that are heard as exactly their digit, each by a fresh receiver.
fn accepted(candidate: &Candidate, presses: &[Press], line: impl Fn(usize, f64) -> f64) -> f64 {
    let heard = presses
        .iter()
        .filter(|press| {
            let pcm: Vec<i16> = press
                .samples()
                .into_iter()
                .enumerate()
                .map(|(n, sample)| quantise(line(n, sample)))
                .collect();
            (candidate.digits)(&pcm) == press.digit().to_string()
        })
        .count();
    heard as f64 / presses.len() as f64
}

fn clean(_: usize, sample: f64) -> f64 {
    sample
}

/// One line of the table for all candidates.
fn row(text: &mut String, what: &str, candidates: &[Candidate], measure: impl Fn(&Candidate) -> String) {
    let _ = write!(text, "| {what} |");
    for candidate in candidates {
        let _ = write!(text, " {} |", measure(candidate));
    }
    text.push('\n');
}

pub fn report(plots: &mut Vec<(String, String)>) -> String {
    let candidates = candidates();
    let mut text = String::from("| criterion |");
    for candidate in &candidates {
        let _ = write!(text, " {} |", candidate.name);
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(candidates.len()));

    let durations: Vec<Line> = candidates.iter().map(by_duration).collect();
    row(&mut text, "shortest tone always accepted", &candidates, |candidate| {
        let line = durations.iter().find(|line| line.label == candidate.name).expect("measured");
        let never_less = line.points.iter().rev().take_while(|(_, part)| *part >= 100.0).last();
        never_less.map_or("none".to_owned(), |(duration, _)| format!("{duration:.0} ms"))
    });
    row(&mut text, "longest tone always refused", &candidates, |candidate| {
        let line = durations.iter().find(|line| line.label == candidate.name).expect("measured");
        let refused = line.points.iter().take_while(|(_, part)| *part == 0.0).last();
        refused.map_or("none".to_owned(), |(duration, _)| format!("{duration:.0} ms"))
    });
    chart(plots, "dtmf-duration.svg", "Tones by their length", ("tone, ms", 10.0, 60.0, 5.0), durations);

    row(&mut text, "shortest pause that parts two equal digits", &candidates, |candidate| {
        let parted = |pause: u32| presses(|_| ()).iter().all(|press| is_parted(candidate, *press, pause));
        (1..=60)
            .find(|&pause| (pause..pause + 3).all(parted))
            .map_or("none".to_owned(), |pause| format!("{pause} ms"))
    });
    row(&mut text, "longest gap in a digit that does not part it", &candidates, |candidate| {
        let whole = |pause: u32| presses(|_| ()).iter().all(|press| !is_parted(candidate, *press, pause));
        (1..=60)
            .take_while(|&pause| whole(pause))
            .last()
            .map_or("none".to_owned(), |pause| format!("{pause} ms"))
    });

    let twists: Vec<Line> = candidates.iter().map(by_twist).collect();
    row(&mut text, "twist accepted: row stronger, column stronger", &candidates, |candidate| {
        let line = twists.iter().find(|line| line.label == candidate.name).expect("measured");
        range(line).map_or("none".to_owned(), |(low, high)| format!("{:.1} dB, {high:.1} dB", -low))
    });
    chart(plots, "dtmf-twist.svg", "Tones by their twist", ("column over row, dB", -14.0, 14.0, 2.0), twists);

    let offsets: Vec<Line> = candidates.iter().map(by_offset).collect();
    row(&mut text, "frequency offset always accepted", &candidates, |candidate| {
        let line = offsets.iter().find(|line| line.label == candidate.name).expect("measured");
        range(line).map_or("none".to_owned(), |(low, high)| format!("{low:+.1} % to {high:+.1} %"))
    });
    row(&mut text, "frequency offset always refused beyond", &candidates, |candidate| {
        let line = offsets.iter().find(|line| line.label == candidate.name).expect("measured");
        let taken = |(offset, part): &&(f64, f64)| *part > 0.0 && offset.abs() > 0.0;
        let low = line.points.iter().find(taken).map_or(0.0, |(offset, _)| *offset);
        let high = line.points.iter().rev().find(taken).map_or(0.0, |(offset, _)| *offset);
        format!("{low:+.1} %, {high:+.1} %")
    });
    chart(
        plots,
        "dtmf-offset.svg",
        "Tones by the error of their frequencies",
        ("offset, %", -5.0, 5.0, 1.0),
        offsets,
    );

    let noises: Vec<Line> = candidates.iter().map(by_noise).collect();
    row(&mut text, "lowest S/N without a loss (white noise to 4 kHz)", &candidates, |candidate| {
        let line = noises.iter().find(|line| line.label == candidate.name).expect("measured");
        let clean = line.points.iter().rev().take_while(|(_, part)| *part >= 100.0).last();
        clean.map_or("none".to_owned(), |(level, _)| format!("{level:.0} dB"))
    });
    chart(plots, "dtmf-noise.svg", "Tones in white noise", ("S/N, dB", 0.0, 26.0, 2.0), noises);

    row(
        &mut text,
        "strongest dial tone (350 + 440 Hz) without a loss, against the digit",
        &candidates,
        |candidate| {
            let strongest = (-20..=12).take_while(|&level| dial_tone(candidate, level) >= 1.0).last();
            strongest.map_or("none".to_owned(), |level| format!("{level:+} dB"))
        },
    );
    row(&mut text, "softest digit accepted, one tone", &candidates, |candidate| {
        let softest = (-60..=-10).rev().take_while(|&level| {
            let peak = 32_767.0 * 10f64.powf((f64::from(level) - FULL_SCALE_DBM0) / 20.0);
            accepted(candidate, &presses(|press| press.level = peak), clean) >= 1.0
        });
        softest.last().map_or("none".to_owned(), |level| format!("{level} dBm0"))
    });
    for (name, law) in [("mu-law", through_ulaw as fn(f64) -> f64), ("A-law", through_alaw)] {
        row(&mut text, &format!("40 ms tones, through {name}"), &candidates, |candidate| {
            let part = accepted(candidate, &presses(|press| press.seconds = 0.04), |_, sample| law(sample));
            format!("{:.1} %", part * 100.0)
        });
    }
    for (name, voices) in [("synthesized", voices::synthesized_at_speeds()), ("made-up", voices::made_up())] {
        let minutes = voices.len() as f64 / RATE / 60.0;
        row(
            &mut text,
            &format!("digits heard in {minutes:.0} minutes of {name} voices"),
            &candidates,
            |candidate| (candidate.digits)(&voices).len().to_string(),
        );
    }
    text
}

fn chart(
    plots: &mut Vec<(String, String)>,
    file: &str,
    title: &str,
    (label, from, to, step): (&str, f64, f64, f64),
    lines: Vec<Line>,
) {
    let y = Axis { label: "accepted, %", from: 0.0, to: 100.0, step: 10.0 };
    let chart = Chart { title, x: Axis { label, from, to, step }, y, lines };
    plots.push((file.to_owned(), chart.svg()));
}

/// The stretch around zero that is accepted throughout.
fn range(line: &Line) -> Option<(f64, f64)> {
    let all = |(_, part): &&(f64, f64)| *part >= 100.0;
    let high = line.points.iter().filter(|(x, _)| *x >= -1e-9).take_while(all).last()?;
    let low = line.points.iter().rev().filter(|(x, _)| *x <= 1e-9).take_while(all).last()?;
    Some((low.0, high.0))
}

fn sweep(candidate: &Candidate, values: impl Iterator<Item = f64>, part: impl Fn(f64) -> f64) -> Line {
    Line {
        label: candidate.name.to_owned(),
        points: values.map(|value| (value, part(value) * 100.0)).collect(),
    }
}

fn by_duration(candidate: &Candidate) -> Line {
    sweep(candidate, (10..=60).map(f64::from), |duration| {
        accepted(candidate, &presses(|press| press.seconds = duration / 1000.0), clean)
    })
}

fn by_twist(candidate: &Candidate) -> Line {
    sweep(candidate, (-28..=28).map(|half| f64::from(half) / 2.0), |twist| {
        accepted(candidate, &presses(|press| press.twist = twist), clean)
    })
}

fn by_offset(candidate: &Candidate) -> Line {
    sweep(candidate, (-50..=50).map(|tenth| f64::from(tenth) / 10.0), |offset| {
        accepted(candidate, &presses(|press| press.offset = offset / 100.0), clean)
    })
}

fn by_noise(candidate: &Candidate) -> Line {
    sweep(candidate, (0..=26).map(f64::from), |level| {
        // Of two sines, each with half the square of its peak.
        let deviation = AMPLITUDE * 10f64.powf(-level / 20.0);
        let parts = (0..4).map(|seed| {
            let noise = gaussian(seed, 8000);
            accepted(candidate, &presses(|_| ()), |n, sample| sample + noise[n] * deviation)
        });
        parts.sum::<f64>() / 4.0
    })
}

fn dial_tone(candidate: &Candidate, level: i32) -> f64 {
    let amplitude = AMPLITUDE * 10f64.powf(f64::from(level) / 20.0);
    accepted(candidate, &presses(|_| ()), |n, sample| {
        let time = n as f64 / RATE * TAU;
        sample + amplitude * ((time * 350.0).sin() + (time * 440.0).sin())
    })
}

/// Whether the same digit twice with a pause between is heard twice.
fn is_parted(candidate: &Candidate, press: Press, pause: u32) -> bool {
    let tone = press.samples();
    let end = tone.len() - (0.1 * RATE) as usize;
    let start = (press.before * RATE) as usize;
    let gap = vec![0.0; pause as usize * 8];
    let pcm: Vec<i16> = [&tone[..end], &gap, &tone[start..]].concat().into_iter().map(quantise).collect();
    (candidate.digits)(&pcm).len() > 1
}

fn gaussian(seed: u64, length: usize) -> Vec<f64> {
    let mut noise = Noise::new(seed + 100);
    // Twelve of variance a third make four: half their sum has deviation one.
    (0..length).map(|_| (0..12).map(|_| noise.uniform()).sum::<f64>() / 2.0).collect()
}

fn through_ulaw(sample: f64) -> f64 {
    let mut code = [0];
    let mut pcm = [0];
    peers::ulaw_encode(&[quantise(sample)], &mut code);
    peers::ulaw_decode(&code, &mut pcm);
    f64::from(pcm[0])
}

fn through_alaw(sample: f64) -> f64 {
    let mut code = [0];
    let mut pcm = [0];
    peers::alaw_encode(&[quantise(sample)], &mut code);
    peers::alaw_decode(&code, &mut pcm);
    f64::from(pcm[0])
}
