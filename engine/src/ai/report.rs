//! What the worker's end of an AI stream reports to the AI thread.

use crate::command::Digit;
use crate::stream::PlayoutReport;
use crate::time::{Duration, Instant};

/// What the worker has reported. Every `at` is the worker's clock.
#[derive(Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// Caller audio.
    Audio {
        /// When the worker queued it.
        at: Instant,
        /// Samples since the stream's start on the RTP timeline.
        timestamp: u64,
        /// As the line has it, at most 20 ms.
        audio: AudioBlock,
    },
    /// The caller pressed and released a key.
    Digit {
        /// Samples since the stream's start on the RTP timeline.
        timestamp: u64,
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
    },
    /// The caller begins to speak, or has ended. Told of every stream, whoever decides about interruptions.
    Speech {
        /// When the first frame with speech was heard, or the last one. An end is told 300 ms late, when it is
        /// known to be one.
        at: Instant,
        /// Where that frame begins, or ends: samples since the stream's start on the RTP timeline.
        timestamp: u64,
        /// Begin or end.
        speaking: bool,
    },
    /// The audio before a mark was played, or left out.
    MarkPlayed {
        /// When.
        at: Instant,
        /// The mark's name.
        name: String,
        /// How far the playout was.
        report: PlayoutReport,
    },
    /// Clears have taken effect, all in one frame.
    Cleared {
        /// When: the frame before was the last with bot audio.
        at: Instant,
        /// The last of them, as [`super::Backend::clear`] numbered it.
        number: u64,
        /// How far the playout was.
        report: PlayoutReport,
    },
    /// The caller spoke, and all queued bot audio was dropped (barge-in by the engine). Marks that waited follow.
    Interrupted {
        /// When: the frame before was the last with bot audio.
        at: Instant,
        /// When the first frame of the speech was heard.
        speech_at: Instant,
        /// Where that frame begins: samples since the stream's start on the RTP timeline.
        speech: u64,
        /// How far the playout was.
        report: PlayoutReport,
    },
    /// The first sample of a spurt of bot audio is on its way to the caller. Not told after an underrun.
    Began {
        /// When.
        at: Instant,
        /// Where: nothing of the spurt was played yet.
        report: PlayoutReport,
    },
    /// All queued bot audio was played, and no more has come. May be told in mid-spurt of a backend that sends
    /// late.
    Finished {
        /// When.
        at: Instant,
        /// Where.
        report: PlayoutReport,
    },
    /// Once after [`super::Backend::report_drained`]: no bot audio is queued.
    Drained,
    /// More bot audio is queued than the latency budget allows, or again less than 80 % of that. Told with the
    /// policy [`super::LatencyPolicy::BackPressure`] only.
    Pressure {
        /// More or less.
        high: bool,
    },
    /// The call has ended. The last report of the playout.
    Ended {
        /// When the last frame was made.
        at: Instant,
        /// How far the playout was.
        report: PlayoutReport,
    },
}

/// At most 20 ms of the line's audio.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AudioBlock {
    pub(super) len: u8,
    pub(super) bytes: [u8; super::shared::BLOCK_BYTES],
}

impl std::ops::Deref for AudioBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl std::fmt::Debug for AudioBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AudioBlock({} bytes)", self.len)
    }
}
