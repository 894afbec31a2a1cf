//! The detectors of many calls, in one pass over all.

use super::detector::{Channel, InbandEvent, Rest, STEPS_AT_ONCE};
use super::reference::reference;
use crate::simd::{DtmfStep, DtmfWindow, Kernels, TONE_STEP_SAMPLES, ToneSums, kernels};

/// The detectors of a fixed number of calls, as a structure of arrays.
///
/// What each call hears is what an [`InbandDetector`](super::InbandDetector) would hear; the passes over many
/// calls only cost less. Made once; takes no memory afterwards.
#[derive(Debug)]
pub struct InbandDetectors {
    kernels: &'static Kernels,
    windows: Box<[DtmfWindow]>,
    rests: Box<[Rest]>,
    channels: Box<[Channel]>,
}

impl InbandDetectors {
    /// For calls `0..calls`.
    #[must_use]
    pub fn new(calls: usize) -> Self {
        Self::with_kernels(calls, kernels())
    }

    /// The same, with the kernels of one table.
    #[must_use]
    pub fn with_kernels(calls: usize, kernels: &'static Kernels) -> Self {
        reference();
        Self {
            kernels,
            windows: vec![DtmfWindow::default(); calls].into(),
            rests: vec![Rest::default(); calls].into(),
            channels: vec![Channel::default(); calls].into(),
        }
    }

    /// How many calls there are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.channels.len()
    }

    /// Makes the place of a call one that has heard nothing. Without such a call nothing happens.
    pub fn reset(&mut self, call: usize) {
        if let Some(window) = self.windows.get_mut(call) {
            *window = DtmfWindow::default();
            self.rests[call] = Rest::default();
            self.channels[call] = Channel::default();
        }
    }

    /// Takes the next samples of some calls, in frames of any length, and tells what began and ended in which
    /// call. Frames of calls that there are not are passed over.
    pub fn process(&mut self, frames: &[(usize, &[i16])], mut event: impl FnMut(usize, InbandEvent)) {
        for frames in frames.chunks(CALLS_AT_ONCE) {
            self.pass(frames, &mut event);
        }
    }

    fn pass(&mut self, frames: &[(usize, &[i16])], event: &mut impl FnMut(usize, InbandEvent)) {
        let reference = reference();
        let tones = &self.kernels.tones;
        let mut sums = [[ToneSums::default(); STEPS_AT_ONCE]; CALLS_AT_ONCE];
        let mut found = [[DtmfStep::QUIET; STEPS_AT_ONCE]; CALLS_AT_ONCE];
        let whole = |&(call, frame): &(usize, &[i16])| {
            frame.len() == STEPS_AT_ONCE * TONE_STEP_SAMPLES
                && self.rests.get(call).is_some_and(Rest::is_empty)
        };
        if frames.iter().all(whole) {
            // The usual case, stage by stage.
            for ((_, frame), sums) in frames.iter().zip(&mut sums) {
                (tones.correlate)(frame, &reference.bank, sums);
            }
            for ((&(call, _), sums), found) in frames.iter().zip(&sums).zip(&mut found) {
                (tones.dtmf_steps)(sums, &reference.limits, &mut self.windows[call], found);
            }
            for (&(call, frame), found) in frames.iter().zip(&found) {
                let steps = frame.as_chunks().0;
                self.channels[call]
                    .handle_steps(reference, steps, found, &mut |happened| event(call, happened));
            }
            return;
        }
        for &(call, frame) in frames {
            let Some(rest) = self.rests.get_mut(call) else { continue };
            let (window, channel) = (&mut self.windows[call], &mut self.channels[call]);
            rest.drain(frame, |steps| {
                let (sums, found) = (&mut sums[0][..steps.len()], &mut found[0][..steps.len()]);
                (tones.correlate)(steps.as_flattened(), &reference.bank, sums);
                (tones.dtmf_steps)(sums, &reference.limits, window, found);
                channel.handle_steps(reference, steps, found, &mut |happened| event(call, happened));
            });
        }
    }
}

/// Calls of one pass: their sums stay in the first-level cache.
const CALLS_AT_ONCE: usize = 16;
