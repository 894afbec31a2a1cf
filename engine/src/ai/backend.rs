//! The AI thread's end of an AI stream: keeps what does not fit the ring, remembers the names of marks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer};

use super::counters::AiCounters;
use super::shared::{QueuedMark, Shared, Upstream};
use crate::command::Digit;
use crate::stream::PlayoutReport;
use crate::time::{Duration, Instant};

/// The end that faces the AI backend. Call [`Backend::top_up`] about every frame.
#[derive(Debug)]
pub struct Backend {
    upstream: Consumer<Upstream>,
    audio: Producer<u8>,
    marks: Producer<QueuedMark>,
    pub(super) shared: Arc<Shared>,
    counters: Arc<AiCounters>,
    /// Bot audio that does not fit the ring yet. Grows on demand.
    backlog: VecDeque<u8>,
    /// Marks whose audio is not in the ring yet, or that found the mark ring full.
    waiting: VecDeque<QueuedMark>,
    /// The names of all marks not answered yet, oldest first.
    names: VecDeque<(u64, String)>,
    name_bytes: usize,
    /// The position after the last byte in the ring.
    written: u64,
    max_queue_bytes: usize,
    next_mark: u64,
}

/// What the worker has reported.
#[derive(Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// Caller audio.
    Audio {
        /// When the worker queued it.
        at: Instant,
        /// Samples since the stream's start on the RTP timeline.
        timestamp: u64,
        /// PCMU, at most 20 ms.
        audio: AudioBlock,
    },
    /// The caller pressed and released a key.
    Digit {
        /// Samples since the stream's start on the RTP timeline.
        timestamp: u64,
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
    },
    /// The audio before a mark was played, or cleared.
    MarkPlayed {
        /// The mark's name.
        name: String,
        /// How far the playout was.
        report: PlayoutReport,
    },
    /// A clear has taken effect.
    Cleared {
        /// How far the playout was.
        report: PlayoutReport,
    },
}

/// At most 20 ms of PCMU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AudioBlock {
    len: u8,
    bytes: [u8; super::shared::BLOCK_BYTES],
}

impl std::ops::Deref for AudioBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl std::fmt::Debug for AudioBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AudioBlock({} bytes)", self.len)
    }
}

impl Backend {
    pub(super) fn new(
        upstream: Consumer<Upstream>,
        audio: Producer<u8>,
        marks: Producer<QueuedMark>,
        shared: Arc<Shared>,
        counters: Arc<AiCounters>,
        max_queue_bytes: usize,
    ) -> Self {
        Self {
            upstream,
            audio,
            marks,
            shared,
            counters,
            backlog: VecDeque::new(),
            waiting: VecDeque::new(),
            names: VecDeque::new(),
            name_bytes: 0,
            written: 0,
            max_queue_bytes,
            next_mark: 0,
        }
    }

    /// Queues bot audio (PCMU, any length). Returns how many bytes did not fit and were dropped: the newest.
    pub fn queue_audio(&mut self, audio: &[u8]) -> usize {
        let room = self.max_queue_bytes.saturating_sub(self.queued());
        let (fits, excess) = audio.split_at(room.min(audio.len()));
        self.counters.bot_audio_bytes.add(audio.len() as u64);
        self.counters.bot_audio_overflow_bytes.add(excess.len() as u64);
        self.top_up();
        if self.backlog.is_empty() {
            let (sent, rest) = self.audio.push_partial_slice(fits);
            self.written += sent.len() as u64;
            self.backlog.extend(rest);
        } else {
            self.backlog.extend(fits);
        }
        excess.len()
    }

    /// Queues a mark behind the audio queued so far. With nothing queued it comes back at once as the
    /// result, to be answered; otherwise [`Backend::poll`] tells when it was passed.
    pub fn queue_mark(&mut self, name: String) -> Option<String> {
        self.counters.marks_received.increment();
        if self.names.is_empty() && !self.is_speaking() {
            return Some(name);
        }
        if self.names.len() >= MAX_MARKS || self.name_bytes.saturating_add(name.len()) > MAX_NAME_BYTES {
            self.counters.marks_overflow.increment();
            return None;
        }
        let id = self.next_mark;
        self.next_mark += 1;
        self.waiting.push_back(QueuedMark { position: self.written + self.backlog.len() as u64, id });
        self.name_bytes += name.len();
        self.names.push_back((id, name));
        self.top_up();
        None
    }

    /// Drops all queued bot audio; it takes effect before the next byte the worker pulls. Marks that wait
    /// are reported by [`Backend::poll`].
    pub fn clear(&mut self) {
        self.counters.clears.increment();
        if !self.is_speaking() {
            self.counters.clear_of_empty_queue.increment();
        }
        self.backlog.clear();
        self.backlog.shrink_to(KEPT_BACKLOG_BYTES);
        for mark in &mut self.waiting {
            mark.position = self.written;
        }
        self.shared.clear_to.store(self.written, Ordering::Release);
        self.shared.clears.fetch_add(1, Ordering::Release);
        self.top_up();
    }

    /// Moves what fits from the backlog to the worker.
    pub fn top_up(&mut self) {
        if !self.backlog.is_empty() {
            let (first, second) = self.backlog.as_slices();
            let mut moved = self.audio.push_partial_slice(first).0.len();
            if moved == first.len() {
                moved += self.audio.push_partial_slice(second).0.len();
            }
            self.written += moved as u64;
            self.backlog.drain(..moved);
            if self.backlog.is_empty() {
                self.backlog.shrink_to(KEPT_BACKLOG_BYTES);
            }
        }
        while let Some(&mark) = self.waiting.front() {
            if mark.position > self.written || self.marks.push(mark).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// The next thing that the worker reported.
    pub fn poll(&mut self) -> Option<FromWorker> {
        Some(match self.upstream.pop().ok()? {
            Upstream::Audio { at, timestamp, len, bytes } => {
                FromWorker::Audio { at, timestamp, audio: AudioBlock { len, bytes } }
            }
            Upstream::Digit { timestamp, digit, duration } => {
                FromWorker::Digit { timestamp, digit, duration }
            }
            Upstream::Cleared { report } => FromWorker::Cleared { report },
            Upstream::MarkPlayed { id, report } => {
                // The ring keeps the order, so this is always the oldest.
                let (oldest, name) = self.names.pop_front()?;
                debug_assert_eq!(oldest, id, "marks are answered in order");
                self.name_bytes -= name.len();
                FromWorker::MarkPlayed { name, report }
            }
        })
    }

    /// Whether bot audio still waits to be played.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.queued() > 0
    }

    /// Bytes of bot audio that wait to be played.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.backlog.len() + (super::port::AUDIO_RING_BYTES - self.audio.slots())
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

/// Marks that may wait at one time, and the bytes of their names.
const MAX_MARKS: usize = 4096;
const MAX_NAME_BYTES: usize = 256 * 1024;
/// Backlog memory that a stream keeps once it is empty.
const KEPT_BACKLOG_BYTES: usize = 16 * 1024;

#[cfg(test)]
#[path = "rings_tests.rs"]
mod tests;
