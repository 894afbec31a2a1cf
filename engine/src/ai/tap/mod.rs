//! Taps: copies of what a call carries, for somebody who listens and is not heard.
//!
//! ```text
//!  worker:    both directions -> Taps -> TapPort --ring--+
//!  AI thread:                                            +-> Aligner -> TapWire -> WebSocket
//! ```
//!
//! A worker only copies to a ring and counts what finds no room: it wakes nobody, so that a tap costs the call
//! nothing else. The other end looks every 20 ms.

mod align;
mod pump;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use super::dialect::TapTracks;
use crate::codec::Law;
use crate::rtp::TICK_NANOS;
use crate::time::Instant;

pub use pump::{TapConfig, TapEnd, TapFigures, TapHandle, TapSession};

/// Names a tap among all of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TapId(pub u64);

/// A direction of a call, as telephony platforms name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TapTrack {
    /// What comes from the caller: of a relay, from party A.
    Inbound,
    /// What goes to the caller: of a relay, what comes from party B.
    Outbound,
}

impl TapTrack {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A piece of one direction.
#[derive(Debug)]
struct TapBlock {
    /// When the worker had it.
    at: Instant,
    track: TapTrack,
    law: Law,
    /// Its first sample, at 8 kHz, on a line that both directions share.
    position: u64,
    len: u8,
    bytes: [u8; BLOCK_SAMPLES],
}

#[derive(Debug, Default)]
struct TapShared {
    /// The listener is to be sent no more.
    stop: AtomicBool,
    /// Blocks that found no room in the ring.
    overflow: AtomicU64,
    /// Blocks of 20 ms that were sent.
    sent: AtomicU64,
    /// Blocks of 20 ms that the listener was too slow for.
    stale: AtomicU64,
    /// Pieces that came when their turn was over.
    late: AtomicU64,
}

/// The worker's end of a tap. Wait-free, and allocates nothing.
#[derive(Debug)]
pub struct TapPort {
    id: TapId,
    tracks: TapTracks,
    ring: Producer<TapBlock>,
    shared: Arc<TapShared>,
    /// The position that is the tap's first.
    start: Option<u64>,
}

impl TapPort {
    fn pair(id: TapId, tracks: TapTracks) -> (Box<Self>, Consumer<TapBlock>, Arc<TapShared>) {
        let (ring, blocks) = RingBuffer::new(RING_BLOCKS);
        let shared = Arc::new(TapShared::default());
        (Box::new(Self { id, tracks, ring, shared: Arc::clone(&shared), start: None }), blocks, shared)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> TapId {
        self.id
    }

    /// Whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }

    fn hear(&mut self, track: TapTrack, now: Instant, law: Law, position: u64, audio: &[u8]) {
        if !self.tracks.has(track) {
            return;
        }
        let start = *self.start.get_or_insert(position);
        for (n, piece) in audio.chunks(BLOCK_SAMPLES).enumerate() {
            let Some(position) = (position + (n * BLOCK_SAMPLES) as u64).checked_sub(start) else { continue };
            let mut bytes = [0; BLOCK_SAMPLES];
            bytes[..piece.len()].copy_from_slice(piece);
            let block = TapBlock { at: now, track, law, position, len: piece.len() as u8, bytes };
            if self.ring.push(block).is_err() {
                self.shared.overflow.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The taps of one call, in its stream or relay.
#[derive(Debug, Default)]
pub struct Taps {
    ports: [Option<Box<TapPort>>; Self::CAPACITY],
    timelines: [Timeline; 2],
    /// Samples since the stream's start.
    position: u64,
}

impl Taps {
    /// How many listeners one call may have.
    pub const CAPACITY: usize = 4;

    /// Whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.iter().all(Option::is_none)
    }

    /// Adds a tap, or gives it back if there is no room.
    pub fn add(&mut self, tap: Box<TapPort>) -> Option<Box<TapPort>> {
        match self.ports.iter_mut().find(|port| port.is_none()) {
            Some(port) => port.replace(tap),
            None => Some(tap),
        }
    }

    /// Takes a tap out.
    pub fn remove(&mut self, id: TapId) -> Option<Box<TapPort>> {
        self.ports.iter_mut().find(|port| port.as_ref().is_some_and(|port| port.id == id))?.take()
    }

    /// Copies what belongs at [`Taps::advance`]'s position.
    #[inline]
    pub(crate) fn hear(&mut self, track: TapTrack, now: Instant, law: Law, audio: &[u8]) {
        for port in self.ports.iter_mut().flatten() {
            port.hear(track, now, law, self.position, audio);
        }
    }

    /// A frame is over.
    #[inline]
    pub(crate) fn advance(&mut self, samples: u64) {
        self.position += samples;
    }

    /// Copies a packet whose place on the common line follows from when it came and from its timestamp.
    pub(crate) fn hear_packet(
        &mut self,
        track: TapTrack,
        now: Instant,
        law: Law,
        timestamp: u32,
        payload: &[u8],
    ) {
        if self.is_empty() {
            return;
        }
        let position = self.timelines[track.index()].place(now, timestamp);
        for port in self.ports.iter_mut().flatten() {
            port.hear(track, now, law, position, payload);
        }
    }
}

/// Where a party's RTP timestamps lie on the clock: where its first packet came, and by the timestamps from there on.
#[derive(Clone, Copy, Debug, Default)]
struct Timeline {
    /// A timestamp and its position.
    known: Option<(u32, u64)>,
}

impl Timeline {
    fn place(&mut self, now: Instant, timestamp: u32) -> u64 {
        let arrival = now.as_nanos() / TICK_NANOS;
        if let Some((known, position)) = self.known {
            let ahead = timestamp.wrapping_sub(known).cast_signed();
            let position = position.checked_add_signed(i64::from(ahead));
            if let Some(position) = position.filter(|position| position.abs_diff(arrival) <= MOST_SKEW) {
                if ahead > 0 {
                    self.known = Some((timestamp, position));
                }
                return position;
            }
        }
        // Another source, a jump, or clocks that have run apart.
        self.known = Some((timestamp, arrival));
        arrival
    }
}

/// 20 ms.
const BLOCK_SAMPLES: usize = 160;
/// About two seconds of both directions.
const RING_BLOCKS: usize = 256;
/// A second.
const MOST_SKEW: u64 = 8_000;
