//! What carries the messages of an AI stream: a WebSocket, or TCP with the frames of AudioSocket.

mod audiosocket;
mod websocket;

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio_tungstenite::tungstenite::Bytes;

use super::allowance::Allowance;
use super::dialect::Kind;
use super::link::monotonic_now;
pub(super) use audiosocket::AudioSocket;
pub(super) use websocket::{Transport, WebSocket};

/// A connection to a backend, used by polling.
///
/// Writing is two steps: when [`Socket::poll_ready`] says so, one message may be handed over; it leaves with the
/// next [`Socket::poll_ready`] or [`Socket::poll_flush`]. So never more than one message waits in here.
pub(super) enum Socket {
    WebSocket(Box<WebSocket>),
    AudioSocket(Box<AudioSocket>),
}

/// What came from the backend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message(Kind, Bytes),
    /// Nothing but a sign of life.
    Alive,
    /// The last thing before the end.
    Close(Close),
}

/// A close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Close {
    /// RFC 6455 section 7.4; 1005 if the peer gave none.
    pub(super) code: u16,
    /// Without control characters.
    pub(super) reason: String,
}

impl Close {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const AWAY: u16 = 1001;
    pub(super) const PROTOCOL: u16 = 1002;
    pub(super) const NO_STATUS: u16 = 1005;
    pub(super) const TOO_LARGE: u16 = 1009;
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CarrierError {
    /// A message is larger than [`super::AiConfig::max_message_bytes`].
    #[error("{0}")]
    TooLarge(String),
    /// The peer broke the rules of the carrier.
    #[error("{0}")]
    Protocol(String),
    /// The connection ended without a goodbye.
    #[error("{0}")]
    Lost(String),
}

impl Socket {
    /// Whether a message may be handed over. Sends what waits.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        match self {
            Self::WebSocket(socket) => socket.poll_ready(cx),
            Self::AudioSocket(socket) => socket.poll_ready(cx),
        }
    }

    /// Takes a message after [`Socket::poll_ready`]. Text must be UTF-8.
    pub(super) fn start_send(&mut self, kind: Kind, message: &[u8]) -> Result<(), CarrierError> {
        match self {
            Self::WebSocket(socket) => socket.start_send(kind, message),
            Self::AudioSocket(socket) => socket.start_send(kind, message),
        }
    }

    /// Asks for a sign of life, after [`Socket::poll_ready`]; `false` if the carrier has no way to ask.
    pub(super) fn start_ping(&mut self) -> Result<bool, CarrierError> {
        match self {
            Self::WebSocket(socket) => socket.start_ping().map(|()| true),
            Self::AudioSocket(_) => Ok(false),
        }
    }

    /// Says goodbye, after [`Socket::poll_ready`].
    pub(super) fn start_close(&mut self, code: u16) -> Result<(), CarrierError> {
        match self {
            Self::WebSocket(socket) => socket.start_close(code),
            Self::AudioSocket(socket) => socket.start_close(),
        }
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        match self {
            Self::WebSocket(socket) => socket.poll_flush(cx),
            Self::AudioSocket(socket) => socket.poll_flush(cx),
        }
    }

    /// What comes next; `None` at the end of a connection that was closed in order.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, CarrierError>>> {
        match self {
            Self::WebSocket(socket) => socket.poll_next(cx),
            Self::AudioSocket(socket) => socket.poll_next(cx),
        }
    }

    /// Reads bytes and throws them away to the connection's end, without a look at what they mean; no faster than a backend
    /// may that is about to be left.
    pub(super) async fn discard(&mut self) {
        let mut allowance = Allowance::at_the_end(monotonic_now());
        loop {
            let mut slice = allowance.next_slice().await;
            while slice > 0 {
                let len = match self {
                    Self::WebSocket(socket) => socket.skip().await,
                    Self::AudioSocket(socket) => socket.skip().await,
                };
                if len == 0 {
                    return;
                }
                slice = slice.saturating_sub(allowance.spend(len));
            }
        }
    }

    /// Reads messages and throws them away to the connection's end, no faster than that.
    pub(super) async fn read_out(&mut self) -> Result<(), CarrierError> {
        let mut allowance = Allowance::at_the_end(monotonic_now());
        loop {
            let mut slice = allowance.next_slice().await;
            while slice > 0 {
                let len = match self.next().await.transpose()? {
                    None => return Ok(()),
                    Some(Received::Message(_, message)) => message.len(),
                    Some(Received::Alive | Received::Close(_)) => 0,
                };
                slice = slice.saturating_sub(allowance.spend(len));
            }
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, kind: Kind, message: &[u8]) -> Result<(), CarrierError> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(kind, message)?;
        self.flush().await
    }

    /// Says goodbye.
    pub(super) async fn close(&mut self, code: u16) -> Result<(), CarrierError> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_close(code)?;
        self.flush().await
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> Result<(), CarrierError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// What comes next; see [`Socket::poll_next`].
    pub(super) async fn next(&mut self) -> Option<Result<Received, CarrierError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}
