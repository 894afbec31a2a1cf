//! What the two ends of an AI stream share besides the rings.

use std::sync::atomic::{AtomicBool, AtomicU64};

use futures_util::task::AtomicWaker;

use crate::command::Digit;
use crate::stream::PlayoutReport;
use crate::time::{Duration, Instant};

/// 20 ms of PCMU at 8 kHz.
pub(super) const BLOCK_BYTES: usize = 160;
/// PCMU silence (ITU-T G.711).
pub(super) const SILENCE: u8 = 0xff;

/// From the worker to the AI thread, in order.
#[derive(Debug)]
pub(super) enum Upstream {
    Audio { at: Instant, timestamp: u64, len: u8, bytes: [u8; BLOCK_BYTES] },
    Digit { timestamp: u64, digit: Digit, duration: Duration },
    MarkPlayed { id: u64, report: PlayoutReport },
    Cleared { report: PlayoutReport },
}

/// A mark on its way to the worker. `position` counts the bytes of bot audio before it since the stream's
/// start.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedMark {
    pub(super) position: u64,
    pub(super) id: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bot audio before this position is not to be played.
    pub(super) clear_to: AtomicU64,
    /// How many clears there were; stored after `clear_to`.
    pub(super) clears: AtomicU64,
    /// The worker has pushed something since this was last reset.
    pub(super) dirty: AtomicBool,
    /// The worker's end is gone.
    pub(super) ended: AtomicBool,
    /// Signalling wants the stream to end.
    pub(super) stop: AtomicBool,
    /// Wakes the pump; workers never touch it, the doorbell's listener and signalling do.
    pub(super) waker: AtomicWaker,
}
