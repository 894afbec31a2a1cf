//! What is queued: how much, where it ends, what must be left out.

use super::Backend;
use crate::time::Duration;

impl Backend {
    /// Whether what comes belongs to what the caller has interrupted.
    pub(super) fn is_cut_off(&mut self) -> bool {
        let Some(last) = self.cut_off else { return false };
        self.cut_off = (self.now.saturating_duration_since(last) < NEW_UTTERANCE).then_some(self.now);
        self.cut_off.is_some()
    }

    /// Leaves out what the budget does not allow, if it says so.
    pub(super) fn keep_budget(&mut self, refused: usize) {
        let queued = self.line.samples(self.queued());
        let excess = self.line.bytes(self.budget.excess(queued));
        if self.budget.observe(queued + self.line.samples(refused)) {
            self.tally.budget_exceeded += 1;
            self.counters.budget_exceeded.increment();
        }
        if excess == 0 {
            return;
        }
        let Self { backlog, positions, marks, line, written, utterance_end, tally, counters, .. } = self;
        backlog.shorten(excess, |at, len| {
            let (at, samples) = (*written + line.samples(at), line.samples(len));
            positions.leave_out(at, samples);
            marks.leave_out(at, samples);
            *utterance_end -= utterance_end.saturating_sub(at).min(samples);
            tally.bot_samples_dropped += samples;
            counters.budget_left_out_bytes.add(len as u64);
        });
    }

    pub(super) fn drop_backlog(&mut self) {
        let samples = self.line.samples(self.backlog.len());
        self.positions.leave_out(self.written, samples);
        self.marks.leave_out(self.written, samples);
        self.utterance_end = self.utterance_end.min(self.written);
        self.backlog.clear();
    }

    /// The position in the ring after all that is queued.
    pub(super) fn end(&self) -> u64 {
        self.written + self.line.samples(self.backlog.len())
    }

    pub(super) fn in_ring(&self) -> usize {
        self.audio.buffer().capacity() - self.audio.slots()
    }

    pub(super) fn ring_room(&self) -> usize {
        self.ring_bytes.saturating_sub(self.in_ring())
    }
}

/// Audio that comes after such a pause is a new utterance.
const NEW_UTTERANCE: Duration = Duration::from_millis(200);
