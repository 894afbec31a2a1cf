//! The caller's audio, made into the blocks without gaps that a bot counts time by.

use super::super::convert::Converter;
use super::super::dialect::AudioFormat;
use super::super::line::Line;
use super::super::shared::BLOCK_BYTES;
use super::clock::FRAME;
use crate::time::{Duration, Instant};

/// What the caller says, on its way to a bot.
#[derive(Debug)]
pub(super) struct CallerAudio {
    line: Line,
    format: AudioFormat,
    to_line: Converter,
    block: [u8; BLOCK_BYTES],
    filled: usize,
    /// Samples since the bot began to listen.
    position: u64,
    /// The moment that the audio so far reaches to, if it is heard as it comes.
    until: Instant,
    /// Nothing has come for a while, and silence stands for it.
    in_gap: bool,
    received: u64,
    gap_samples: u64,
}

impl CallerAudio {
    /// `None` if the format cannot be converted.
    pub(super) fn new(now: Instant, line: Line, format: AudioFormat) -> Option<Self> {
        Some(Self {
            line,
            format,
            to_line: Converter::new(format, line.format())?,
            block: [0; BLOCK_BYTES],
            filled: 0,
            position: 0,
            until: now,
            in_gap: false,
            received: 0,
            gap_samples: 0,
        })
    }

    /// The format of what comes next; false if it cannot be converted.
    pub(super) fn change(&mut self, format: AudioFormat) -> bool {
        if format != self.format {
            let Some(to_line) = Converter::new(format, self.line.format()) else { return false };
            (self.format, self.to_line) = (format, to_line);
        }
        true
    }

    /// Another bot listens, and counts from here.
    pub(super) fn restart(&mut self) {
        (self.filled, self.position) = (0, 0);
    }

    /// Samples since the bot began to listen.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Takes what came; whole blocks go to `hear` with the position of their first sample.
    pub(super) fn take(&mut self, now: Instant, audio: &[u8], hear: impl FnMut(u64, &[u8])) {
        self.in_gap = false;
        let lasts = self.format.duration(audio.len() as u64);
        // A peer that is slower than our clock is not behind: it only says less.
        self.until = (self.until + lasts).max(now);
        let Self { to_line, block, filled, position, received, line, .. } = self;
        let audio = to_line.convert(audio);
        *received += line.samples(audio.len());
        blocks(block, filled, position, audio, hear);
    }

    /// Once a frame: puts silence where nothing has come for too long. Returns how many samples.
    pub(super) fn fill_gap(&mut self, now: Instant, hear: impl FnMut(u64, &[u8])) -> u64 {
        let behind = now.saturating_duration_since(self.until);
        if behind.is_zero() {
            // A peer that is faster than our clock is not ahead for ever.
            let ahead = self.until.saturating_duration_since(now);
            self.until = now + ahead.saturating_sub(LEAK);
        }
        self.in_gap |= behind >= GAP;
        if !self.in_gap || behind < FRAME {
            return 0;
        }
        let frames = (behind.as_nanos() / FRAME.as_nanos()) as u64;
        let samples = frames.min(MOST_FRAMES) * BLOCK_BYTES as u64;
        self.until += FRAME * u32::try_from(frames).unwrap_or(u32::MAX);
        let mut silence = vec![0; self.line.bytes(samples)];
        self.line.silence(&mut silence);
        blocks(&mut self.block, &mut self.filled, &mut self.position, &silence, hear);
        self.gap_samples += samples;
        samples
    }

    /// Whether so much has come that more may wait in the network.
    pub(super) fn is_ahead(&self, now: Instant) -> bool {
        self.until.saturating_duration_since(now) > MOST_AHEAD
    }

    /// What came, and the silence put where nothing did.
    pub(super) fn figures(&self) -> (Duration, Duration) {
        let lasts = |samples| self.line.format().duration(samples);
        (lasts(self.received), lasts(self.gap_samples))
    }
}

fn blocks(
    block: &mut [u8; BLOCK_BYTES],
    filled: &mut usize,
    position: &mut u64,
    mut audio: &[u8],
    mut hear: impl FnMut(u64, &[u8]),
) {
    while !audio.is_empty() {
        let (now, later) = audio.split_at(audio.len().min(BLOCK_BYTES - *filled));
        if let Some(room) = block.get_mut(*filled..*filled + now.len()) {
            room.copy_from_slice(now);
        }
        *filled += now.len();
        *position += now.len() as u64;
        audio = later;
        if *filled == BLOCK_BYTES {
            hear(*position - BLOCK_BYTES as u64, &*block);
            *filled = 0;
        }
    }
}

/// Asterisk sends nothing in pauses of a caller with silence suppression, and nothing for lost packets. Less than this is the
/// network's jitter.
const GAP: Duration = Duration::from_millis(100);
/// A suspended process has missed more than anybody wants to hear.
const MOST_FRAMES: u64 = 50;
/// After a stall of the network so much is taken at once; a peer that sends faster than real time beyond that is left waiting.
const MOST_AHEAD: Duration = Duration::from_secs(2);
/// Half a percent of a frame: more than clocks differ by.
const LEAK: Duration = Duration::from_micros(100);
