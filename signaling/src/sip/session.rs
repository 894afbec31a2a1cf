//! An answered call: a confirmed dialog with its session (RFC 3261 13 to 15), as its owner sees it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::incoming::{InviteInfo, Rejection};
use super::refer::{TransferError, TransferTarget, Transferred};

/// Why we hang up; sent as a Reason header (RFC 3326).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByeReason {
    /// `SIP` or `Q.850`.
    pub protocol: &'static str,
    /// A status code, or a Q.850 cause value.
    pub cause: u16,
    /// For people.
    pub text: String,
}

impl ByeReason {
    /// The value of a Reason header.
    pub(super) fn write(&self) -> String {
        let text = super::message::one_line(&self.text).replace(['"', '\\'], "'");
        format!("{};cause={};text=\"{text}\"", self.protocol, self.cause)
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// The peer sent BYE; its Reason header, if any.
    RemoteBye {
        /// The Reason header as it came.
        reason: Option<String>,
    },
    /// We sent BYE because the owner asked for it (or dropped the session).
    LocalBye,
    /// Our 2xx was never acknowledged; a BYE was sent after 32 s (RFC 3261 13.3.1.4).
    AckTimeout,
    /// The session was not refreshed in time; a BYE was sent (RFC 4028 10).
    SessionExpired,
    /// The peer answered a request inside the dialog with 408 or 481, or not at all (RFC 3261 12.2.1.2).
    PeerLost {
        /// 408 or 481; 408 stands for no answer at all.
        status: u16,
    },
    /// The connection that carried the dialog broke and no request could be sent.
    TransportFailed,
    /// The endpoint was shut down.
    Shutdown,
}

/// What happens in a session.
#[derive(Debug)]
pub enum SessionEvent {
    /// An ACK came: of the first INVITE, or of a re-INVITE that we answered.
    Confirmed {
        /// The answer to our offer in the 2xx (or in a reliable provisional response), if we made one.
        answer: Option<String>,
    },
    /// The peer offers a change: a re-INVITE or UPDATE with SDP.
    Offer(OfferRequest),
    /// The peer wants our offer: a re-INVITE without SDP.
    OfferWanted(OfferWanted),
    /// An INFO of a kind that we take (`application/dtmf-relay`, `application/dtmf`). It has been answered.
    Info {
        /// The media type, in lower case, without parameters.
        content_type: String,
        /// The body as it came.
        body: Vec<u8>,
    },
    /// The session is over. Always the last event.
    Ended {
        /// How.
        cause: EndCause,
    },
}

pub(super) type Decision = Result<String, Rejection>;

/// An SDP offer inside a session. Dropping it refuses it with 488; the session stays as it was.
#[derive(Debug)]
pub struct OfferRequest {
    pub(super) sdp: String,
    pub(super) decide: oneshot::Sender<Decision>,
}

impl OfferRequest {
    /// The offer.
    #[must_use]
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Accepts it with this answer.
    pub fn answer(self, sdp: String) {
        let _ = self.decide.send(Ok(sdp));
    }

    /// Refuses it; the session stays as it was.
    pub fn reject(self, rejection: Rejection) {
        let _ = self.decide.send(Err(rejection));
    }
}

/// A re-INVITE without SDP: the peer wants our offer. Dropping it refuses the re-INVITE with 488.
#[derive(Debug)]
pub struct OfferWanted {
    pub(super) decide: oneshot::Sender<Decision>,
}

impl OfferWanted {
    /// Sends this offer; the answer comes with [`SessionEvent::Confirmed`].
    pub fn offer(self, sdp: String) {
        let _ = self.decide.send(Ok(sdp));
    }

    /// Refuses; the session stays as it was.
    pub fn reject(self, rejection: Rejection) {
        let _ = self.decide.send(Err(rejection));
    }
}

/// Why a request of ours inside the session failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer refused.
    #[error("the peer answered {status} {reason}")]
    Refused {
        /// Its status code.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// Another offer is on its way in either direction; try again later (RFC 3261 14.1).
    #[error("another offer is pending; try again when it is settled")]
    Pending,
    /// Too many requests of this session wait for an answer.
    #[error("too many requests of this session wait for an answer; send fewer")]
    Busy,
    /// The answer carried no SDP.
    #[error("the peer accepted but sent no SDP answer")]
    NoAnswer,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

/// Asks a session for something, from anywhere.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    commands: mpsc::Sender<Command>,
}

impl SessionHandle {
    /// Hangs up. [`SessionEvent::Ended`] follows when the peer answered, or after 32 s.
    pub async fn bye(&self, reason: Option<ByeReason>) {
        // A session that is over needs no BYE.
        let _ = self.commands.send(Command::Bye { reason }).await;
    }

    /// Offers a change with a re-INVITE and returns the peer's answer.
    ///
    /// # Errors
    /// See [`RequestError`]; the session goes on as it was, except after [`RequestError::Closed`].
    pub async fn reinvite(&self, sdp: String) -> Result<String, RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Reinvite { sdp, reply };
        self.commands.send(command).await.map_err(|_| RequestError::Closed)?;
        answer.await.unwrap_or(Err(RequestError::Closed))
    }

    /// Sends an INFO (RFC 2976 style, as DTMF relays do) and returns when the peer accepted it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn info(&self, content_type: impl Into<String>, body: Vec<u8>) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Info { content_type: content_type.into(), body, reply };
        self.commands.send(command).await.map_err(|_| RequestError::Closed)?;
        answer.await.unwrap_or(Err(RequestError::Closed))
    }

    /// Asks the peer by REFER to call `target` instead of us (RFC 3515), and returns when it has told what became
    /// of that, for at most `patience`. The session goes on: hang up after success unless the peer has.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn refer(
        &self,
        target: TransferTarget,
        patience: Duration,
    ) -> Result<Transferred, TransferError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Refer { target, patience, reply };
        self.commands.send(command).await.map_err(|_| TransferError::Closed)?;
        answer.await.unwrap_or(Err(TransferError::Closed))
    }
}

/// An answered call. Dropping it hangs up.
#[derive(Debug)]
pub struct Session {
    info: Arc<InviteInfo>,
    handle: SessionHandle,
    events: mpsc::Receiver<SessionEvent>,
    /// Set before the events end.
    cause: Arc<OnceLock<EndCause>>,
    ended: bool,
}

impl Session {
    pub(super) fn new(
        info: Arc<InviteInfo>,
        commands: mpsc::Sender<Command>,
        events: mpsc::Receiver<SessionEvent>,
        cause: Arc<OnceLock<EndCause>>,
    ) -> Self {
        Self { info, handle: SessionHandle { commands }, events, cause, ended: false }
    }

    /// What the INVITE said.
    #[must_use]
    pub fn info(&self) -> &Arc<InviteInfo> {
        &self.info
    }

    /// A handle to ask for things with while events are awaited elsewhere.
    #[must_use]
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// The next event. After [`SessionEvent::Ended`] it never completes. Cancel safe.
    pub async fn next_event(&mut self) -> SessionEvent {
        if self.ended {
            return std::future::pending().await;
        }
        match self.events.recv().await {
            Some(event) => event,
            None => {
                self.ended = true;
                let cause = self.cause.get().cloned().unwrap_or(EndCause::Shutdown);
                SessionEvent::Ended { cause }
            }
        }
    }
}
