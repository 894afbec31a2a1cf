//! What the worker sends to the AI thread: a bounded ring, and reports that wait while it is full.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer, RingBuffer};

use super::counters::AiCounters;
use super::shared::{BLOCK_BYTES, Report, SILENCE, Shared, Upstream, What};
use crate::command::Digit;
use crate::time::{Duration, Instant};

/// Wait-free; allocates when it is made and never again.
#[derive(Debug)]
pub(super) struct Sender {
    ring: Producer<Upstream>,
    /// Reports that found the ring full, with the moment that they are about.
    waiting: VecDeque<Report>,
    shared: Arc<Shared>,
    counters: Arc<AiCounters>,
}

impl Sender {
    pub(super) fn pair(shared: Arc<Shared>, counters: Arc<AiCounters>) -> (Self, Consumer<Upstream>) {
        let (ring, consumer) = RingBuffer::new(RING_ITEMS);
        (Self { ring, waiting: VecDeque::with_capacity(WAITING_REPORTS), shared, counters }, consumer)
    }

    /// At most one block. Dropped and counted if there is no room, and some is always left for reports.
    pub(super) fn audio(&mut self, at: Instant, timestamp: u64, audio: &[u8]) {
        if self.ring.slots() <= RESERVED_ITEMS {
            self.counters.caller_audio_overflow.increment();
            self.shared.caller_samples_dropped.fetch_add(audio.len() as u64, Ordering::Relaxed);
            return;
        }
        let mut bytes = [SILENCE; BLOCK_BYTES];
        bytes[..audio.len()].copy_from_slice(audio);
        self.push(Upstream::Audio { at, timestamp, len: audio.len() as u8, bytes });
    }

    /// Dropped and counted if there is no room.
    pub(super) fn digit(&mut self, timestamp: u64, digit: Digit, duration: Duration) {
        if !self.push(Upstream::Digit { timestamp, digit, duration }) {
            self.counters.digit_overflow.increment();
        }
    }

    /// Waits if the ring is full; dropped and counted if too many do. That does not happen to what matters: of
    /// marks there is room for all that the worker has, of interruptions there is one until the AI thread has
    /// seen it, and of clears there are as many as that thread made without looking.
    pub(super) fn report(&mut self, report: Report) {
        if self.waiting.is_empty() && self.push(Upstream::Report(report)) {
            return;
        }
        let room = match report.what {
            What::Began | What::Empty | What::Speech { .. } => WAITING_REPORTS - RESERVED_REPORTS / 2,
            _ => WAITING_REPORTS,
        };
        if self.waiting.len() < room {
            self.waiting.push_back(report);
        } else {
            self.counters.report_overflow.increment();
        }
    }

    /// Whether a mark may be reported; some places are left to what cannot wait elsewhere.
    pub(super) fn has_room_for_mark(&self) -> bool {
        self.waiting.len() < WAITING_REPORTS - RESERVED_REPORTS
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        while !self.ring.is_full() {
            let Some(report) = self.waiting.pop_front() else { return };
            self.push(Upstream::Report(report));
        }
    }

    fn push(&mut self, item: Upstream) -> bool {
        let sent = self.ring.push(item).is_ok();
        self.shared.dirty.store(true, Ordering::Release);
        sent
    }
}

/// About 2 s of caller audio and the reserve.
const RING_ITEMS: usize = 128;
/// Places in the ring that audio leaves to digits and reports.
const RESERVED_ITEMS: usize = 24;
const WAITING_REPORTS: usize = 96;
/// Places that marks, of which the worker has at most 64, leave to other reports.
const RESERVED_REPORTS: usize = 24;
