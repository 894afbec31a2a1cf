//! The worker's end of an AI stream: caller audio out, bot audio in, by bounded rings.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer};
use xdp::Doorbell;

use super::backend::Backend;
use super::counters::AiCounters;
use super::pacer::Pacer;
use super::shared::{BLOCK_BYTES, QueuedMark, SILENCE, Shared, Upstream};
use crate::command::Digit;
use crate::stream::PlayoutReport;
use crate::time::{Duration, Instant};

/// How the two ends of an AI stream are made.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The index of the AI thread that serves the stream.
    pub thread: u8,
    /// How much bot audio a spurt needs before it starts; one byte of PCMU is 125 us.
    pub cushion: Duration,
    /// How far underruns may raise the cushion.
    pub cushion_limit: Duration,
    /// How much bot audio may wait.
    pub max_queue: Duration,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            thread: 0,
            cushion: Duration::from_millis(60),
            cushion_limit: Duration::from_millis(200),
            max_queue: Duration::from_secs(120),
        }
    }
}

/// The worker's end. Everything here is wait-free and allocates nothing.
///
/// Silence is not kept from [`AiPort::pull`]: it is called for every frame, even on hold, because marks and
/// clears are answered there.
#[derive(Debug)]
pub struct AiPort {
    upstream: Producer<Upstream>,
    audio: Consumer<u8>,
    marks: Consumer<QueuedMark>,
    shared: Arc<Shared>,
    counters: Arc<AiCounters>,
    doorbell: Doorbell,
    thread: u8,
    pacer: Pacer,
    /// Bytes of bot audio taken from the ring, played or cleared.
    position: u64,
    /// Bytes of bot audio played.
    played: u64,
    /// The clears seen so far.
    clears: u64,
    /// The last span of positions that a clear skipped, first excluded, last included.
    skipped: (u64, u64),
}

impl AiPort {
    /// Makes both ends; `doorbell` wakes the thread that serves the [`Backend`].
    #[must_use]
    pub fn pair(config: &PortConfig, doorbell: Doorbell, counters: Arc<AiCounters>) -> (Self, Backend) {
        let (upstream, from_port) = rtrb::RingBuffer::new(UPSTREAM_ITEMS);
        let (to_port, audio) = rtrb::RingBuffer::new(AUDIO_RING_BYTES);
        let (mark_producer, marks) = rtrb::RingBuffer::new(MARK_RING_ITEMS);
        let shared = Arc::new(Shared::default());
        let max_queue_bytes = samples(config.max_queue).max(AUDIO_RING_BYTES);
        let backend = Backend::new(
            from_port,
            to_port,
            mark_producer,
            Arc::clone(&shared),
            Arc::clone(&counters),
            max_queue_bytes,
        );
        let port = Self {
            upstream,
            audio,
            marks,
            shared,
            counters,
            doorbell,
            thread: config.thread,
            pacer: Pacer::new(samples(config.cushion), samples(config.cushion_limit)),
            position: 0,
            played: 0,
            clears: 0,
            skipped: (0, 0),
        };
        (port, backend)
    }

    /// Takes caller audio as PCMU bytes, in order and without gaps. `timestamp` counts samples since the
    /// stream's start on the RTP timeline; `now` is the worker's clock, from which the time to the socket is
    /// measured. A full ring drops the block and counts it.
    pub fn push_audio(&mut self, now: Instant, timestamp: u64, audio: &[u8]) {
        let mut timestamp = timestamp;
        for block in audio.chunks(BLOCK_BYTES) {
            if self.upstream.slots() <= RESERVED_ITEMS {
                self.counters.caller_audio_overflow.increment();
            } else {
                let mut bytes = [SILENCE; BLOCK_BYTES];
                bytes[..block.len()].copy_from_slice(block);
                self.send(Upstream::Audio { at: now, timestamp, len: block.len() as u8, bytes });
            }
            timestamp += block.len() as u64;
        }
    }

    /// Takes a digit at key release.
    pub fn push_digit(&mut self, timestamp: u64, digit: Digit, duration: Duration) {
        if !self.send(Upstream::Digit { timestamp, digit, duration }) {
            self.counters.digit_overflow.increment();
        }
    }

    /// Fills `frame` with the next bot audio as PCMU; returns how many bytes, the rest being silence.
    /// Marks that this passes are reported as played, with `rtp_timestamp` as the frame's first sample.
    /// A clear that has arrived takes effect before the first byte.
    pub fn pull(&mut self, rtp_timestamp: u32, frame: &mut [u8]) -> usize {
        if self.audio.is_abandoned() {
            frame.fill(SILENCE);
            return 0;
        }
        self.apply_clear(rtp_timestamp);

        let available = self.audio.slots();
        let end = self.position + available as u64;
        let boundary = self.marks.peek().is_ok_and(|mark| mark.position <= end);
        let turn = self.pacer.turn(end, available, frame.len(), boundary);
        if turn.underrun {
            self.counters.underruns.increment();
        }
        let (filled, silence) = frame.split_at_mut(turn.take.min(frame.len()));
        let taken = self.audio.pop_partial_slice(filled).0.len();
        silence.fill(SILENCE);

        let start = self.position;
        self.position += taken as u64;
        self.played += taken as u64;
        self.report_marks(start, rtp_timestamp);
        taken
    }

    /// Whether bot audio waits to be played. The queue beyond the ring is the other end's, which keeps the
    /// ring filled.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        !self.audio.is_empty()
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.audio.is_abandoned()
    }

    /// The AI thread that reads what was pushed.
    #[must_use]
    pub fn thread(&self) -> u8 {
        self.thread
    }

    fn apply_clear(&mut self, rtp_timestamp: u32) {
        // The generation is published after the position, so this order never reports a clear undone.
        let clears = self.shared.clears.load(Ordering::Acquire);
        let clear_to = self.shared.clear_to.load(Ordering::Acquire);
        if clear_to > self.position {
            let skip = usize::try_from(clear_to - self.position).unwrap_or(usize::MAX);
            if let Ok(chunk) = self.audio.read_chunk(skip.min(self.audio.slots())) {
                let skipped = chunk.len() as u64;
                chunk.commit_all();
                self.skipped = (self.position, self.position + skipped);
                self.position += skipped;
            }
            self.pacer.clear(self.position);
        }
        if clears != self.clears {
            self.clears = clears;
            let report = PlayoutReport { played_samples: self.played, rtp_timestamp, complete: false };
            if !self.send(Upstream::Cleared { report }) {
                self.counters.report_overflow.increment();
            }
        }
    }

    /// Reports the marks that have been passed. Those that find no room stay for the next frame.
    fn report_marks(&mut self, start: u64, rtp_timestamp: u32) {
        while self.upstream.slots() > 0 {
            let Ok(&mark) = self.marks.peek() else { return };
            if mark.position > self.position {
                return;
            }
            let _ = self.marks.pop();
            let offset = u32::try_from(mark.position.saturating_sub(start)).unwrap_or(0);
            let skipped = mark.position > self.skipped.0 && mark.position <= self.skipped.1;
            let report = PlayoutReport {
                played_samples: self.played - self.position.saturating_sub(mark.position).min(self.played),
                rtp_timestamp: rtp_timestamp.wrapping_add(offset),
                complete: !skipped,
            };
            self.send(Upstream::MarkPlayed { id: mark.id, report });
        }
    }

    fn send(&mut self, item: Upstream) -> bool {
        let sent = self.upstream.push(item).is_ok();
        self.shared.dirty.store(true, Ordering::Release);
        sent
    }
}

impl Drop for AiPort {
    /// The call has ended: wakes the other end, which finds its ring abandoned. Ports are dropped by
    /// signalling, which gets them back from the worker, so this may make a system call.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.dirty.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

/// Bytes of PCMU in `duration`, at 8 kHz.
pub(super) fn samples(duration: Duration) -> usize {
    usize::try_from(duration.as_millis().saturating_mul(8)).unwrap_or(usize::MAX)
}

/// About 2 s of caller audio and the reserve.
const UPSTREAM_ITEMS: usize = 128;
/// Places in the upstream ring that audio leaves to digits, marks and reports.
const RESERVED_ITEMS: usize = 24;
/// 1 s of bot audio.
pub(super) const AUDIO_RING_BYTES: usize = 8192;
const MARK_RING_ITEMS: usize = 64;
