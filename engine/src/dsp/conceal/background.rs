//! The noise behind the voice: the quietest 20 ms of the last seconds.

use crate::dsp::level::squares;

/// Keeps the quietest block of this period and of the one before.
#[derive(Clone, Debug)]
pub(super) struct Background {
    quietest: [Quiet; 2],
    current: usize,
    /// Samples heard in this period.
    heard: usize,
    period: usize,
}

#[derive(Clone, Debug)]
struct Quiet {
    /// Mean square.
    power: f32,
    audio: Box<[i16]>,
}

impl Background {
    pub(super) fn new(samples_per_ms: usize) -> Self {
        let quiet = Quiet { power: f32::MAX, audio: vec![0; BLOCK_MS * samples_per_ms].into_boxed_slice() };
        Self { quietest: [quiet.clone(), quiet], current: 0, heard: 0, period: PERIOD_MS * samples_per_ms }
    }

    pub(super) fn reset(&mut self) {
        self.heard = 0;
        for quiet in &mut self.quietest {
            quiet.power = f32::MAX;
        }
    }

    /// Looks at the last 20 ms of what was heard, of which `new` samples are new.
    pub(super) fn hear(&mut self, history: &[i16], new: usize) {
        let len = self.quietest[0].audio.len();
        let Some(start) = history.len().checked_sub(len) else { return };
        let block = &history[start..];
        let power = mean_square(block);
        self.heard += new;
        if self.heard >= self.period {
            self.heard = 0;
            self.current = 1 - self.current;
            self.quietest[self.current].power = f32::MAX;
        }
        let quiet = &mut self.quietest[self.current];
        if power < quiet.power {
            quiet.power = power;
            quiet.audio.copy_from_slice(block);
        }
    }

    /// The quietest audio, if it is quiet enough to be background at all.
    pub(super) fn audio(&self) -> Option<&[i16]> {
        let [first, second] = &self.quietest;
        let quiet = if first.power < second.power { first } else { second };
        (quiet.power < LOUDEST_POWER).then_some(&quiet.audio)
    }
}

fn mean_square(block: &[i16]) -> f32 {
    squares(block) as f32 / block.len().max(1) as f32
}

const BLOCK_MS: usize = 20;
const PERIOD_MS: usize = 2000;
/// -45 dBFS: what never gets quieter is not background.
const LOUDEST_POWER: f32 = 184.0 * 184.0;
