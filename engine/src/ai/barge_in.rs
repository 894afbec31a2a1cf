//! Whether the caller speaks, and whether that interrupts the bot.
//!
//! Speech is what the energy detector takes for it and what is louder than -46 dBov besides: the noise of a line
//! and the bot's own echo are below that as a rule. A spurt of speech ends 300 ms after its last such frame.
//!
//! Speech that begins while the bot speaks interrupts as soon as it has lasted long enough, which may be at once.
//! Speech that was there before interrupts when it goes on for 300 ms more: a bot that answers early is heard
//! out if the caller only ends a word.

use super::config::{BargeIn, BargeInMode};
use super::line::Line;
use super::shared::{BLOCK, Onset};
use crate::dsp::vad::EnergyVad;
use crate::time::{Duration, Instant};

/// Listens to the caller on the worker.
#[derive(Debug)]
pub(super) struct CallerEar {
    line: Line,
    vad: EnergyVad,
    /// Samples of speech that interrupt; `None` if the backend decides, or nobody.
    patience: Option<u64>,
    speech: Option<Speech>,
}

/// A spurt of speech. Counts samples on the RTP timeline.
#[derive(Clone, Copy, Debug)]
struct Speech {
    began: Onset,
    /// After the last frame that was speech.
    ended: Onset,
    /// Since when both speak.
    both_since: Option<u64>,
    /// The bot spoke when it began.
    is_interjection: bool,
    has_interrupted: bool,
}

/// What a frame told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The caller begins to speak, or has ended.
    pub(super) change: Option<(Onset, bool)>,
    /// The bot is to be silent, because of speech that began then.
    pub(super) interrupts: Option<Onset>,
}

impl CallerEar {
    pub(super) fn new(barge_in: BargeIn, line: Line) -> Self {
        let patience = match barge_in.mode {
            BargeInMode::Backend | BargeInMode::Off => None,
            BargeInMode::Engine => Some(line.samples_in(barge_in.backchannel)),
            BargeInMode::After(speech) => Some(line.samples_in(speech)),
        };
        Self { line, vad: EnergyVad::new(BLOCK.as_millis() as u8), patience, speech: None }
    }

    /// Takes the next 20 ms, whose first sample is `timestamp`.
    pub(super) fn hear(&mut self, at: Instant, timestamp: u64, audio: &[u8], bot_speaks: bool) -> Heard {
        let samples = self.line.samples(audio.len());
        let squares = self.line.loudness(audio).sum_of_squares;
        let is_active = self.vad.handle_squares(squares, samples as usize);
        let is_speech = is_active && self.vad.is_voiced() && squares >= LEAST_POWER * samples;
        let end = Onset { at, timestamp: timestamp + samples };
        let mut heard = Heard::default();
        if is_speech {
            let began = Onset { at, timestamp };
            let speech = self.speech.get_or_insert_with(|| {
                heard.change = Some((began, true));
                Speech::new(began, bot_speaks)
            });
            speech.ended = end;
            heard.interrupts = self.patience.and_then(|patience| {
                let going_on = self.line.samples_in(GOING_ON);
                speech.interrupts(timestamp, bot_speaks, patience, going_on).then_some(speech.began)
            });
        } else if let Some(speech) = self.speech
            && end.timestamp.saturating_sub(speech.ended.timestamp) >= self.line.samples_in(HANG)
        {
            self.speech = None;
            heard.change = Some((speech.ended, false));
        }
        heard
    }
}

impl Speech {
    fn new(began: Onset, bot_speaks: bool) -> Self {
        Self { began, ended: began, both_since: None, is_interjection: bot_speaks, has_interrupted: false }
    }

    /// A frame of speech begins at `timestamp`.
    fn interrupts(&mut self, timestamp: u64, bot_speaks: bool, patience: u64, going_on: u64) -> bool {
        if !bot_speaks {
            (self.both_since, self.is_interjection, self.has_interrupted) = (None, false, false);
            return false;
        }
        let since = *self.both_since.get_or_insert(timestamp);
        let needed = if self.is_interjection { patience } else { patience.max(going_on) };
        let interrupts = !self.has_interrupted && self.ended.timestamp - since >= needed;
        self.has_interrupted |= interrupts;
        interrupts
    }
}

/// The mean square of a sample at -46 dBov.
const LEAST_POWER: u64 = 26_971;
/// Longer than the closure of a plosive, and than most pauses between words.
const HANG: Duration = Duration::from_millis(300);
const GOING_ON: Duration = Duration::from_millis(300);
