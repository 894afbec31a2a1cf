//! A call whose audio comes by a socket instead of RTP: Asterisk has dialled us by AudioSocket or `chan_websocket`.
//!
//! ```text
//!  socket -> codec -> caller (G.711 blocks, gaps filled) -> AiPort.push_audio   when it comes
//!  socket <- codec <- conversion <- voice (AiPort.pull | player | keys)         every 20 ms of the clock
//! ```
//! One task on an AI thread is what a worker is to a stream: it has the worker's end of the rings, so a bot knows no difference.
//! Nobody clocks it but its own timer. A timer that fires late is caught up with by at most [`clock::MOST_AT_ONCE`] frames; the rest
//! is left out, and what the bot says is heard that much later.

mod caller;
mod clock;
mod task;
#[cfg(test)]
mod tests;
mod voice;

use std::net::TcpStream;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::carrier::Socket;
use super::connect::ConnectError;
use super::dialect::{LineProtocol, LineStart};
use super::port::AiPort;
use super::runtime::AiRuntime;
use super::session::CommandError;
use crate::command::Digit;
use crate::player::Player;
use crate::stream::PlayoutReport;
use crate::time::Duration;

xdp::counters! {
    /// What calls by sockets have done. One set per [`AiRuntime`].
    pub struct LineCounters {
        started: "Calls by a socket that introduced themselves",
        not_started: "Connections that did not introduce a call in time or in order",
        ended_by_caller: "Calls by a socket that the peer ended in order",
        ended_here: "Calls by a socket that we ended",
        lost: "Calls by a socket whose connection broke",
        protocol_errors: "Calls by a socket ended because the peer broke the protocol",
        silent: "Calls by a socket ended because nothing came from the peer",
        stalled: "Calls by a socket ended because the peer did not read",
        frames_sent: "Frames of 20 ms sent to callers by a socket",
        frames_held: "Frames not made because the peer did not read or has enough",
        frames_late: "Frames made more than 20 ms late",
        frames_left_out: "Frames left out because the clock was too late to catch up",
        gap_frames: "Frames of silence put where no audio came from the caller",
        messages_ignored: "Messages of the peer that mean nothing, or are not allowed where they came",
        errors_reported: "Errors that the peer reported",
        digits: "Keys received",
        digits_dropped: "Keys dropped because nobody took them",
        echo_dropped: "Messages not echoed because the peer did not read",
    }
}

/// How a call by a socket is taken.
#[derive(Clone, Debug)]
pub struct LineConfig {
    /// What the peer speaks.
    pub protocol: LineProtocol,
    /// How long it may take to introduce the call.
    pub start_timeout: Duration,
    /// Ends a call from which nothing comes for so long; zero never does.
    pub silence_timeout: Duration,
    /// Ends a call whose peer takes nothing for so long.
    pub write_stall: Duration,
    /// How often a WebSocket is asked for a sign of life.
    pub ping_interval: Duration,
    /// Whether the channel is told to answer; one that answers by itself takes no harm.
    pub answer: bool,
}

impl LineConfig {
    /// With the defaults.
    #[must_use]
    pub const fn new(protocol: LineProtocol) -> Self {
        Self {
            protocol,
            start_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(60),
            write_stall: Duration::from_secs(2),
            ping_interval: Duration::from_secs(10),
            answer: false,
        }
    }
}

/// What the caller hears and who hears the caller.
#[derive(Debug, Default)]
pub enum LineApp {
    /// Silence, and nobody listens.
    #[default]
    Silence,
    /// The caller hears themselves.
    Echo,
    /// Recorded audio.
    Player(Box<Player>),
    /// An AI backend.
    Ai(Box<AiPort>),
}

/// What happens in a call by a socket.
#[derive(Debug, PartialEq)]
pub enum LineEvent {
    /// The caller pressed a key.
    Digit(Digit),
    /// A player is done.
    PlayFinished(PlayoutReport),
    /// The call is over. The last event.
    Ended(LineEnd, LineFigures),
}

/// How a call by a socket ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineEnd {
    /// The peer hung up.
    #[error("the caller hung up")]
    CallerHungUp,
    /// We hung up.
    #[error("hung up")]
    HungUp,
    /// The connection ended without a goodbye.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// Nothing came for too long.
    #[error("nothing came from the peer")]
    Silent,
    /// The peer does not read.
    #[error("the peer stopped reading")]
    Stalled,
    /// The AI thread has ended.
    #[error("the AI stream threads have ended")]
    Shutdown,
}

/// What a call by a socket was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineFigures {
    /// Caller audio that came.
    pub received: Duration,
    /// Audio that was sent.
    pub sent: Duration,
    /// Silence put where none came.
    pub gaps: Duration,
    /// Frames made more than 20 ms late.
    pub late_frames: u64,
    /// Frames left out because the clock was too late to catch up.
    pub left_out_frames: u64,
}

/// Why a connection is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It did not introduce itself in time.
    #[error("no call was introduced within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It ended, or broke the protocol, before.
    #[error("{0}")]
    Ended(#[from] LineEnd),
}

/// What signalling wants of a call.
#[derive(Debug)]
enum LineCommand {
    Attach(LineApp),
    Answer,
    Press(Digit, Duration),
    HangUp,
}

/// A call that came by a socket. Dropping it hangs up.
#[derive(Debug)]
pub struct SocketLine {
    commands: mpsc::Sender<LineCommand>,
    events: mpsc::Receiver<LineEvent>,
    end: Option<oneshot::Receiver<(LineEnd, LineFigures)>>,
}

impl SocketLine {
    /// Waits for the next event; `None` after the end was told. Cancel safe.
    pub async fn next_event(&mut self) -> Option<LineEvent> {
        if let Some(event) = self.events.recv().await {
            return Some(event);
        }
        let end = self.end.as_mut()?.await;
        self.end = None;
        let (end, figures) = end.unwrap_or_else(|_| (LineEnd::Shutdown, LineFigures::default()));
        Some(LineEvent::Ended(end, figures))
    }

    /// Changes what the caller hears and who hears the caller.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn attach(&self, app: LineApp) -> Result<(), CommandError> {
        self.command(LineCommand::Attach(app))
    }

    /// Takes the call, if [`LineConfig::answer`] wants that said.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn answer(&self) -> Result<(), CommandError> {
        self.command(LineCommand::Answer)
    }

    /// Presses a key at the caller's side: as tones, there is no other way.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn press(&self, digit: Digit, duration: Duration) -> Result<(), CommandError> {
        self.command(LineCommand::Press(digit, duration))
    }

    /// Hangs up; [`LineEvent::Ended`] follows.
    ///
    /// # Errors
    /// When it is not taken; dropping the line hangs up for certain.
    pub fn hang_up(&self) -> Result<(), CommandError> {
        self.command(LineCommand::HangUp)
    }

    fn command(&self, command: LineCommand) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Full,
            mpsc::error::TrySendError::Closed(_) => CommandError::Ended,
        })
    }
}

impl AiRuntime {
    /// Takes a connection over and waits until the peer has introduced its call. For a WebSocket the upgrade is done already, and
    /// nothing that came after it was read. The connection lives on the least busy AI thread, where it counts as a stream.
    ///
    /// Dropping the future ends the connection.
    ///
    /// # Errors
    /// When no call is introduced.
    pub async fn accept_line(
        &self,
        tcp: TcpStream,
        config: LineConfig,
    ) -> Result<(LineStart, SocketLine), LineError> {
        let counters = self.line_counters();
        let (started, start) = oneshot::channel();
        let accepting = task::accept(tcp, config, Arc::clone(&counters), started);
        let spawned: Result<(), ConnectError> = self.spawn(accepting);
        let accepted = match spawned {
            Ok(()) => start.await.unwrap_or(Err(LineError::Ended(LineEnd::Shutdown))),
            Err(_) => Err(LineError::Ended(LineEnd::Shutdown)),
        };
        match &accepted {
            Ok(_) => counters.started.increment(),
            Err(_) => counters.not_started.increment(),
        }
        accepted
    }
}

/// Commands and events that may wait.
const WAITING: usize = 32;
