//! The adaptive jitter buffer: packets come in by sequence number, audio goes out by time.
//!
//! ```text
//!   insert(packet) -> slots -> pull(tick) -> one frame of the consumer's codec and length
//!                       |         | missing: concealment    pause: comfort noise
//!                   estimator -> delay: the tick slews, pitch periods are left out or repeated
//! ```
//!
//! The media timeline is the peer's RTP timestamp, unwrapped. `position` is the next sample to be played,
//! and the delay in force is "next tick less `position`" on that timeline. The estimator says which delay
//! is enough; the stream's tick slews towards it by at most [`MAX_SLEW`] per frame, which also follows the
//! peer's clock. A delay that is wrong by more and for longer is mended in the audio itself: frames of silence are
//! skipped, and of speech single pitch periods, a quarter of the time at most, so that 200 ms are caught up with within a
//! second. Audio of a network that is as it was is never touched. A packet that comes after the buffer ran dry moves the position back, so nothing is lost
//! and the delay has grown at once.

mod estimator;
mod pace;
#[cfg(test)]
mod simulation;
mod slots;
#[cfg(test)]
mod tests;

use crate::codec::Law;
use crate::codec::comfort_noise::ComfortNoise;
use crate::dsp::conceal::Concealer;
use crate::rtp::TICK_NANOS;
use crate::time::{Duration, Instant};
use estimator::Estimator;
use pace::Pace;
use slots::{Content, Slots};

pub use slots::MAX_PAYLOAD_BYTES;

/// One packet, its header already checked and its sequence number extended.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When it came.
    pub at: Instant,
    /// The extended sequence number, not 0.
    pub sequence: u64,
    /// As on the wire.
    pub timestamp: u32,
    /// What it carries.
    pub media: Media<'a>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub enum Media<'a> {
    /// One byte per sample, at most [`MAX_PAYLOAD_BYTES`].
    Audio(Law, &'a [u8]),
    /// Comfort noise (RFC 3389): no audio from here on.
    ComfortNoise(&'a [u8]),
    /// A telephone-event: no audio from here on, either.
    Event,
}

/// The stream's frame clock as it stands when a packet comes.
#[derive(Clone, Copy, Debug)]
pub struct FrameClock {
    /// When the next frame will be pulled.
    pub next: Instant,
    /// Samples per frame, not 0.
    pub samples: usize,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It waits for its turn.
    Waiting,
    /// It waits, and is the first of a timeline: the tick may move to this moment at once.
    Align(Instant),
    /// Its turn was over.
    Late,
    /// It was there already.
    Duplicate,
}

/// What a frame was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Audio from packets.
    Audio,
    /// Made up, at least in part.
    Concealed,
    /// The peer sends nothing: silence or comfort noise.
    Pause,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct JitterBuffer {
    slots: Slots,
    estimator: Estimator,
    concealer: Concealer,
    noise: ComfortNoise,
    /// The newest timestamp, unwrapped; `None` before the first packet.
    newest: Option<i64>,
    position: i64,
    /// The end of the last audio that was really played.
    played_until: i64,
    played_sequence: u64,
    /// The peer has said that it sends nothing for now.
    paused: bool,
    /// Samples since audio was there.
    dry_samples: u32,
    late_in_a_row: u8,
    pace: Pace,
    last_arrival: Instant,
    /// The consumer's codec.
    codec: Law,
}

impl JitterBuffer {
    /// Takes all the memory it will need.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: Slots::new(),
            estimator: Estimator::new(),
            concealer: Concealer::new(SAMPLES_PER_MS),
            noise: ComfortNoise::new(),
            newest: None,
            position: 0,
            played_until: i64::MIN,
            played_sequence: 0,
            paused: false,
            dry_samples: IDLE_SAMPLES,
            late_in_a_row: 0,
            pace: Pace::new(),
            last_arrival: Instant::ZERO,
            codec: Law::Mu,
        }
    }

    /// Forgets the timeline and what waits: another source, or the end of a hold. What was heard last fades.
    pub fn reset(&mut self) {
        self.slots.clear();
        self.estimator.reset();
        self.newest = None;
        self.played_until = i64::MIN;
        self.played_sequence = 0;
        self.paused = false;
        self.late_in_a_row = 0;
    }

    /// Takes a packet.
    pub fn insert(&mut self, arrival: &Arrival<'_>, clock: FrameClock) -> Inserted {
        let Some(newest) = self.newest else { return self.start(arrival, clock) };
        let timestamp = newest + i64::from(arrival.timestamp.wrapping_sub(newest as u32) as i32);
        let is_newest = arrival.sequence > self.slots.highest();
        let lead = to_nanos(timestamp - self.position) + nanos(clock.next) - nanos(arrival.at);
        self.last_arrival = arrival.at;
        let Media::Audio(_, payload) = arrival.media else {
            // Its place may be on another timeline than that of the audio: it must not hold up what comes after it.
            return match lead > RESTART_NANOS {
                true if is_newest => self.store(arrival, newest),
                true => Inserted::Late,
                false => self.store(arrival, timestamp),
            };
        };
        if lead.abs() > RESTART_NANOS {
            // What was overtaken by a new timeline says nothing about it.
            return if is_newest { self.start(arrival, clock) } else { Inserted::Late };
        }
        if is_newest {
            self.newest = Some(timestamp);
            if self.dry_samples >= IDLE_SAMPLES || (self.paused && self.dry_samples > 0) {
                self.place(timestamp, arrival.at, clock);
            }
        }
        // What the buffer's own cuts cost is not the network's doing.
        let need = self.need(timestamp, arrival.at, clock) - self.pace.uneven_nanos();
        self.estimator.record(arrival.at, need);
        let end = timestamp + payload.len() as i64;
        if timestamp < self.position && is_newest && self.slots.audio_end().is_none() {
            self.move_back(timestamp.max(self.played_until), clock);
        }
        if end <= self.position {
            if is_newest {
                self.late_in_a_row += 1;
                if self.late_in_a_row >= LATE_BEFORE_RESTART {
                    return self.start(arrival, clock);
                }
            }
            return Inserted::Late;
        }
        if is_newest {
            self.late_in_a_row = 0;
        }
        self.store(arrival, timestamp)
    }

    /// Fills `frame` (at most [`MAX_PAYLOAD_BYTES`]) with the audio for the tick at `tick`. Audio that
    /// came in `codec` is copied untouched.
    pub fn pull(&mut self, tick: Instant, codec: Law, frame: &mut [u8]) -> Pulled {
        self.codec = codec;
        if self.newest.is_none() {
            self.conceal_or_rest(frame);
            return Pulled::Pause;
        }
        self.skip_if_too_late(tick, frame.len());
        let stretched = self.stretch(tick, frame);
        let mut pulled = if stretched > 0 { Pulled::Audio } else { Pulled::Pause };
        let mut rest = &mut frame[stretched..];
        while !rest.is_empty() {
            let (piece, source) = self.next_piece(rest.len());
            let (now, later) = rest.split_at_mut(piece);
            rest = later;
            let made_of = match source {
                Source::Audio => self.play(now),
                Source::Pause => self.rest(now),
                Source::Missing => self.conceal(now),
                Source::Dry => {
                    let paused = self.paused || self.dry_samples >= IDLE_SAMPLES;
                    self.dry_samples = (self.dry_samples + piece as u32).min(IDLE_SAMPLES);
                    if self.paused {
                        self.rest(now)
                    } else {
                        self.conceal(now)
                    };
                    if paused { Pulled::Pause } else { Pulled::Concealed }
                }
            };
            self.position += piece as i64;
            pulled = match (pulled, made_of) {
                (Pulled::Concealed, _) | (_, Pulled::Concealed) => Pulled::Concealed,
                (Pulled::Audio, _) | (_, Pulled::Audio) => Pulled::Audio,
                (Pulled::Pause, Pulled::Pause) => Pulled::Pause,
            };
        }
        pulled
    }

    /// Whether the next frame of `samples` lacks audio that may be on its way: it was flowing until now, and
    /// nothing later has come.
    #[must_use]
    pub fn is_short(&self, now: Instant, samples: usize) -> bool {
        if self.newest.is_none()
            || self.paused
            || self.dry_samples > 0
            || now - self.last_arrival > STALE_AFTER
        {
            return false;
        }
        match self.slots.newest() {
            None => true,
            Some(slot) => {
                matches!(slot.content, Content::Audio(_)) && slot.end() < self.position + samples as i64
            }
        }
    }

    /// Leaves out what belongs to frames that are not made.
    pub fn skip(&mut self, samples: u64) {
        if self.newest.is_some() {
            self.position += samples as i64;
            self.played_until = self.position;
        }
    }

    /// How far the tick after the one at `tick` shall move, in nanoseconds: towards the right delay, later
    /// if positive. Zero while nothing arrives. Called after [`JitterBuffer::pull`] of `samples`.
    #[must_use]
    pub fn slew(&self, tick: Instant, samples: usize) -> i64 {
        let Some(target) = self.target() else { return 0 };
        if tick.saturating_duration_since(self.last_arrival) > STALE_AFTER {
            return 0;
        }
        let delay = nanos(tick) - to_nanos(self.position - samples as i64);
        let missing = target + self.pace.uneven_nanos() - delay;
        // Growing is urgent; shrinking is not, and an exact approach keeps the pace even.
        if missing > 0 { missing.min(MAX_SLEW) } else { (missing / 16).max(-MAX_SLEW) }
    }

    /// The delay in force for the tick at `tick`: from when an undelayed packet comes to when it is played.
    #[must_use]
    pub fn delay(&self, tick: Instant) -> Duration {
        if self.newest.is_none() || self.estimator.target().is_none() {
            return Duration::ZERO;
        }
        let delay = nanos(tick) - to_nanos(self.position) - self.estimator.floor();
        Duration::from_nanos(u64::try_from(delay).unwrap_or(0))
    }

    /// Begins a timeline with this packet.
    fn start(&mut self, arrival: &Arrival<'_>, clock: FrameClock) -> Inserted {
        self.reset();
        let timestamp = FIRST_CYCLE + i64::from(arrival.timestamp);
        self.newest = Some(timestamp);
        self.last_arrival = arrival.at;
        self.dry_samples = IDLE_SAMPLES;
        self.place(timestamp, arrival.at, clock);
        if matches!(arrival.media, Media::Audio(..)) {
            let need = self.need(timestamp, arrival.at, clock);
            self.estimator.record(arrival.at, need);
        }
        match self.store(arrival, timestamp) {
            Inserted::Waiting => Inserted::Align(arrival.at + CUSHION),
            other => other,
        }
    }

    /// The stream has moved its tick to the moment that [`Inserted::Align`] named.
    pub fn align(&mut self) {
        if let Some(newest) = self.newest {
            self.position = newest;
            self.pace.begin_evenly();
            self.estimator.reset();
            self.estimator.record(self.last_arrival, nanos(self.last_arrival) - to_nanos(newest));
        }
    }

    /// Chooses the position so that audio from `timestamp` on, come at `at`, is played whole frames later
    /// and with at least the delay wanted.
    fn place(&mut self, timestamp: i64, at: Instant, clock: FrameClock) {
        let own = nanos(at) - to_nanos(timestamp);
        let wanted = match self.target() {
            Some(target) if (target - own).abs() <= MAX_DELAY => target.max(own),
            _ => {
                self.estimator.reset();
                own
            }
        };
        let missing = (wanted - (nanos(clock.next) - to_nanos(timestamp))).max(0);
        let frame = to_nanos(clock.samples as i64);
        // The slew closes what is left, so a little too early is right.
        let frames = (missing + frame - SLEWABLE) / frame;
        self.pace.begin_evenly();
        self.position = timestamp - frames.clamp(0, MAX_DELAY / frame + 1) * clock.samples as i64;
    }

    /// Audio that came too late while nothing else waits: play it from here after all, and be slower.
    fn move_back(&mut self, to: i64, clock: FrameClock) {
        let delay = nanos(clock.next) - to_nanos(to);
        if to < self.position && delay <= self.estimator.floor().saturating_add(MAX_BACKLOG) {
            self.position = to;
        }
    }

    fn store(&mut self, arrival: &Arrival<'_>, timestamp: i64) -> Inserted {
        let (content, payload) = match arrival.media {
            Media::Audio(codec, payload) => (Content::Audio(codec), payload),
            Media::ComfortNoise(payload) => {
                let mut noise = self.noise;
                noise.handle_payload(payload);
                (Content::Pause(noise), &[][..])
            }
            Media::Event => (Content::Pause(ComfortNoise::new()), &[][..]),
        };
        if self.slots.insert(arrival.sequence, timestamp, content, payload) {
            Inserted::Waiting
        } else if arrival.sequence > self.played_sequence {
            Inserted::Duplicate
        } else {
            Inserted::Late
        }
    }

    /// Arrival less media time of the frame that wants `timestamp`.
    fn need(&self, timestamp: i64, at: Instant, clock: FrameClock) -> i64 {
        let samples = clock.samples as i64;
        let frame = (timestamp - self.position).div_euclid(samples);
        nanos(at) - to_nanos(self.position + frame * samples)
    }

    fn target(&self) -> Option<i64> {
        let enough = self.estimator.target()?.saturating_add(CUSHION.as_nanos() as i64);
        Some(enough.min(self.estimator.floor().saturating_add(MAX_DELAY)))
    }

    /// What comes at the position and how many samples of it, at most `room`.
    fn next_piece(&mut self, room: usize) -> (usize, Source) {
        loop {
            let position = self.position;
            let Some(slot) = self.slots.next(position) else { return (room, Source::Dry) };
            let ahead = slot.timestamp - position;
            if ahead > 0 {
                let room = usize::try_from(ahead).unwrap_or(room).min(room);
                // No packet is missing: the sender itself left the gap (silence suppression).
                let contiguous = slot.sequence == self.played_sequence + 1;
                let resting = self.paused || contiguous || self.dry_samples >= IDLE_SAMPLES;
                return (room, if resting { Source::Pause } else { Source::Missing });
            }
            match slot.content {
                Content::Audio(_) => {
                    return (usize::try_from(slot.end() - position).unwrap_or(room).min(room), Source::Audio);
                }
                Content::Pause(noise) => {
                    let sequence = slot.sequence;
                    self.noise = noise;
                    self.paused = true;
                    self.played_sequence = sequence;
                    self.slots.free(sequence);
                }
            }
        }
    }

    /// Copies audio from the slot at the position, which [`JitterBuffer::next_piece`] has found there.
    fn play(&mut self, piece: &mut [u8]) -> Pulled {
        let codec = self.codec;
        if let Some(slot) = self.slots.next(self.position)
            && let Content::Audio(from) = slot.content
            && let Ok(offset) = usize::try_from(self.position - slot.timestamp)
        {
            from.transcode(codec, &slot.payload()[offset..], piece);
            self.played_sequence = slot.sequence;
        }
        self.played_until = self.position + piece.len() as i64;
        self.paused = false;
        self.dry_samples = 0;
        let mut pcm = [0; MAX_PAYLOAD_BYTES];
        let pcm = &mut pcm[..piece.len()];
        codec.decode(piece, pcm);
        let changed = self.concealer.pending_recovery().min(pcm.len());
        self.concealer.hear(pcm);
        codec.encode(&pcm[..changed], piece);
        Pulled::Audio
    }

    fn conceal(&mut self, piece: &mut [u8]) -> Pulled {
        let mut pcm = [0; MAX_PAYLOAD_BYTES];
        let pcm = &mut pcm[..piece.len()];
        self.concealer.conceal(pcm);
        self.codec.encode(pcm, piece);
        Pulled::Concealed
    }

    fn rest(&mut self, piece: &mut [u8]) -> Pulled {
        let mut pcm = [0; MAX_PAYLOAD_BYTES];
        let pcm = &mut pcm[..piece.len()];
        self.noise.fill(pcm);
        self.concealer.hear(pcm);
        self.codec.encode(pcm, piece);
        Pulled::Pause
    }

    /// Without a timeline: what was heard last fades, then silence.
    fn conceal_or_rest(&mut self, frame: &mut [u8]) {
        if self.dry_samples < IDLE_SAMPLES {
            self.dry_samples = (self.dry_samples + frame.len() as u32).min(IDLE_SAMPLES);
            self.conceal(frame);
        } else {
            frame.fill(self.codec.silence());
        }
    }
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

enum Source {
    Audio,
    Pause,
    Missing,
    Dry,
}

fn nanos(instant: Instant) -> i64 {
    instant.as_nanos() as i64
}

fn to_nanos(samples: i64) -> i64 {
    samples * TICK_NANOS as i64
}

/// The most that the tick moves per frame, in nanoseconds.
pub const MAX_SLEW: i64 = 500_000;
/// Between a packet's arrival and its frame on a clean network; a frame whose packet is later than that waits for it.
const CUSHION: Duration = Duration::from_micros(1500);
/// The most that the buffer delays, beyond an undelayed packet.
const MAX_DELAY: i64 = 200_000_000;
/// The most that it delays for as long as it takes to catch up, after the network stood still.
const MAX_BACKLOG: i64 = 400_000_000;
/// A transit time that changes by more is a new timeline.
const RESTART_NANOS: i64 = 1_000_000_000;
/// What the slew may close within a second or two.
const SLEWABLE: i64 = 5_000_000;
/// Nothing played for so long is a pause, not loss: half a second.
const IDLE_SAMPLES: u32 = 4000;
const LATE_BEFORE_RESTART: u8 = 5;
const STALE_AFTER: Duration = Duration::from_millis(200);
const SAMPLES_PER_MS: usize = 8;
const FIRST_CYCLE: i64 = 1 << 32;
