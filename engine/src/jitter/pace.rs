//! Catching up and slowing down: what is done to the audio when the delay is wrong.

use super::slots::MAX_PAYLOAD_BYTES;
use super::{JitterBuffer, MAX_BACKLOG, SAMPLES_PER_MS, SLEWABLE, nanos, to_nanos};
use crate::dsp::stretch::{Cut, Stretch};
use crate::time::Instant;

/// How long the delay has been wrong, and how much was done about it.
#[derive(Debug)]
pub(super) struct Pace {
    stretch: Stretch,
    /// Samples for which the delay has been too long, and too short.
    deep: u32,
    shallow: u32,
    /// Samples that may be left out or repeated now: one for each four played.
    credit: i32,
    /// Packets no longer begin where frames do, which costs delay: how the last cut was made.
    uneven: Option<Cut>,
    /// By how many samples frames begin too early for packets to fill them evenly.
    phase: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { stretch: Stretch::new(SAMPLES_PER_MS), deep: 0, shallow: 0, credit: 0, uneven: None, phase: 0 }
    }
}

impl Pace {
    /// Frames begin where packets do.
    pub(super) fn begin_evenly(&mut self) {
        (self.uneven, self.phase) = (None, 0);
    }

    /// The delay that a cut has cost, until another one makes it good, in nanoseconds.
    pub(super) fn uneven_nanos(&self) -> i64 {
        to_nanos(self.phase as i64)
    }
}

impl JitterBuffer {
    /// Leaves a quiet frame out when the delay is too long, and any number of frames when it is beyond all use.
    pub(super) fn skip_if_too_late(&mut self, tick: Instant, samples: usize) {
        let (Some(excess), Some(end)) = (self.excess(tick), self.slots.audio_end()) else { return };
        let frame = to_nanos(samples as i64);
        if excess < frame || end < self.position + 2 * samples as i64 {
            return;
        }
        let skip = if excess > MAX_BACKLOG {
            excess / frame * samples as i64
        } else if excess > frame + SLEWABLE && self.is_quiet(samples) && self.is_quiet_next(samples) {
            samples as i64
        } else {
            return;
        };
        self.position += skip.min(end - self.position - samples as i64);
        self.played_until = self.position;
        self.concealer.interrupt();
    }

    /// Leaves out or repeats one pitch period where the delay has been wrong for long. Returns how much of `frame` that
    /// made; zero where everything is as it should be, or no cut would go unheard.
    pub(super) fn stretch(&mut self, tick: Instant, frame: &mut [u8]) -> usize {
        let samples = frame.len() as u32;
        if self.pace.uneven.is_some() {
            self.measure_phase(frame.len(), self.position);
        }
        let Some(excess) = self.excess(tick) else { return 0 };
        self.pace.deep = counted(self.pace.deep, samples, excess > DEEP, excess > DEEP_ENOUGH);
        self.pace.shallow = counted(self.pace.shallow, samples, excess < SHALLOW, excess < SHALLOW_ENOUGH);
        self.pace.credit = (self.pace.credit + samples as i32 / 4).min(MOST_CREDIT);
        let (deep, longer) = (self.pace.deep > PATIENCE, self.pace.shallow > PATIENCE);
        let phase = self.pace.phase;
        // A cut beyond the phase costs up to a frame of delay before it gains any.
        let deep = deep && excess >= to_nanos(frame.len() as i64);
        let shorter = deep || phase > 0;
        if !(shorter || longer) || self.pace.credit < LEAST_CREDIT || self.concealer.pending_recovery() > 0 {
            return 0;
        }
        let overlap = self.pace.stretch.overlap();
        let len = frame.len().min(if shorter { OVERLAP } else { overlap });
        // Never more than there is too much, or than makes frames even again.
        let most = if deep { ((excess - DEEP_ENOUGH) / to_nanos(1)).max(0) as usize } else { phase };
        let most = most.min(self.pace.stretch.longest());
        let mut ahead = [0; MAX_PAYLOAD_BYTES];
        let ahead = &mut ahead[..if shorter { len + most } else { len }];
        if self.slots.peek(self.position, ahead) < ahead.len() {
            return 0;
        }
        let forced = excess.abs() > FORCED || self.pace.uneven == Some(Cut::Forced);
        let cut = if forced { Cut::Forced } else { Cut::Unheard };
        let mut joined = [0; OVERLAP_ROOM];
        let joined = &mut joined[..len];
        let before = self.concealer.history();
        let step = len as i64;
        let (changed, advance) = if shorter {
            let wanted = match phase {
                0 => OVERLAP,
                _ if phase > self.pace.stretch.longest() => phase / 2,
                _ => phase,
            };
            let stretch = &mut self.pace.stretch;
            let Some(out) = stretch.shorten(before, ahead, joined, most, wanted, cut) else { return 0 };
            (out, step + out as i64)
        } else {
            let Some(again) = self.pace.stretch.lengthen(before, ahead, joined, cut) else { return 0 };
            (again, step - again as i64)
        };
        self.pace.credit -= changed as i32;
        self.pace.uneven = Some(cut);
        if let Some(slot) = self.slots.next(self.position + advance.max(1) - 1) {
            self.played_sequence = slot.sequence;
        }
        self.concealer.hear(joined);
        self.codec.encode(joined, &mut frame[..len]);
        self.position += advance;
        self.played_until = self.position;
        (self.paused, self.dry_samples) = (false, 0);
        self.measure_phase(frame.len(), self.position + (frame.len() - len) as i64);
        len
    }

    /// Compares where a frame begins with where packets do; lengths that do not fit each other have no phase.
    fn measure_phase(&mut self, samples: usize, begin: i64) {
        let position = self.position;
        let Some(slot) = self.slots.next(position) else { return };
        let len = slot.payload().len();
        let grid = match () {
            () if len > 0 && len.is_multiple_of(samples) => samples,
            () if len > 0 && samples.is_multiple_of(len) => len,
            () => 1,
        };
        self.pace.phase = (slot.timestamp - begin).rem_euclid(grid as i64) as usize;
        if self.pace.phase == 0 {
            self.pace.uneven = None;
        }
    }

    /// By how much the delay is longer than it should be, in nanoseconds.
    fn excess(&self, tick: Instant) -> Option<i64> {
        let target = self.target()? + self.pace.uneven_nanos();
        Some(nanos(tick) - to_nanos(self.position) - target)
    }

    fn is_quiet(&self, samples: usize) -> bool {
        let history = self.concealer.history();
        is_quiet(&history[history.len().saturating_sub(samples)..])
    }

    /// Whether nothing is lost by leaving the next frame out: not the beginning of a word.
    fn is_quiet_next(&self, samples: usize) -> bool {
        let mut pcm = [0; MAX_PAYLOAD_BYTES];
        let pcm = &mut pcm[..samples];
        self.slots.peek(self.position, pcm);
        is_quiet(pcm)
    }
}

/// How long something has been so: from when it `begins`, and while it `lasts`.
fn counted(before: u32, samples: u32, begins: bool, lasts: bool) -> u32 {
    match before {
        _ if begins => before.saturating_add(samples),
        0..=PATIENCE => 0,
        _ if lasts => before,
        _ => 0,
    }
}

fn is_quiet(pcm: &[i16]) -> bool {
    let sum: u32 = pcm.iter().map(|&sample| u32::from(sample.unsigned_abs())).sum();
    sum <= QUIET_MEAN * pcm.len() as u32
}

/// Less is the slew's business, which leaves the audio alone. The longest period and what the slew can do make 20 ms.
const DEEP: i64 = 20_000_000;
/// Where catching up ends.
const DEEP_ENOUGH: i64 = 3_000_000;
const SHALLOW: i64 = -15_000_000;
const SHALLOW_ENOUGH: i64 = -5_000_000;
/// 100 ms: what is wrong for less long rights itself.
const PATIENCE: u32 = 100 * SAMPLES_PER_MS as u32;
/// Beyond, tones and noise are cut, too.
const FORCED: i64 = 60_000_000;
/// 10 ms.
const OVERLAP: usize = 10 * SAMPLES_PER_MS;
/// 15 ms: as much as a cut may take.
const MOST_CREDIT: i32 = 15 * SAMPLES_PER_MS as i32;
/// 5 ms: the shortest cut.
const LEAST_CREDIT: i32 = 5 * SAMPLES_PER_MS as i32;
const OVERLAP_ROOM: usize = 15 * SAMPLES_PER_MS;
/// About -48 dBFS.
const QUIET_MEAN: u32 = 128;
