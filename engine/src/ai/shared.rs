//! What the two ends of an AI stream share besides the rings.

use std::sync::atomic::{AtomicBool, AtomicU64};

use futures_util::task::AtomicWaker;

use super::dialect::AudioFormat;
use crate::command::Digit;
use crate::time::{Duration, Instant};

/// Caller audio goes up in blocks of this length.
pub(super) const BLOCK: Duration = Duration::from_millis(20);
/// A block of G.711.
pub(super) const BLOCK_BYTES: usize = AudioFormat::PCMU.bytes(BLOCK);
/// PCMU silence (ITU-T G.711).
pub(super) const SILENCE: u8 = 0xff;

/// From the worker to the AI thread.
#[derive(Debug)]
pub(super) enum Upstream {
    Audio { at: Instant, timestamp: u64, len: u8, bytes: [u8; BLOCK_BYTES] },
    Digit { timestamp: u64, digit: Digit, duration: Duration },
    Report(Report),
}

/// Something that happened in the playout or to the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// The worker's clock.
    pub(super) at: Instant,
    /// The RTP timestamp of the moment.
    pub(super) rtp_timestamp: u32,
    /// Samples taken from the ring before it, played or not.
    pub(super) position: u64,
    /// Samples handed to RTP before it.
    pub(super) played: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A mark was passed; `complete` if what was before it was played.
    Mark { id: u64, complete: bool },
    /// Clears took effect, up to this number: what was in the ring up to `to` is not played.
    Cleared { to: u64, number: u64 },
    /// The caller spoke: what is in the ring is not played, nor anything that comes to it before the AI thread has
    /// seen this.
    Interrupted { number: u64, speech: Onset },
    /// What was taken since `from` ran on unheard, because nothing may be sent.
    Unheard { from: u64 },
    /// The first sample of a spurt goes out.
    Began,
    /// The ring ran empty, and all of it was played.
    Empty,
    /// The caller begins to speak, or has ended.
    Speech { moment: Onset, speaking: bool },
    /// The call ends.
    Ended,
}

/// A moment in what the caller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Onset {
    /// The worker's clock.
    pub(super) at: Instant,
    /// Samples since the stream's start on the RTP timeline.
    pub(super) timestamp: u64,
}

/// A mark on its way to the worker. `position` counts the samples handed to the ring before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedMark {
    pub(super) position: u64,
    pub(super) id: u64,
    /// Some of the audio before it was left out before it came to the ring.
    pub(super) is_dropped: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Audio in the ring before this position is not to be played.
    pub(super) clear_to: AtomicU64,
    /// How many clears there were; stored after `clear_to`, which is read only when this has changed.
    pub(super) clears: AtomicU64,
    /// Audio in the ring before this position belongs to what the caller has interrupted.
    pub(super) interrupted_to: AtomicU64,
    /// The interruptions that the AI thread has seen; stored after `interrupted_to`.
    pub(super) interrupts_seen: AtomicU64,
    /// No more audio belongs to the utterance that ends at this position of the ring.
    pub(super) utterance_end: AtomicU64,
    /// Bot audio is to be kept and not played.
    pub(super) is_paused: AtomicBool,
    /// Gaps inside spurts.
    pub(super) underruns: AtomicU64,
    /// Samples of caller audio that found the ring full.
    pub(super) caller_samples_dropped: AtomicU64,
    /// The worker has pushed something since this was last reset.
    pub(super) dirty: AtomicBool,
    /// The worker's end is gone.
    pub(super) ended: AtomicBool,
    /// Signalling wants the stream to end.
    pub(super) stop: AtomicBool,
    /// Wakes the pump; workers never touch it, the doorbell's listener and signalling do.
    pub(super) waker: AtomicWaker,
}
