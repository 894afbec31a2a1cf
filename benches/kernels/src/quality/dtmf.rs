//! The criteria of ITU-T Q.24 and of the Mitel CM7291 test tape, and talk-off: ours and spandsp's receiver on the
//! same signals.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use engine::codec::g711;
use engine::dsp::tone::FULL_SCALE_DBM0;
use engine::dtmf::inband::{InbandDetector, InbandEvent};
use engine::wav::{self, LoadError, LoadErrorReason};

use crate::dtmf::{COLUMNS, DIGITS, ROWS};
use crate::signal::Noise;
use crate::{FRAME, peers};

/// The section of the document.
pub fn report(_plots: &mut Vec<(String, String)>) -> String {
    let mut text = String::from("| criterion | asked for | ours | spandsp |\n|---|---|---|---|\n");
    for (name, asked, figure) in CRITERIA {
        let [ours, theirs] = RECEIVERS.map(|new| figure(&mut *new()));
        writeln!(text, "| {name} | {asked} | {ours} | {theirs} |").expect("strings take all");
    }
    text
}

/// What is measured, what Q.24 (AT&T's column) or the tape asks for, and how it is measured.
type Criterion = (&'static str, &'static str, fn(&mut dyn Receiver) -> String);

const CRITERIA: [Criterion; 13] = [
    ("16 digits, ten times each, 50 ms", "160", |receiver| {
        let bursts = (0..160).map(|n| Burst { level: [-4.0; 2], ..Burst::of(n / 10) });
        heard(receiver, bursts).to_string()
    }),
    ("row off frequency, accepted to", "±1.5 %, not ±3.5 %", |receiver| bandwidth(receiver, 0)),
    ("column off frequency, accepted to", "±1.5 %, not ±3.5 %", |receiver| bandwidth(receiver, 1)),
    ("row above column (normal twist)", "8 dB", |receiver| twist(receiver, 1)),
    ("column above row (reverse twist)", "4 dB", |receiver| twist(receiver, 0)),
    ("weakest level of all digits, each tone", "-25 dBm0", |receiver| {
        let level = last_good((0..=60).map(|n| 3.0 - f64::from(n)), |level| {
            heard(receiver, (0..16).map(|n| Burst { level: [level; 2], ..Burst::of(n) })) == 16
        });
        format!("{level} dBm0")
    }),
    ("tones of 23 ms heard", "0 %", |receiver| tone_length(receiver, 23)),
    ("tones of 30 ms heard", "-", |receiver| tone_length(receiver, 30)),
    ("tones of 40 ms heard", "100 %", |receiver| tone_length(receiver, 40)),
    ("digits cut in two by 10 ms", "0 %", |receiver| pause_length(receiver, 10)),
    ("digits separated by 40 ms", "100 %", |receiver| pause_length(receiver, 40)),
    ("least ratio of a tone to white noise, 1,000 digits of 40 ms heard", "26 dB", |receiver| {
        let ratio = last_good((0..=26).map(|n| 26.0 - f64::from(n)), |ratio| noisy(receiver, ratio));
        format!("{ratio} dB")
    }),
    ("dial tone of 350 and 440 Hz above the digit, each tone", "-", |receiver| {
        let over = last_good((-25..=12).map(f64::from), |over| dial_tone(receiver, over));
        format!("{over} dB")
    }),
];

fn bandwidth(receiver: &mut dyn Receiver, tone: usize) -> String {
    let mut ranges = [0.0, f64::INFINITY, 0.0, f64::INFINITY];
    for key in [0, 5, 10, 15] {
        for (side, sign) in [-1.0, 1.0].into_iter().enumerate() {
            let count = heard(
                receiver,
                (1..=60).map(|n| {
                    let mut burst = Burst { level: [-17.0; 2], ..Burst::of(key) };
                    burst.off[tone] = sign * f64::from(n) / 1000.0;
                    burst
                }),
            );
            let percent = count as f64 / 10.0;
            ranges[2 * side] = f64::max(ranges[2 * side], percent);
            ranges[2 * side + 1] = f64::min(ranges[2 * side + 1], percent);
        }
    }
    let [most_below, least_below, most_above, least_above] = ranges;
    format!("-{least_below:.1} to -{most_below:.1} %, +{least_above:.1} to +{most_above:.1} %")
}

fn twist(receiver: &mut dyn Receiver, weaker: usize) -> String {
    let decibels = [0, 5, 10, 15].map(|key| {
        heard(
            receiver,
            (0..=200).map(|n| {
                let mut burst = Burst { level: [-3.0; 2], ..Burst::of(key) };
                burst.level[weaker] -= f64::from(n) / 10.0;
                burst
            }),
        ) as f64
            / 10.0
    });
    format!("{:.1} dB", decibels.into_iter().fold(f64::INFINITY, f64::min))
}

fn tone_length(receiver: &mut dyn Receiver, milliseconds: usize) -> String {
    let bursts = (0..656).map(|n| Burst { tone: 8 * milliseconds, pause: 400 + n % 41, ..Burst::of(n) });
    format!("{:.1} %", heard(receiver, bursts) as f64 / 6.56)
}

fn pause_length(receiver: &mut dyn Receiver, milliseconds: usize) -> String {
    let two = (0..656)
        .filter(|n| {
            let mut pcm = Burst { pause: 8 * milliseconds, ..Burst::of(*n) }.audio();
            pcm.extend(Burst { pause: 800 + n % 41, ..Burst::of(*n) }.audio());
            receiver.digits(&pcm).len() == 2
        })
        .count();
    format!("{:.1} %", two as f64 / 6.56)
}

fn noisy(receiver: &mut dyn Receiver, ratio: f64) -> bool {
    let mut random = Noise::new(7);
    // The power of a sine of that level.
    let deviation = amplitude(-10.0 - ratio) / 2f64.sqrt();
    (0..1000).all(|n| {
        let burst = Burst { tone: 320, pause: 400 + n % 41, ..Burst::of(n) };
        let mut pcm = burst.audio();
        for sample in &mut pcm {
            let gaussian = (0..12).map(|_| random.uniform()).sum::<f64>();
            *sample = (f64::from(*sample) + gaussian * UNIFORM * deviation).round() as i16;
        }
        receiver.digits(&pcm) == burst.digit()
    })
}

/// Makes the variance of twelve random numbers 1: those of [`Noise::uniform`] are between -1 and 1.
const UNIFORM: f64 = 0.5;

fn dial_tone(receiver: &mut dyn Receiver, over: f64) -> bool {
    let mut time = 0;
    (0..164).all(|n| {
        let burst = Burst { level: [-15.0; 2], pause: 400 + n % 41, ..Burst::of(n) };
        let mut pcm = burst.audio();
        for sample in &mut pcm {
            let dial = [350.0, 440.0].map(|tone| (TAU * tone * f64::from(time) / 8000.0).sin());
            *sample = (f64::from(*sample) + amplitude(over - 15.0) * (dial[0] + dial[1])).round() as i16;
            time += 1;
        }
        receiver.digits(&pcm) == burst.digit()
    })
}

/// The last of the values that went well, before the first that did not.
fn last_good(values: impl Iterator<Item = f64>, mut is_good: impl FnMut(f64) -> bool) -> f64 {
    values.take_while(|&value| is_good(value)).last().unwrap_or(f64::NAN)
}

/// Tones through mu-law, as a call carries them, and a pause.
#[derive(Clone, Copy)]
struct Burst {
    key: usize,
    off: [f64; 2],
    level: [f64; 2],
    tone: usize,
    pause: usize,
}

impl Burst {
    /// 50 ms and 50 ms at -10 dBm0 of the digits by turns.
    fn of(n: usize) -> Self {
        Self { key: n % 16, off: [0.0; 2], level: [-10.0; 2], tone: 400, pause: 400 }
    }

    fn digit(&self) -> String {
        DIGITS[self.key / 4][self.key % 4].to_string()
    }

    fn audio(&self) -> Vec<i16> {
        let frequencies =
            [ROWS[self.key / 4] * (1.0 + self.off[0]), COLUMNS[self.key % 4] * (1.0 + self.off[1])];
        let mut pcm: Vec<i16> = (0..self.tone)
            .map(|n| {
                let tone =
                    |k: usize| amplitude(self.level[k]) * (TAU * frequencies[k] * n as f64 / 8000.0).sin();
                (tone(0) + tone(1)).round() as i16
            })
            .collect();
        pcm.resize(self.tone + self.pause, 0);
        let mut coded = vec![0; pcm.len()];
        g711::encode_ulaw(&pcm, &mut coded);
        g711::decode_ulaw(&coded, &mut pcm);
        pcm
    }
}

/// A sine of full scale is +3.14 dBm0.
fn amplitude(dbm0: f64) -> f64 {
    32768.0 * 10f64.powf((dbm0 - FULL_SCALE_DBM0) / 20.0)
}

fn heard(receiver: &mut dyn Receiver, bursts: impl Iterator<Item = Burst>) -> usize {
    bursts.filter(|burst| receiver.digits(&burst.audio()) == burst.digit()).count()
}

trait Receiver {
    /// The digits that begin in the next audio.
    fn digits(&mut self, pcm: &[i16]) -> String;
}

impl Receiver for InbandDetector {
    fn digits(&mut self, pcm: &[i16]) -> String {
        let mut digits = String::new();
        for frame in pcm.chunks(FRAME) {
            self.process(frame, |event| {
                if let InbandEvent::Start { digit, .. } = event {
                    digits.push(digit.as_char());
                }
            });
        }
        digits
    }
}

impl Receiver for peers::Dtmf {
    fn digits(&mut self, pcm: &[i16]) -> String {
        let mut digits = String::new();
        for frame in pcm.chunks(FRAME) {
            self.process(frame);
            digits += &Self::digits(self);
        }
        digits
    }
}

const RECEIVERS: [fn() -> Box<dyn Receiver>; 2] =
    [|| Box::new(InbandDetector::new()), || Box::new(peers::Dtmf::new(false))];

/// The digits that both hear in the WAV files of a folder, where no digit is.
pub fn talk_off(folder: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    find_wavs(folder, &mut files)?;
    files.sort();
    let mut receivers = RECEIVERS.map(|new| new());
    let mut text = String::new();
    let mut heard = [0; 2];
    let mut samples = 0;
    for file in &files {
        let pcm = match wav::load(file) {
            Ok(pcm) => pcm,
            Err(LoadError { reason: LoadErrorReason::Empty, .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        samples += pcm.len();
        for (who, (receiver, heard)) in receivers.iter_mut().zip(&mut heard).enumerate() {
            let digits = receiver.digits(&pcm);
            *heard += digits.len();
            if !digits.is_empty() {
                let who = ["ours", "spandsp"][who];
                writeln!(text, "{who} heard {digits:?} in {}", file.display()).expect("strings take all");
            }
        }
    }
    let minutes = samples as f64 / 480_000.0;
    write!(
        text,
        "{minutes:.1} minutes of {} files: ours heard {}, spandsp {}",
        files.len(),
        heard[0],
        heard[1]
    )
    .expect("strings take all");
    if heard[0] == 0 { Ok(text) } else { Err(text) }
}

fn find_wavs(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = folder.read_dir().map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            find_wavs(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "wav") {
            files.push(path);
        }
    }
    Ok(())
}
