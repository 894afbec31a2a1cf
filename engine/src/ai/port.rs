//! The worker's end of an AI stream: caller audio out, bot audio in, by bounded rings.

mod frame;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::Consumer;
use xdp::Doorbell;

use super::backend::Backend;
use super::barge_in::CallerEar;
use super::config::{BargeIn, LatencyBudget};
use super::counters::AiCounters;
use super::dialect::AudioFormat;
use super::line::Line;
use super::pacer::Pacer;
use super::shared::{BLOCK, Onset, QueuedMark, Shared, What};
use super::upstream::Sender;
use crate::codec::Law;
use crate::command::Digit;
use crate::time::{Duration, Instant};

/// How the two ends of an AI stream are made.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The index of the AI thread that serves the stream.
    pub thread: u8,
    /// What the rings carry: G.711 as the leg has it; anything else is taken for mu-law.
    pub line: AudioFormat,
    /// How much bot audio a spurt needs before it starts.
    pub cushion: Duration,
    /// How far underruns may raise the cushion.
    pub cushion_limit: Duration,
    /// How much bot audio may wait.
    pub max_queue: Duration,
    /// What happens when the caller speaks while the bot does.
    pub barge_in: BargeIn,
    /// How much bot audio should wait at most, and what happens when there is more.
    pub latency: LatencyBudget,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            thread: 0,
            line: AudioFormat::PCMU,
            cushion: Duration::from_millis(60),
            cushion_limit: Duration::from_millis(200),
            max_queue: Duration::from_secs(120),
            barge_in: BargeIn::default(),
            latency: LatencyBudget::default(),
        }
    }
}

/// The worker's end. Everything here is wait-free and allocates nothing.
///
/// One of [`AiPort::pull`] and [`AiPort::pass`] is called for every frame, because marks, clears and interruptions
/// are answered there.
#[derive(Debug)]
pub struct AiPort {
    line: Line,
    upstream: Sender,
    audio: Consumer<u8>,
    marks: Consumer<QueuedMark>,
    shared: Arc<Shared>,
    counters: Arc<AiCounters>,
    doorbell: Doorbell,
    thread: u8,
    pacer: Pacer,
    ear: CallerEar,
    /// The caller has interrupted the bot since the last frame.
    interruption: Option<Onset>,
    /// Samples of bot audio taken from the ring, played or not.
    position: u64,
    /// Samples of bot audio played.
    played: u64,
    /// The clears and the interruptions so far.
    clears: u64,
    interrupts: u64,
    /// The last span of positions that was not played, first excluded, last included.
    skipped: (u64, u64),
    /// Since where audio runs on unheard.
    unheard_from: Option<u64>,
    /// The last byte of the frame before, if the frame was bot audio to its end.
    last: Option<u8>,
    is_paused: bool,
    /// After the last frame.
    end: Moment,
}

/// When a frame is made, and the RTP timestamp of its first sample.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    rtp_timestamp: u32,
}

impl AiPort {
    /// Makes both ends; `doorbell` wakes the thread that serves the [`Backend`].
    #[must_use]
    pub fn pair(config: &PortConfig, doorbell: Doorbell, counters: Arc<AiCounters>) -> (Self, Backend) {
        let line = Line::new(config.line);
        let shared = Arc::new(Shared::default());
        let (upstream, from_port) = Sender::pair(Arc::clone(&shared), Arc::clone(&counters));
        let (to_port, audio) = rtrb::RingBuffer::new(line.format().bytes(RING));
        let (mark_producer, marks) = rtrb::RingBuffer::new(MARK_RING_ITEMS);
        let ends = (Arc::clone(&shared), Arc::clone(&counters));
        let backend = Backend::new(from_port, to_port, mark_producer, ends.0, ends.1, config);
        let port = Self {
            line,
            upstream,
            audio,
            marks,
            shared,
            counters,
            doorbell,
            thread: config.thread,
            pacer: Pacer::new(line, config.cushion, config.cushion_limit),
            ear: CallerEar::new(config.barge_in, line),
            interruption: None,
            position: 0,
            played: 0,
            clears: 0,
            interrupts: 0,
            skipped: (0, 0),
            unheard_from: None,
            last: None,
            is_paused: false,
            end: Moment { at: Instant::ZERO, rtp_timestamp: 0 },
        };
        (port, backend)
    }

    /// Takes caller audio as [`AiPort::law`] has it, in order and without gaps. `timestamp` counts samples since the
    /// stream's start on the RTP timeline; `now` is the worker's clock, from which the time to the socket is
    /// measured. A full ring drops the block and counts it.
    pub fn push_audio(&mut self, now: Instant, timestamp: u64, audio: &[u8]) {
        let mut timestamp = timestamp;
        for block in audio.chunks(self.line.format().bytes(BLOCK)) {
            self.upstream.audio(now, timestamp, block);
            let is_heard = !self.audio.is_empty() || self.pacer.is_in_spurt();
            let bot_speaks = is_heard && !self.is_holding();
            let heard = self.ear.hear(now, timestamp, block, bot_speaks);
            if let Some((moment, speaking)) = heard.change {
                self.report(self.end, self.position, self.played, What::Speech { moment, speaking });
            }
            self.interruption = heard.interrupts.or(self.interruption);
            timestamp += self.line.samples(block.len());
        }
    }

    /// Takes a digit at key release.
    pub fn push_digit(&mut self, timestamp: u64, digit: Digit, duration: Duration) {
        self.upstream.digit(timestamp, digit, duration);
    }

    /// Fills `frame` with the next bot audio as [`AiPort::law`] has it; returns how many bytes, the rest being
    /// silence. Marks that this passes are reported as played, with `rtp_timestamp` as the frame's first sample.
    ///
    /// A clear, an interruption or a pause takes effect before the first byte: the frame holds no bot audio from
    /// before. So that G.711 does not click where the audio is cut off, the silence then begins with 5 ms in which
    /// the last sample that was played fades away; that is no bot audio and counts for nothing.
    pub fn pull(&mut self, now: Instant, rtp_timestamp: u32, frame: &mut [u8]) -> usize {
        let moment = Moment { at: now, rtp_timestamp };
        if self.audio.is_abandoned() {
            self.line.silence(frame);
            self.fade(frame);
            return 0;
        }
        self.hear_again(moment, self.position);
        let cut = self.settle(moment);
        let start = self.position;
        let take = self.turn(moment, self.line.samples(frame.len()));
        let (filled, silence) = frame.split_at_mut(self.line.bytes(take).min(frame.len()));
        let taken = self.audio.pop_partial_slice(filled).0.len();
        self.line.silence(silence);
        if cut && taken == 0 {
            self.fade(silence);
        }
        self.last = if silence.is_empty() { filled.last().copied() } else { None };
        self.position += self.line.samples(taken);
        self.played += self.line.samples(taken);
        self.finish(moment, start, frame.len(), true);
        taken
    }

    /// As [`AiPort::pull`], for a frame that is not sent: bot audio runs on, and what of it belongs to this frame is
    /// neither heard nor counted as played. Marks in it are reported as if it were.
    pub fn pass(&mut self, now: Instant, rtp_timestamp: u32, frame_bytes: usize) {
        let moment = Moment { at: now, rtp_timestamp };
        if self.audio.is_abandoned() {
            return;
        }
        self.settle(moment);
        self.last = None;
        let start = self.position;
        let take = self.turn(moment, self.line.samples(frame_bytes));
        if let Ok(chunk) = self.audio.read_chunk(self.line.bytes(take).min(self.audio.slots())) {
            self.position += self.line.samples(chunk.len());
            chunk.commit_all();
        }
        if self.position > start {
            self.unheard_from.get_or_insert(start);
        }
        self.finish(moment, start, frame_bytes, false);
    }

    /// The law of the audio both ways.
    #[must_use]
    pub fn law(&self) -> Law {
        self.line.law()
    }

    /// Whether bot audio waits to be played. The queue beyond the ring is the other end's, which keeps the
    /// ring filled.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        !self.audio.is_empty()
    }

    /// How often what was queued has been cut off: by clears and by interruptions.
    pub(super) const fn cuts(&self) -> u64 {
        self.clears + self.interrupts
    }

    /// Wakes the other end, if there is something for it. For who may do more than a worker: no lock is taken, but the
    /// other thread's runtime may be rung.
    pub(super) fn wake(&self) {
        if self.shared.dirty.swap(false, Ordering::AcqRel) {
            self.shared.waker.wake();
        }
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
}

impl Drop for AiPort {
    /// The call has ended: wakes the other end, which finds its ring abandoned. Ports are dropped by
    /// signalling, which gets them back from the worker, so this may make a system call.
    fn drop(&mut self) {
        self.report(self.end, self.position, self.played, What::Ended);
        self.upstream.flush();
        self.shared.ended.store(true, Ordering::Release);
        self.shared.dirty.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

/// Bot audio in the ring.
const RING: Duration = Duration::from_millis(1024);
const MARK_RING_ITEMS: usize = 64;
