//! What one AI stream was like for its caller.

use crate::time::Duration;

/// Figures of one stream, at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AiFigures {
    /// From the first attempt to connect to the session's readiness.
    pub connect: Duration,
    /// Connections made after the first.
    pub reconnects: u32,
    /// From readiness to the first sample of the bot on its way to the caller.
    pub first_audio: Option<Duration>,
    /// From the end of the caller's speech to the bot's first sample.
    pub response: Distribution,
    /// From the decision to interrupt to the last packet with bot audio.
    pub barge_in_stop: Distribution,
    /// How much bot audio waited, each time that some was queued.
    pub queue: Distribution,
    /// Times that the caller interrupted the bot.
    pub barge_ins: u64,
    /// Marks answered.
    pub marks: u64,
    /// Bot audio dropped, other than by a clear or an interruption.
    pub bot_audio_dropped: Duration,
    /// Caller audio dropped.
    pub caller_audio_dropped: Duration,
    /// Times that the latency budget was exceeded.
    pub budget_exceeded: u64,
    /// Gaps inside spurts of bot audio.
    pub underruns: u64,
}

/// What an HdrHistogram says of some durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Half are at most this.
    pub p50: Duration,
    /// 90 % are at most this.
    pub p90: Duration,
    /// 99 % are at most this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}
