//! What happens to bot audio in one frame: what takes effect before it, how much is played, what it has passed.

use std::sync::atomic::Ordering;

use super::{AiPort, Moment};
use crate::ai::pacer::Queue;
use crate::ai::shared::{Report, What};

impl AiPort {
    /// Lets clears, interruptions and pauses take effect; true if bot audio is not to go on.
    pub(super) fn settle(&mut self, moment: Moment) -> bool {
        self.upstream.flush();
        let cleared = self.apply_clear(moment);
        let interrupted = self.apply_interruption(moment);
        self.is_paused = self.shared.is_paused.load(Ordering::Acquire);
        cleared || interrupted || self.is_paused
    }

    fn apply_clear(&mut self, moment: Moment) -> bool {
        let clears = self.shared.clears.load(Ordering::Acquire);
        if clears == self.clears {
            return false;
        }
        self.clears = clears;
        let from = self.position;
        let to = self.skip(self.shared.clear_to.load(Ordering::Acquire));
        self.report(moment, from, self.played, What::Cleared { to, number: clears });
        true
    }

    /// Nothing is played from an interruption on until the AI thread knows of it: what it has put into the ring
    /// meanwhile belongs to what was interrupted.
    fn apply_interruption(&mut self, moment: Moment) -> bool {
        if let Some(speech) = self.interruption.take() {
            self.interrupts += 1;
            let from = self.position;
            self.skip(from + self.line.samples(self.audio.slots()));
            self.counters.interruptions.increment();
            let number = self.interrupts;
            self.report(moment, from, self.played, What::Interrupted { number, speech });
            return true;
        }
        if self.is_holding() {
            return true;
        }
        self.skip(self.shared.interrupted_to.load(Ordering::Acquire));
        false
    }

    /// Whether the AI thread does not know of an interruption yet.
    pub(super) fn is_holding(&self) -> bool {
        self.shared.interrupts_seen.load(Ordering::Acquire) != self.interrupts
    }

    /// How much to play in a frame of `wanted` samples.
    pub(super) fn turn(&mut self, moment: Moment, wanted: u64) -> u64 {
        if self.is_paused || self.is_holding() {
            self.pacer.hold();
            return 0;
        }
        let available = self.line.samples(self.audio.slots());
        let end = self.position + available;
        let turn = self.pacer.turn(Queue {
            end,
            available,
            has_boundary: self.marks.peek().is_ok_and(|mark| mark.position <= end),
            is_whole: self.shared.utterance_end.load(Ordering::Acquire) == end,
            wanted,
        });
        if turn.underrun {
            self.counters.underruns.increment();
            self.shared.underruns.fetch_add(1, Ordering::Relaxed);
        }
        if turn.begins {
            self.report(moment, self.position, self.played, What::Began);
        }
        turn.take
    }

    /// Reports what the frame has passed, which began at `start`.
    pub(super) fn finish(&mut self, moment: Moment, start: u64, frame_bytes: usize, is_heard: bool) {
        let played_to = if is_heard { self.position } else { start };
        let after = |position: u64| Moment {
            rtp_timestamp: moment.rtp_timestamp.wrapping_add((position - start) as u32),
            ..moment
        };
        while let Some(&mark) = self.marks.peek().ok().filter(|mark| mark.position <= self.position) {
            if !self.upstream.has_room_for_mark() {
                break;
            }
            let _ = self.marks.pop();
            // Marks that found no room before are told late.
            let position = mark.position.max(start);
            let skipped = mark.position > self.skipped.0 && mark.position <= self.skipped.1;
            let what = What::Mark { id: mark.id, complete: !skipped && !mark.is_dropped };
            let played = self.played - played_to.saturating_sub(position);
            self.report(after(position), position, played, what);
        }
        if self.position > start && self.audio.is_empty() {
            self.report(after(self.position), self.position, self.played, What::Empty);
        }
        let frame = self.line.samples(frame_bytes) as u32;
        self.end = Moment { rtp_timestamp: moment.rtp_timestamp.wrapping_add(frame), ..moment };
    }

    /// Takes audio from the ring up to `to` and does not play it; returns where that ended.
    fn skip(&mut self, to: u64) -> u64 {
        let from = self.position;
        if to > from
            && let Ok(chunk) = self.audio.read_chunk(self.line.bytes(to - from).min(self.audio.slots()))
        {
            self.position += self.line.samples(chunk.len());
            chunk.commit_all();
            let first = if self.skipped.1 == from { self.skipped.0 } else { from };
            self.skipped = (first, self.position);
            self.pacer.clear(self.position);
        }
        self.position
    }

    /// Tells what has happened at `position`.
    pub(super) fn report(&mut self, moment: Moment, position: u64, played: u64, what: What) {
        self.hear_again(moment, position);
        let Moment { at, rtp_timestamp } = moment;
        self.upstream.report(Report { at, rtp_timestamp, position, played, what });
    }

    /// What ran on unheard before `position` is told before anything else is.
    pub(super) fn hear_again(&mut self, Moment { at, rtp_timestamp }: Moment, position: u64) {
        if let Some(from) = self.unheard_from.filter(|&from| from < position) {
            self.unheard_from = (position < self.position).then_some(position);
            let (played, what) = (self.played, What::Unheard { from });
            self.upstream.report(Report { at, rtp_timestamp, position, played, what });
        }
    }

    /// Begins silence after bot audio.
    pub(super) fn fade(&mut self, silence: &mut [u8]) {
        if let Some(last) = self.last.take() {
            self.line.fade(last, silence);
        }
    }
}
