//! The AI thread's end of an AI stream: keeps what does not fit the ring, remembers the names of marks, and says what
//! of the bot's audio the caller was sent.

mod queue;
mod reports;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer};

use super::budget::Budget;
use super::counters::AiCounters;
use super::dialect::AudioFormat;
use super::line::Line;
use super::playout::{Backlog, Marks, Positions};
use super::port::PortConfig;
use super::report::{AudioBlock, FromWorker};
use super::shared::{QueuedMark, Shared, Upstream};
use crate::time::{Duration, Instant};

/// The end that faces the AI backend. Call [`Backend::top_up`] about every frame.
///
/// Every sample of bot audio that is accepted has a position, counted from the stream's start; what is refused has
/// none. So an item of the bot's that was queued while [`Backend::position`] went from `a` to `b` is the span `a..b`,
/// and [`Backend::played`] says how much of it the caller was sent, whatever was left out of it and why: exact at
/// the moment of the last report that [`Backend::poll`] gave.
#[derive(Debug)]
pub struct Backend {
    upstream: Consumer<Upstream>,
    audio: Producer<u8>,
    pub(super) shared: Arc<Shared>,
    counters: Arc<AiCounters>,
    line: Line,
    /// Bot audio that does not fit the ring yet.
    backlog: Backlog,
    marks: Marks,
    positions: Positions,
    budget: Budget,
    /// Samples handed to the ring.
    written: u64,
    /// Where in the ring the last utterance that is known to be whole ends.
    utterance_end: u64,
    ring_bytes: usize,
    max_queue_bytes: usize,
    /// The worker's clock, as of the last report.
    now: Instant,
    /// The caller has interrupted, and the last audio of what they interrupted came then.
    cut_off: Option<Instant>,
    drained_wanted: bool,
    tally: Tally,
}

/// What one stream has lost, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Times that the latency budget was exceeded.
    pub budget_exceeded: u64,
    /// Bot audio refused or left out because too much was queued.
    pub bot_samples_dropped: u64,
    /// Times that the engine's detector made the bot be silent.
    pub interruptions: u64,
    /// Bot audio that came after that and belonged to what was interrupted.
    pub bot_samples_cut_off: u64,
    /// Gaps inside spurts of bot audio.
    pub underruns: u64,
    /// Caller audio that the AI thread was too slow for.
    pub caller_samples_dropped: u64,
}

impl Backend {
    pub(super) fn new(
        upstream: Consumer<Upstream>,
        audio: Producer<u8>,
        marks: Producer<QueuedMark>,
        shared: Arc<Shared>,
        counters: Arc<AiCounters>,
        config: &PortConfig,
    ) -> Self {
        let line = Line::new(config.line);
        let ring_bytes = audio.buffer().capacity();
        let budget = Budget::new(config.latency, line);
        Self {
            upstream,
            audio,
            shared,
            marks: Marks::new(marks, Arc::clone(&counters)),
            counters,
            line,
            backlog: Backlog::new(line),
            positions: Positions::default(),
            ring_bytes: line.bytes(budget.ring(line.samples(ring_bytes))),
            budget,
            written: 0,
            utterance_end: 0,
            max_queue_bytes: config.line.bytes(config.max_queue).max(ring_bytes),
            now: Instant::ZERO,
            cut_off: None,
            drained_wanted: false,
            tally: Tally::default(),
        }
    }

    /// Queues bot audio: whole samples as the line has them, any length. Returns how many bytes did not fit and
    /// were dropped: the newest.
    ///
    /// After an interruption by the engine, audio is taken for the rest of what was interrupted, and left out, until
    /// [`Backend::begin_utterance`] or [`Backend::clear`], the end of the caller's speech, or 200 ms without audio.
    pub fn queue_audio(&mut self, audio: &[u8]) -> usize {
        self.counters.bot_audio_bytes.add(audio.len() as u64);
        if self.is_cut_off() {
            self.tally.bot_samples_cut_off += self.line.samples(audio.len());
            self.counters.bot_audio_cut_off_bytes.add(audio.len() as u64);
            return 0;
        }
        let queued = self.queued();
        let budget = self.budget.room(self.line.samples(queued)).min(self.line.samples(usize::MAX));
        let (full, budget) = (self.max_queue_bytes.saturating_sub(queued), self.line.bytes(budget));
        let (fits, excess) = audio.split_at(full.min(budget).min(audio.len()));
        if budget < full {
            self.counters.budget_refused_bytes.add(excess.len() as u64);
        } else {
            self.counters.bot_audio_overflow_bytes.add(excess.len() as u64);
        }
        self.tally.bot_samples_dropped += self.line.samples(excess.len());
        self.top_up();
        let now = if self.backlog.is_empty() { fits.len().min(self.ring_room()) } else { 0 };
        let (now, later) = fits.split_at(now);
        self.written += self.line.samples(self.audio.push_partial_slice(now).0.len());
        self.backlog.push(later);
        self.keep_budget(excess.len());
        excess.len()
    }

    /// What is queued from now on does not belong to what the caller has interrupted.
    pub fn begin_utterance(&mut self) {
        self.cut_off = None;
    }

    /// No more audio of this utterance comes: its tail is played at once, and the gap behind it is no underrun.
    pub fn end_utterance(&mut self) {
        self.utterance_end = self.end();
        self.top_up();
    }

    /// Queues a mark behind the audio queued so far. With nothing queued it comes back at once as the
    /// result, to be answered; otherwise [`Backend::poll`] tells when it was passed.
    pub fn queue_mark(&mut self, name: String) -> Option<String> {
        self.counters.marks_received.increment();
        if self.marks.is_empty() && !self.is_speaking() {
            return Some(name);
        }
        self.marks.push(name, self.end());
        self.top_up();
        None
    }

    /// Drops all queued bot audio; it takes effect before the next frame. [`Backend::poll`] tells of it and of the
    /// marks that waited. Answers how many clears there were, this one included.
    pub fn clear(&mut self) -> u64 {
        self.counters.clears.increment();
        if !self.is_speaking() {
            self.counters.clear_of_empty_queue.increment();
        }
        self.cut_off = None;
        self.drop_backlog();
        self.shared.clear_to.store(self.written, Ordering::Release);
        let before = self.shared.clears.fetch_add(1, Ordering::Release);
        self.top_up();
        before + 1
    }

    /// Keeps queued audio and plays none, from the next frame on. Clears and interruptions work as ever.
    pub fn pause(&mut self) {
        self.shared.is_paused.store(true, Ordering::Release);
    }

    /// Plays on.
    pub fn resume(&mut self) {
        self.shared.is_paused.store(false, Ordering::Release);
    }

    /// Wants [`FromWorker::Drained`], once, when nothing is queued: at the next [`Backend::poll`] if that is so now.
    pub fn report_drained(&mut self) {
        self.drained_wanted = true;
    }

    /// Moves what fits from the backlog to the worker.
    pub fn top_up(&mut self) {
        if !self.backlog.is_empty() {
            let room = self.ring_room();
            let (first, second) = self.backlog.as_slices();
            let first = first.get(..room).unwrap_or(first);
            let second = second.get(..room - first.len()).unwrap_or(second);
            let mut moved = self.audio.push_partial_slice(first).0.len();
            if moved == first.len() {
                moved += self.audio.push_partial_slice(second).0.len();
            }
            self.written += self.line.samples(moved);
            self.backlog.advance(moved);
        }
        if self.utterance_end <= self.written {
            self.shared.utterance_end.store(self.utterance_end, Ordering::Release);
        }
        self.marks.top_up(self.written);
    }

    /// The next thing that happened.
    pub fn poll(&mut self) -> Option<FromWorker> {
        let report = match self.upstream.pop() {
            Ok(Upstream::Audio { at, timestamp, len, bytes }) => {
                self.now = at;
                return Some(FromWorker::Audio { at, timestamp, audio: AudioBlock { len, bytes } });
            }
            Ok(Upstream::Digit { timestamp, digit, duration }) => {
                return Some(FromWorker::Digit { timestamp, digit, duration });
            }
            Ok(Upstream::Report(report)) => report,
            Err(_) => return self.poll_queue(),
        };
        self.now = report.at;
        self.take(report)
    }

    /// The position of the next sample to be queued.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.positions.of(self.end())
    }

    /// How many samples of a span of positions were handed to RTP for the caller, at the moment of the last report.
    #[must_use]
    pub fn played(&self, span: Range<u64>) -> u64 {
        self.positions.played(span)
    }

    /// How many marks wait to be passed.
    pub(super) fn waiting_marks(&self) -> usize {
        self.marks.len()
    }

    /// Whether bot audio still waits to be played.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.queued() > 0
    }

    /// Bytes of bot audio that wait to be played.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.backlog.len() + self.in_ring()
    }

    /// How long they last.
    #[must_use]
    pub fn queued_for(&self) -> Duration {
        self.line.format().duration(self.queued() as u64)
    }

    /// What the line has.
    #[must_use]
    pub fn line(&self) -> AudioFormat {
        self.line.format()
    }

    /// What was lost so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            underruns: self.shared.underruns.load(Ordering::Relaxed),
            caller_samples_dropped: self.shared.caller_samples_dropped.load(Ordering::Relaxed),
            ..self.tally
        }
    }

    /// Bytes of memory that the backlog holds.
    #[must_use]
    pub fn backlog_capacity(&self) -> usize {
        self.backlog.capacity()
    }

    /// Whether the call has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire) || self.audio.is_abandoned()
    }
}

#[cfg(test)]
#[path = "rings_tests.rs"]
mod tests;
