//! The worker's end of an AI stream (architecture D10): caller audio out, bot audio in, by bounded rings.

use crate::command::Digit;
use crate::time::Duration;

/// The worker's end. Everything here is wait-free and allocates nothing.
#[derive(Debug)]
pub struct AiPort {
    thread: u8,
}

impl AiPort {
    /// Takes caller audio as PCMU bytes, in order and without gaps. `timestamp` counts samples since the
    /// stream's start on the RTP timeline. A full ring drops the block and counts it.
    pub fn push_audio(&mut self, _timestamp: u64, _audio: &[u8]) {}

    /// Takes a digit at key release.
    pub fn push_digit(&mut self, _timestamp: u64, _digit: Digit, _duration: Duration) {}

    /// Fills `frame` with the next bot audio as PCMU; returns how many bytes, the rest being silence.
    /// Marks that this passes are reported as played, with `rtp_timestamp` as the frame's first sample.
    /// A clear that has arrived takes effect before the first byte.
    pub fn pull(&mut self, _rtp_timestamp: u32, _frame: &mut [u8]) -> usize {
        0
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        false
    }

    /// The AI thread that reads what was pushed.
    #[must_use]
    pub fn thread(&self) -> u8 {
        self.thread
    }
}
