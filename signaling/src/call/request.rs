//! What somebody outside may want of a call that runs.

use std::sync::Arc;
use std::time::Duration;

use engine::ai::AiFigures;
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::sip::TransferTarget;

/// What somebody outside may want of a call, on behalf of its app.
#[derive(Debug)]
pub enum CallRequest {
    /// Hang up once the app has been heard to the end.
    HangUp,
    /// Transfer the call once the app has been heard to the end.
    Transfer(TransferTarget),
    /// The figures of the AI stream.
    Figures(oneshot::Sender<AiFigures>),
    /// Something that is done at once, or refused.
    Control(Control, oneshot::Sender<Result<(), ControlError>>),
}

/// What is done at once, or refused.
#[derive(Clone, Debug)]
pub enum Control {
    /// Puts the peer on hold, or takes it back.
    Hold(bool),
    /// What the peer says reaches nobody, or does again.
    Mute(bool),
    /// Plays a recording (8 kHz) instead of what is heard now; an echo or silence comes back when it is over.
    Play {
        /// The recording.
        samples: Arc<[i16]>,
        /// Again and again.
        repeat: bool,
    },
    /// Ends what plays.
    StopPlaying,
    /// Presses keys at the peer's side: `0` to `9`, `*`, `#`, `A` to `D`, and pauses.
    Press(String),
    /// Collects keys that the peer presses; what came of it is told as an event and with the call.
    Gather(Gather),
}

/// Which keys are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Ends when there are so many.
    pub max_digits: usize,
    /// Ends with one of these keys, which are not part of the result.
    pub terminators: String,
    /// How long to wait for the first key.
    pub first_timeout: Duration,
    /// How long to wait for each further key.
    pub digit_timeout: Duration,
}

/// The keys that were collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Gathered {
    /// Without the one that ended it.
    pub digits: String,
    /// Why it ended.
    pub reason: GatherEnd,
}

/// Why the collecting of keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GatherEnd {
    /// One of the keys that end it.
    Terminator,
    /// There were as many as wanted.
    MaxDigits,
    /// The next key did not come in time.
    Timeout,
    /// The call ended, or another collecting began.
    Interrupted,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not with the app of this call.
    #[error("{0}")]
    NotWithThisApp(&'static str),
    /// Not now.
    #[error("{0}")]
    NotNow(&'static str),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The engine or the peer does not take it.
    #[error("{0}")]
    Failed(String),
}
