//! Signalling's view of a running AI stream.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::dialect::{Recording, Sender, ToolCall, ToolResult};
use super::figures::{AiFigures, Record};
use super::shared::Shared;
use crate::stream::PlayoutReport;

/// Something that signalling has to know about a running AI stream.
#[derive(Clone, Debug, PartialEq)]
pub enum AiEvent {
    /// The bot wants something of the call.
    Request(AiRequest),
    /// Something happened; nothing has to be done about it.
    Notice(AiNotice),
    /// The stream has ended. There is exactly one of these per stream, and it is the last event.
    Ended(AiEnd),
}

/// What a bot can want of the call. Strings come from the backend and are not to be trusted.
#[derive(Clone, Debug, PartialEq)]
pub enum AiRequest {
    /// Call a function, and give its result to [`AiSession::tool_result`].
    Tool(ToolCall),
    /// Send keys to the caller.
    SendDigits(String),
    /// Hang up. What was queued before has been played.
    HangUp {
        /// Why.
        reason: String,
    },
    /// Transfer the call. What was queued before has been played.
    Transfer {
        /// A symbolic name or an address.
        target: String,
    },
    /// Put the caller on hold, or take them back.
    Hold(bool),
    /// Steer the recording.
    Record(Recording),
}

/// What happened in an AI stream.
#[derive(Clone, Debug, PartialEq)]
pub enum AiNotice {
    /// Something was said.
    Transcript {
        /// By whom.
        from: Sender,
        /// The words.
        text: String,
    },
    /// The caller interrupted the bot.
    Interrupted {
        /// How far the playout was.
        report: PlayoutReport,
        /// Whether we decided it, not the backend.
        by_engine: bool,
    },
    /// The connection is lost; another is being made.
    Reconnecting {
        /// Why.
        reason: String,
    },
    /// There is a connection again.
    Reconnected {
        /// The position in [`super::AiConfig::fallbacks`]; `None` for the first choice.
        fallback: Option<usize>,
    },
    /// An event of the backend's own.
    Custom {
        /// Its name.
        name: String,
        /// JSON.
        data: String,
    },
    /// An error that the stream survives.
    Error {
        /// The backend's word for it.
        code: String,
        /// Its explanation.
        text: String,
    },
}

/// How an AI stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AiEnd {
    /// The backend closed the stream, which is how a Twilio backend hangs up. Audio that was queued has
    /// been played (within [`super::AiConfig::drain_limit`]) if the code is a normal one.
    Closed {
        /// The close code (RFC 6455 section 7.4); 1005 if there was none.
        code: u16,
        /// The backend's reason, untrusted.
        reason: String,
    },
    /// The stream broke. What was queued is not played.
    Failed(AiFailure),
    /// Our side ended the stream.
    Stopped,
}

impl AiEnd {
    /// Whether this is a hang-up rather than a fault.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        match self {
            Self::Closed { code, .. } => matches!(code, 1000 | 1001 | 1005),
            Self::Failed(_) => false,
            Self::Stopped => true,
        }
    }
}

/// Why a running AI stream broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AiFailure {
    /// The connection ended without a close frame.
    #[error("the connection to the AI backend was lost: {0}")]
    Lost(String),
    /// The backend does not keep to RFC 6455.
    #[error("the AI backend broke the WebSocket protocol: {0}")]
    Protocol(String),
    /// A message above the limit.
    #[error("the AI backend sent a message above the size limit: {0}")]
    MessageTooLarge(String),
    /// Nothing was heard for several ping intervals.
    #[error("the AI backend answered no ping and sent nothing else")]
    PingTimeout,
    /// The backend does not read.
    #[error("the AI backend stopped reading")]
    WriteStalled,
    /// The backend said that the session is of no use any more.
    #[error("the AI backend ended the session: {code}: {text}")]
    Rejected {
        /// The backend's word for it, cleaned.
        code: String,
        /// Its explanation, cleaned.
        text: String,
    },
    /// The connection was lost, and neither the backend nor a fallback could be reached again.
    #[error("the AI backend was lost ({lost}) and no other could be reached: {error}")]
    GivenUp {
        /// How it was lost.
        lost: String,
        /// Why the last attempt failed.
        error: String,
    },
    /// A bug in the AI thread, or its end.
    #[error("the AI stream's task ended early")]
    Internal,
}

/// What signalling wants of a running AI stream.
#[derive(Debug)]
pub(super) enum AiCommand {
    ToolResult(ToolResult),
    Say { from: Sender, text: String, respond: bool },
    Mute(bool),
    Pause(bool),
    Interrupt,
    Goodbye(AiRequest),
}

/// Why a command to an AI stream was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Too many wait already: the AI thread is overloaded, or the backend does not read. Try again later.
    #[error("the AI stream has too many commands waiting; try again later")]
    Full,
    /// The stream has ended.
    #[error("the AI stream has ended")]
    Ended,
}

/// A running AI stream. Dropping it leaves the stream running until the [`super::AiPort`] is dropped.
#[derive(Debug)]
pub struct AiSession {
    shared: Arc<Shared>,
    events: mpsc::Receiver<AiEvent>,
    commands: mpsc::Sender<AiCommand>,
    record: Arc<Mutex<Record>>,
    stream_sid: String,
    ended: bool,
}

impl AiSession {
    pub(super) fn new(
        shared: Arc<Shared>,
        events: mpsc::Receiver<AiEvent>,
        commands: mpsc::Sender<AiCommand>,
        record: Arc<Mutex<Record>>,
        stream_sid: String,
    ) -> Self {
        Self { shared, events, commands, record, stream_sid, ended: false }
    }

    /// Waits for the next event; `None` after the end was told. May be dropped and called again.
    pub async fn next_event(&mut self) -> Option<AiEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await.unwrap_or(AiEvent::Ended(AiEnd::Failed(AiFailure::Internal)));
        self.ended = matches!(event, AiEvent::Ended(_));
        Some(event)
    }

    /// Gives the result of an [`AiRequest::Tool`] to the backend. One that the backend has cancelled since is
    /// dropped.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn tool_result(&self, result: ToolResult) -> Result<(), CommandError> {
        self.command(AiCommand::ToolResult(result))
    }

    /// Gives the model something to read; with `respond` the bot is to speak about it at once.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn say(&self, from: Sender, text: impl Into<String>, respond: bool) -> Result<(), CommandError> {
        self.command(AiCommand::Say { from, text: text.into(), respond })
    }

    /// Lets the backend hear silence instead of the caller, or the caller again.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn mute(&self, muted: bool) -> Result<(), CommandError> {
        self.command(AiCommand::Mute(muted))
    }

    /// Keeps what the bot says in the queue, or plays on.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn pause(&self, paused: bool) -> Result<(), CommandError> {
        self.command(AiCommand::Pause(paused))
    }

    /// Sends `request` back as an [`AiEvent::Request`] once what the bot has said so far was heard, or
    /// [`super::AiConfig::drain_limit`] is over. One such request waits at a time; a second is dropped.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn after_goodbye(&self, request: AiRequest) -> Result<(), CommandError> {
        self.command(AiCommand::Goodbye(request))
    }

    /// Silences the bot as a caller that speaks does: what is queued is dropped, and the backend learns how
    /// far it was heard.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn interrupt(&self) -> Result<(), CommandError> {
        self.command(AiCommand::Interrupt)
    }

    /// What the stream was like so far.
    #[must_use]
    pub fn figures(&self) -> AiFigures {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).snapshot()
    }

    /// Tells the backend that the call has ended and closes the stream. Dropping the port does the same.
    pub fn stop(&self, reason: &str) {
        tracing::debug!(stream_sid = self.stream_sid, reason, "stopping the AI stream");
        self.shared.stop.store(true, Ordering::Release);
        self.shared.waker.wake();
    }

    /// The id that the backend knows the stream by; a new connection in mid-call has another.
    #[must_use]
    pub fn stream_sid(&self) -> &str {
        &self.stream_sid
    }

    fn command(&self, command: AiCommand) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Full,
            mpsc::error::TrySendError::Closed(_) => CommandError::Ended,
        })
    }
}

/// Commands that may wait for the AI thread.
pub(super) const COMMANDS: usize = 64;
