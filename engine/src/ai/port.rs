//! The worker's end of an AI stream: caller audio out, bot audio in, by bounded rings.

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
use super::pacer::{Pacer, Queue};
use super::shared::{BLOCK, Onset, QueuedMark, Report, Shared, What};
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
            let bot_speaks = !self.audio.is_empty() || self.pacer.is_in_spurt();
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

    /// Lets clears, interruptions and pauses take effect; true if bot audio is not to go on.
    fn settle(&mut self, moment: Moment) -> bool {
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
        self.report(moment, from, self.played, What::Cleared { to });
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

    fn is_holding(&self) -> bool {
        self.shared.interrupts_seen.load(Ordering::Acquire) != self.interrupts
    }

    /// How much to play in a frame of `wanted` samples.
    fn turn(&mut self, moment: Moment, wanted: u64) -> u64 {
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
    fn finish(&mut self, moment: Moment, start: u64, frame_bytes: usize, is_heard: bool) {
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
    fn report(&mut self, moment: Moment, position: u64, played: u64, what: What) {
        self.hear_again(moment, position);
        let Moment { at, rtp_timestamp } = moment;
        self.upstream.report(Report { at, rtp_timestamp, position, played, what });
    }

    /// What ran on unheard before `position` is told before anything else is.
    fn hear_again(&mut self, Moment { at, rtp_timestamp }: Moment, position: u64) {
        if let Some(from) = self.unheard_from.filter(|&from| from < position) {
            self.unheard_from = (position < self.position).then_some(position);
            let (played, what) = (self.played, What::Unheard { from });
            self.upstream.report(Report { at, rtp_timestamp, position, played, what });
        }
    }

    /// Begins silence after bot audio.
    fn fade(&mut self, silence: &mut [u8]) {
        if let Some(last) = self.last.take() {
            self.line.fade(last, silence);
        }
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
