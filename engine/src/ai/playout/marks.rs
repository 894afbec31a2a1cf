//! The marks that were not answered yet, with their names.

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::Producer;

use crate::ai::counters::AiCounters;
use crate::ai::shared::QueuedMark;

/// Positions are those in the ring.
#[derive(Debug)]
pub(in crate::ai) struct Marks {
    ring: Producer<QueuedMark>,
    /// Marks whose audio is not in the ring yet, or that found the mark ring full.
    waiting: VecDeque<QueuedMark>,
    /// The names of all marks not answered yet, oldest first.
    names: VecDeque<(u64, String)>,
    name_bytes: usize,
    next: u64,
    counters: Arc<AiCounters>,
}

impl Marks {
    pub(in crate::ai) fn new(ring: Producer<QueuedMark>, counters: Arc<AiCounters>) -> Self {
        Self { ring, waiting: VecDeque::new(), names: VecDeque::new(), name_bytes: 0, next: 0, counters }
    }

    /// Whether all were answered.
    pub(in crate::ai) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many were not.
    pub(in crate::ai) fn len(&self) -> usize {
        self.names.len()
    }

    pub(in crate::ai) fn push(&mut self, name: String, position: u64) {
        if self.names.len() >= MAX_MARKS || self.name_bytes.saturating_add(name.len()) > MAX_NAME_BYTES {
            self.counters.marks_overflow.increment();
            return;
        }
        self.waiting.push_back(QueuedMark { position, id: self.next, is_dropped: false });
        self.name_bytes += name.len();
        self.names.push_back((self.next, name));
        self.next += 1;
    }

    /// Takes the name of the oldest mark, which the worker has passed.
    pub(in crate::ai) fn pop(&mut self, id: u64) -> Option<String> {
        // The rings keep the order.
        let (oldest, name) = self.names.pop_front()?;
        debug_assert_eq!(oldest, id, "marks are answered in order");
        self.name_bytes -= name.len();
        Some(name)
    }

    /// `samples` at `at` are not played, which never came to the ring.
    pub(in crate::ai) fn leave_out(&mut self, at: u64, samples: u64) {
        for mark in self.waiting.iter_mut().filter(|mark| mark.position > at) {
            mark.is_dropped |= mark.position <= at + samples;
            mark.position -= samples.min(mark.position - at);
        }
    }

    /// Hands those over whose audio is in the ring.
    pub(in crate::ai) fn top_up(&mut self, written: u64) {
        while let Some(&mark) = self.waiting.front() {
            if mark.position > written || self.ring.push(mark).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }
}

/// Marks that may wait at one time, and the bytes of their names.
pub(in crate::ai) const MAX_MARKS: usize = 4096;
const MAX_NAME_BYTES: usize = 256 * 1024;
