//! Both directions of a call side by side: what is missing is silence.

use super::{BLOCK_SAMPLES, TapBlock, TapTrack};
use crate::ai::dialect::TapTracks;
use crate::rtp::TICK_NANOS;
use crate::time::Instant;

/// Puts pieces in their places, and gives blocks of 20 ms of both directions in order and without gaps.
#[derive(Debug)]
pub(super) struct Aligner {
    wanted: TapTracks,
    tracks: [Track; 2],
    /// The next block's first sample.
    next: u64,
    /// The end of the newest piece, and when it came.
    newest: Option<(u64, Instant)>,
    late: u64,
}

#[derive(Debug)]
struct Track {
    /// What is after `next`, by position modulo the window; zeros where nothing came.
    samples: Box<[i16]>,
    end: u64,
    /// Added to positions, since this direction's clock fell behind the other's.
    shift: u64,
}

/// 20 ms of both directions.
#[derive(Clone, Debug)]
pub(super) struct Aligned {
    /// Samples since the tap's start.
    pub(super) position: u64,
    /// By [`TapTrack::index`].
    pub(super) tracks: [[i16; BLOCK_SAMPLES]; 2],
}

impl Aligner {
    pub(super) fn new(wanted: TapTracks) -> Self {
        let track = || Track { samples: vec![0; WINDOW].into(), end: 0, shift: 0 };
        Self { wanted, tracks: [track(), track()], next: 0, newest: None, late: 0 }
    }

    /// Takes a piece.
    pub(super) fn push(&mut self, block: &TapBlock) {
        let len = usize::from(block.len).min(BLOCK_SAMPLES);
        let track = &mut self.tracks[block.track.index()];
        let mut position = block.position.saturating_add(track.shift);
        if position < self.next {
            if position.saturating_add(len as u64) <= track.end {
                // It is not new, only out of order.
                self.late += 1;
                return;
            }
            // From here on this direction is later than it says: better than to lose it.
            track.shift += self.next - position;
            position = self.next;
        }
        let end = position + len as u64;
        if end > self.next + WINDOW as u64 {
            self.skip(end - WINDOW as u64);
        }
        let mut pcm = [0; BLOCK_SAMPLES];
        block.law.decode(&block.bytes[..len], &mut pcm[..len]);
        let track = &mut self.tracks[block.track.index()];
        for (place, sample) in (position..).zip(&pcm[..len]) {
            track.samples[place as usize % WINDOW] = *sample;
        }
        track.end = track.end.max(end);
        if self.newest.is_none_or(|(newest, _)| newest < end) {
            self.newest = Some((end, block.at));
        }
    }

    /// The next block, if it is complete or no longer waited for.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Aligned> {
        let (newest, at) = self.newest?;
        let end = self.next + BLOCK_SAMPLES as u64;
        let is_complete = TapTrack::BOTH
            .iter()
            .all(|&track| !self.wanted.has(track) || self.tracks[track.index()].end >= end);
        // Silence of both is told by the clock alone.
        let clock = newest + now.saturating_duration_since(at).as_nanos() as u64 / TICK_NANOS;
        (is_complete || clock >= end + WAIT_SAMPLES).then(|| self.take())
    }

    /// The next block of what has come, complete or not: the call has ended.
    pub(super) fn pop_rest(&mut self) -> Option<Aligned> {
        let rest = self.tracks.iter().any(|track| track.end > self.next);
        rest.then(|| self.take())
    }

    /// Pieces that came when their turn was over.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    fn take(&mut self) -> Aligned {
        let mut aligned = Aligned { position: self.next, tracks: [[0; BLOCK_SAMPLES]; 2] };
        for (track, block) in self.tracks.iter_mut().zip(&mut aligned.tracks) {
            for (place, sample) in (self.next..).zip(block) {
                *sample = std::mem::take(&mut track.samples[place as usize % WINDOW]);
            }
        }
        self.next += BLOCK_SAMPLES as u64;
        aligned
    }

    /// Leaves out what is before `position`.
    fn skip(&mut self, position: u64) {
        let position = position.div_ceil(BLOCK_SAMPLES as u64) * BLOCK_SAMPLES as u64;
        for track in &mut self.tracks {
            for place in self.next..position.min(self.next + WINDOW as u64) {
                track.samples[place as usize % WINDOW] = 0;
            }
        }
        self.next = position;
    }
}

/// 2 s; a whole number of blocks.
const WINDOW: usize = 16_000;
/// 200 ms: how long one direction waits for the other.
const WAIT_SAMPLES: u64 = 1_600;
