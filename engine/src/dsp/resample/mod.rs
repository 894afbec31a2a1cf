//! Sample rate conversion between the rates of speech.
//!
//! ```text
//!   history | input frame  ->  FIR, one phase for each output  ->  output frame, whole and at once
//! ```
//!
//! A polyphase filter of linear phase with a constant delay of at most 3 ms. Nothing is held back: after any
//! number of input samples, all outputs whose time has passed are out, so that a frame of whole milliseconds gives a
//! frame of the same time. Coefficients are shared by all resamplers of a pair; one of its own has only the history and room for a piece.

mod design;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use self::design::Plan;
pub use super::rate::SampleRate;
use crate::simd::{Kernels, kernels};

/// How good a resampler is, in terms of the Nyquist frequency of the lower rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// For calls. To a lower rate: flat within 0.03 dB to 0.8125 (3,250 Hz of 4,000), aliases at most -84 dB from
    /// 1.0 on and -90 dB from 1.02. To a higher rate: 0.0015 dB, images -71 dB from 1.02 on and -84 dB from 1.05.
    Speech,
    /// For recordings and recognition: aliases and images at most -101 dB from 1.02 on. Flat to 0.85 within
    /// 0.0001 dB. When one rate is 8,000 Hz -98 dB and 0.1 dB: a sharper filter would take longer than 3 ms.
    High,
}

/// Converts a stream of samples from one rate to another.
#[derive(Clone, Debug)]
pub struct Resampler {
    /// `None` between equal rates.
    plan: Option<&'static Plan>,
    kernels: &'static Kernels,
    /// Begins with the samples that the next output begins with; a piece of input goes behind them. What lies beyond
    /// meets coefficients of zero only.
    window: Box<[i16]>,
    /// The phase of the next output.
    phase: usize,
    /// Input samples since the beginning of the group of outputs that `phase` counts in.
    position: usize,
}

impl Resampler {
    /// A resampler at rest. The first one of a pair and quality computes the coefficients, which takes up to some
    /// milliseconds when 44,100 Hz is involved: call [`Resampler::prepare`] before time matters.
    #[must_use]
    pub fn new(from: SampleRate, to: SampleRate, quality: Quality) -> Self {
        Self::with_kernels(from, to, quality, kernels())
    }

    /// Computes the coefficients of all pairs of rates, so that no [`Resampler::new`] has to.
    pub fn prepare() {
        for from in SampleRate::ALL {
            for to in SampleRate::ALL {
                plan(from, to, Quality::Speech);
                plan(from, to, Quality::High);
            }
        }
    }

    fn with_kernels(from: SampleRate, to: SampleRate, quality: Quality, kernels: &'static Kernels) -> Self {
        let plan = plan(from, to, quality);
        let history = |plan: &Plan| plan.taps - 1 + plan.bank.step().div_ceil(plan.bank.phases());
        let window = plan.map_or(0, |plan| history(plan) + PIECE + SPARE);
        Self { plan, kernels, window: vec![0; window].into(), phase: 0, position: 0 }
    }

    /// Converts `input`, of any length, and gives the number of samples written to `output`:
    /// [`Resampler::output_len`] of the input's length. What does not fit into a shorter `output` is lost.
    pub fn process(&mut self, input: &[i16], output: &mut [i16]) -> usize {
        let Some(plan) = self.plan else {
            let samples = input.len().min(output.len());
            output[..samples].copy_from_slice(&input[..samples]);
            return samples;
        };
        let mut written = 0;
        for piece in input.chunks(PIECE) {
            written += self.process_piece(plan, piece, &mut output[written..]);
        }
        written
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        self.window.fill(0);
        (self.phase, self.position) = (0, 0);
    }

    /// How many samples the next `input_len` samples will give. The sum over any frames is their number times the
    /// ratio of the rates, rounded down.
    #[must_use]
    pub fn output_len(&self, input_len: usize) -> usize {
        self.plan.map_or(input_len, |plan| {
            (self.position + input_len) * plan.bank.phases() / plan.bank.step() - self.phase
        })
    }

    /// The delay, in samples of the lower of the two rates. It is the same for all frequencies.
    #[must_use]
    pub fn delay_samples(&self) -> usize {
        self.plan.map_or(0, |plan| plan.delay)
    }

    fn process_piece(&mut self, plan: &Plan, input: &[i16], output: &mut [i16]) -> usize {
        let (phases, step) = (plan.bank.phases(), plan.bank.step());
        let outputs = self.output_len(input.len());
        let held = plan.taps - 1 + self.position - self.phase * step / phases;
        let end = held + input.len();
        self.window[held..end].copy_from_slice(input);

        let written = outputs.min(output.len());
        (self.kernels.fir.polyphase)(&plan.bank, self.phase, &self.window, &mut output[..written]);

        let next = self.phase + outputs;
        let begin = next * step / phases - self.phase * step / phases;
        self.window.copy_within(begin..end, 0);
        let groups = next / phases;
        self.phase = next - groups * phases;
        self.position = self.position + input.len() - groups * step;
        written
    }
}

/// The plan of a pair of rates; none is needed between equal ones.
fn plan(from: SampleRate, to: SampleRate, quality: Quality) -> Option<&'static Plan> {
    let table = (from as usize * RATES + to as usize) * 2 + quality as usize;
    (from != to).then(|| PLANS[table].get_or_init(|| Plan::new(from, to, quality)))
}

const RATES: usize = SampleRate::ALL.len();
static PLANS: [OnceLock<Plan>; RATES * RATES * 2] = [const { OnceLock::new() }; RATES * RATES * 2];

/// Input samples that are handled at once.
const PIECE: usize = 480;
/// Room for rows that are longer than the filter.
const SPARE: usize = 32;
