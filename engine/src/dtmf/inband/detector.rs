//! From windows to digits, for one call.

use super::KEYS;
use super::candidate::{Measured, measure};
use super::reference::{Reference, SPAN_SAMPLES, reference};
use crate::command::Digit;
use crate::simd::{DTMF_WINDOW_STEPS, DtmfStep, DtmfWindow, Kernels, TONE_STEP_SAMPLES, ToneSums, kernels};

/// A digit began or ended. Positions count the samples that the detector was given before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InbandEvent {
    /// Recognised, 32 to 37 ms after it began.
    Start {
        /// Which key.
        digit: Digit,
        /// Where the tones begin, to about 2 ms.
        at: u64,
        /// Level of the lower tone in dBm0.
        row_dbm0: f32,
        /// Level of the upper tone in dBm0.
        column_dbm0: f32,
    },
    /// Over: silent for 25 ms, or another digit began.
    End {
        /// The key of the last start.
        digit: Digit,
        /// Where it began, as in the start.
        at: u64,
        /// How long it sounded, in samples, to about 3 ms.
        duration_samples: u64,
    },
}

/// Finds digits in the audio of one call, given at 8 kHz in frames of any length.
///
/// What it finds does not depend on how the audio is cut into frames.
#[derive(Debug)]
pub struct InbandDetector {
    kernels: &'static Kernels,
    window: DtmfWindow,
    rest: Rest,
    channel: Channel,
}

impl Default for InbandDetector {
    fn default() -> Self {
        Self::new()
    }
}

impl InbandDetector {
    /// A detector that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::with_kernels(kernels())
    }

    /// A detector that runs the kernels of one table.
    #[must_use]
    pub fn with_kernels(kernels: &'static Kernels) -> Self {
        // Now, so that the first frame need not compute it.
        reference();
        Self { kernels, window: DtmfWindow::default(), rest: Rest::default(), channel: Channel::default() }
    }

    /// Takes the next samples and tells what began and ended.
    pub fn process(&mut self, pcm: &[i16], mut event: impl FnMut(InbandEvent)) {
        let reference = reference();
        let Self { kernels, window, rest, channel } = self;
        rest.drain(pcm, |steps| {
            let mut sums = [ToneSums::default(); STEPS_AT_ONCE];
            let mut found = [DtmfStep::QUIET; STEPS_AT_ONCE];
            let (sums, found) = (&mut sums[..steps.len()], &mut found[..steps.len()]);
            (kernels.tones.correlate)(steps.as_flattened(), &reference.bank, sums);
            (kernels.tones.dtmf_steps)(sums, &reference.limits, window, found);
            channel.handle_steps(reference, steps, found, &mut event);
        });
    }

    /// Ends the digit that sounds, if any: no more audio comes.
    pub fn finish(&mut self, mut event: impl FnMut(InbandEvent)) {
        self.channel.finish(&mut event);
    }
}

/// Steps that are taken together.
pub(super) const STEPS_AT_ONCE: usize = 4;

/// Samples that do not yet fill a step.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    step: [i16; TONE_STEP_SAMPLES],
    held: usize,
}

impl Default for Rest {
    fn default() -> Self {
        Self { step: [0; TONE_STEP_SAMPLES], held: 0 }
    }
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Gives `take` the steps of what is held and `pcm`, at most [`STEPS_AT_ONCE`] at a time, and holds the rest.
    pub(super) fn drain(&mut self, mut pcm: &[i16], mut take: impl FnMut(&[[i16; TONE_STEP_SAMPLES]])) {
        if self.held > 0 {
            let (now, later) = pcm.split_at(pcm.len().min(TONE_STEP_SAMPLES - self.held));
            self.step[self.held..][..now.len()].copy_from_slice(now);
            self.held += now.len();
            if self.held < TONE_STEP_SAMPLES {
                return;
            }
            take(&[self.step]);
            pcm = later;
        }
        let (steps, rest) = pcm.as_chunks::<TONE_STEP_SAMPLES>();
        steps.chunks(STEPS_AT_ONCE).for_each(take);
        self.step[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
    }
}

/// Where a call is between digits.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    /// Samples of whole steps so far.
    position: u64,
    run: Run,
    sounding: Option<Sounding>,
    /// The steps that ended the last windows of the run, by their number in the run.
    recent: [[i16; TONE_STEP_SAMPLES]; SPAN_STEPS],
}

/// Windows in a row that show the same pair.
#[derive(Clone, Debug, Default)]
struct Run {
    windows: usize,
    pair: u8,
    /// Of the fullest window.
    power: f32,
    /// The first window's steps, and where it ended.
    first: [f32; DTMF_WINDOW_STEPS],
    first_end: u64,
}

/// A digit that was reported and has not ended.
#[derive(Clone, Debug)]
struct Sounding {
    pair: u8,
    power: f32,
    start: u64,
    end: u64,
    /// Windows without it since the last with it.
    missed: usize,
}

impl Default for Channel {
    fn default() -> Self {
        let recent = [[0; TONE_STEP_SAMPLES]; SPAN_STEPS];
        Self { position: 0, run: Run::default(), sounding: None, recent }
    }
}

impl Channel {
    /// Takes the next steps and what the kernel said of them.
    #[inline]
    pub(super) fn handle_steps(
        &mut self,
        reference: &Reference,
        steps: &[[i16; TONE_STEP_SAMPLES]],
        found: &[DtmfStep],
        event: &mut impl FnMut(InbandEvent),
    ) {
        if self.sounding.is_none() && found.iter().all(|found| found.pair == DtmfStep::NOTHING) {
            self.position += steps.as_flattened().len() as u64;
            self.run.windows = 0;
            return;
        }
        for (step, found) in steps.iter().zip(found) {
            self.handle_step(reference, step, found, event);
        }
    }

    fn handle_step(
        &mut self,
        reference: &Reference,
        step: &[i16; TONE_STEP_SAMPLES],
        found: &DtmfStep,
        event: &mut impl FnMut(InbandEvent),
    ) {
        self.position += TONE_STEP_SAMPLES as u64;
        if let Some(sounding) = &mut self.sounding {
            if found.pair == sounding.pair {
                sounding.missed = 0;
                sounding.end = end(self.position, &found.parts, sounding.power);
            } else {
                sounding.missed += 1;
                if sounding.missed >= PAUSE_WINDOWS {
                    self.finish(event);
                }
            }
        }
        if found.pair == DtmfStep::NOTHING {
            self.run.windows = 0;
            return;
        }
        if self.run.windows == 0 || found.pair != self.run.pair {
            self.run =
                Run { pair: found.pair, first: found.parts, first_end: self.position, ..Run::default() };
        }
        let run = &mut self.run;
        self.recent[run.windows % SPAN_STEPS] = *step;
        run.windows += 1;
        run.power = run.power.max(found.power);
        if run.windows < SPAN_STEPS
            || self.sounding.as_ref().is_some_and(|sounding| sounding.pair == run.pair)
        {
            return;
        }
        let start = run.first_end.saturating_sub(filled(&run.first, run.power));
        let end = end(self.position, &found.parts, run.power);
        if end < start + LEAST_TONE_SAMPLES {
            return;
        }
        let mut span = [[0; TONE_STEP_SAMPLES]; SPAN_STEPS];
        for (n, step) in span.iter_mut().enumerate() {
            *step = self.recent[(run.windows + n) % SPAN_STEPS];
        }
        let span: &[i16; SPAN_SAMPLES] = bytemuck::must_cast_ref(&span);
        let Some(Measured { row_dbm0, column_dbm0 }) = measure(reference, span, run.pair) else {
            return;
        };
        let sounding = Sounding { pair: run.pair, power: run.power, start, end, missed: 0 };
        let digit = digit(run.pair);
        self.finish(event);
        self.sounding = Some(sounding);
        event(InbandEvent::Start { digit, at: start, row_dbm0, column_dbm0 });
    }

    pub(super) fn finish(&mut self, event: &mut impl FnMut(InbandEvent)) {
        if let Some(Sounding { pair, start, end, .. }) = self.sounding.take() {
            let duration_samples = end.saturating_sub(start);
            event(InbandEvent::End { digit: digit(pair), at: start, duration_samples });
        }
    }
}

/// Steps that are measured.
const SPAN_STEPS: usize = SPAN_SAMPLES / TONE_STEP_SAMPLES;
/// Halfway between 23 ms, to be refused, and 40 ms, to be accepted.
const LEAST_TONE_SAMPLES: u64 = 252;
/// Windows of a pause that ends a digit: more than 10 ms of silence spoil, fewer than 40 ms hold.
const PAUSE_WINDOWS: usize = 5;

/// Where the tone ends that fills a window up to some point.
fn end(window_end: u64, parts: &[f32; DTMF_WINDOW_STEPS], power: f32) -> u64 {
    let window = (DTMF_WINDOW_STEPS * TONE_STEP_SAMPLES) as u64;
    (window_end + filled(parts, power)).saturating_sub(window)
}

/// How many samples of the window a tone fills that has `power` where it fills it all.
fn filled(parts: &[f32; DTMF_WINDOW_STEPS], power: f32) -> u64 {
    let part = |part: f32| if part >= 0.64 * power { 1.0 } else { (part / power).sqrt() };
    let steps: f32 = parts.iter().map(|&power| part(power)).sum();
    (steps * TONE_STEP_SAMPLES as f32) as u64
}

fn digit(pair: u8) -> Digit {
    let key = KEYS[usize::from(pair) % KEYS.len()];
    Digit::from_char(char::from(key)).expect("every key is a digit")
}
