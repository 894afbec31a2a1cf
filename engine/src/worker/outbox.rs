//! Events on their way to the control side.

use std::collections::VecDeque;

use rtrb::{Producer, PushError};
use xdp::Doorbell;

use crate::event::Event;
use crate::worker::WorkerCounters;

/// The event ring, and the answers that wait for room in it.
#[derive(Debug)]
pub(super) struct Outbox {
    ring: Producer<Event>,
    /// Answers in order; its memory is taken once and is enough, see [`Outbox::new`].
    kept: VecDeque<Event>,
    doorbell: Doorbell,
    /// Whether the ring got something since the bell was rung.
    news: bool,
}

impl Outbox {
    /// A slot ends once before the control side may use it again, and a worker with kept events takes no
    /// more commands, so there are never more answers than `streams` and one command's.
    pub(super) fn new(ring: Producer<Event>, doorbell: Doorbell, streams: usize) -> Self {
        Self { ring, kept: VecDeque::with_capacity(streams + 8), doorbell, news: false }
    }

    /// Hands out the answer to a command, or the end of a stream: kept until it fits.
    pub(super) fn answer(&mut self, event: Event) {
        if !self.kept.is_empty() {
            self.kept.push_back(event);
            return;
        }
        match self.ring.push(event) {
            Ok(()) => self.news = true,
            Err(PushError::Full(event)) => self.kept.push_back(event),
        }
    }

    /// Whether there is room for what happens in streams. Nothing overtakes an answer: a stream's first
    /// event is that it was added.
    pub(super) fn has_room(&self) -> bool {
        self.kept.is_empty() && self.ring.slots() > 0
    }

    /// Hands out what happened in a stream, where [`Outbox::has_room`].
    pub(super) fn tell(&mut self, event: Event, counters: &WorkerCounters) {
        if self.ring.push(event).is_ok() {
            self.news = true;
        } else {
            counters.events_dropped.increment();
        }
    }

    /// Moves kept answers to the ring as far as they fit, and wakes the control side if there is news.
    pub(super) fn flush(&mut self) {
        while let Some(event) = self.kept.pop_front() {
            match self.ring.push(event) {
                Ok(()) => self.news = true,
                Err(PushError::Full(event)) => {
                    self.kept.push_front(event);
                    break;
                }
            }
        }
        if std::mem::take(&mut self.news) {
            self.doorbell.ring();
        }
    }

    /// How many answers wait.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}
