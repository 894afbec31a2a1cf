//! An INVITE that nobody has answered yet.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::command::Command;
use super::session::{EndCause, Session, SessionEvent};

/// What carried a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message per datagram, retransmitted by the transactions.
    Udp,
    /// A byte stream, framed by Content-Length (RFC 3261 18.3).
    Tcp,
    /// The same inside TLS.
    Tls,
}

impl Transport {
    /// Whether it is a byte stream, which loses nothing and repeats nothing.
    #[must_use]
    pub fn is_stream(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The name used in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Who is meant by a From, To or request-URI, as far as calls care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// The display name, unquoted.
    pub display: Option<String>,
    /// The user part of the URI, percent-decoding left to the reader; empty when there is none.
    pub user: String,
    /// The host part, without port or brackets.
    pub host: String,
    /// The URI as it was written.
    pub uri: String,
}

/// Everything that is known about a call when it begins. It never changes afterwards.
///
/// Of a call that came to us it is what its INVITE said. Of one that we made, `from`, `to` and `request_uri` are those of
/// our INVITE, and the headers are those of the 2xx that answered it.
#[derive(Clone, Debug)]
pub struct InviteInfo {
    /// The Call-ID.
    pub call_id: String,
    /// The calling party.
    pub from: Party,
    /// The called party as the caller wrote it.
    pub to: Party,
    /// Where the request was sent: what decides the app.
    pub request_uri: Party,
    /// Where the peer's message came from.
    pub remote: SocketAddr,
    /// Where it arrived.
    pub local: SocketAddr,
    /// What carried it.
    pub transport: Transport,
    pub(super) headers: Vec<(String, String)>,
}

impl InviteInfo {
    /// The first header of that name (long form, any case), trimmed. Compact forms were expanded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All headers in order, names in their long form, values trimmed.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A final answer other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 300 to 699.
    pub status: u16,
    /// The reason phrase; the usual one of the status when empty.
    pub reason: String,
    /// The text of a Warning header (code 399 or the one given first, as in `304 no common codec`).
    pub warning: Option<String>,
    /// Sent as Retry-After, in whole seconds.
    pub retry_after: Option<Duration>,
    /// Sent as WWW-Authenticate, one field each, with 401: [`super::Authenticator::questions`].
    pub challenges: Vec<String>,
}

impl Rejection {
    /// A rejection with the usual reason phrase and no further headers.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, reason: String::new(), warning: None, retry_after: None, challenges: Vec::new() }
    }
}

/// Why a call could not be rung, accepted or rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The caller gave up (CANCEL) or hung up first; it has been answered.
    #[error("the caller cancelled the call")]
    Cancelled,
    /// The status code does not fit the operation.
    #[error("the status code does not fit: 101 to 199 for ringing, 300 to 699 for a rejection")]
    BadStatus,
    /// The caller never acknowledged a reliable provisional response (RFC 3262 3).
    #[error("the caller did not acknowledge a reliable provisional response (PRACK) within 32 s")]
    NoPrack,
    /// An earlier reliable provisional response is not acknowledged yet.
    #[error("an earlier reliable provisional response waits for its PRACK")]
    PrackPending,
    /// The call is over: its transport failed or the endpoint shut down.
    #[error("the call is over: its transport failed or the endpoint shut down")]
    Closed,
}

/// An INVITE waiting for its answer. Dropping it answers 480.
#[derive(Debug)]
pub struct IncomingCall {
    pub(super) info: Arc<InviteInfo>,
    pub(super) offer: Option<String>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: mpsc::Receiver<SessionEvent>,
    pub(super) cancelled: watch::Receiver<bool>,
    pub(super) ended: Arc<OnceLock<EndCause>>,
}

impl IncomingCall {
    /// What the INVITE said.
    #[must_use]
    pub fn info(&self) -> &Arc<InviteInfo> {
        &self.info
    }

    /// Says which user is meant where the Request-URI only names our Contact of a registration.
    pub fn dial(&mut self, user: &str) {
        let info = Arc::make_mut(&mut self.info);
        user.clone_into(&mut info.request_uri.user);
    }

    /// The SDP offer, or `None` when the caller wants ours (a late offer, RFC 3261 13.2.1).
    #[must_use]
    pub fn offer(&self) -> Option<&str> {
        self.offer.as_deref()
    }

    /// Sends a provisional response, 101 to 199. It is sent reliably when the caller requires `100rel`
    /// (RFC 3262), and then this returns when the PRACK came. The SDP is the answer to [`Self::offer`],
    /// or early media's offer when there was none.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ring(&mut self, status: u16, sdp: Option<String>) -> Result<(), CallError> {
        if !(101..=199).contains(&status) {
            return Err(CallError::BadStatus);
        }
        self.ask(|reply| Command::Ring { status, sdp, reply }).await
    }

    /// Refuses the call and returns once the answer was sent.
    ///
    /// # Errors
    /// [`CallError::Cancelled`] when the caller was faster; nothing is left to do then.
    pub async fn reject(self, rejection: Rejection) -> Result<(), CallError> {
        if !(300..=699).contains(&rejection.status) {
            return Err(CallError::BadStatus);
        }
        self.ask(|reply| Command::Reject { rejection, reply }).await
    }

    /// Answers 200 with the SDP answer, or with our offer when the INVITE had none (the answer then comes
    /// with [`SessionEvent::Confirmed`]). The 200 is repeated until the ACK comes.
    ///
    /// # Errors
    /// See [`CallError`]; the call is over then.
    pub async fn accept(self, sdp: String) -> Result<Session, CallError> {
        self.ask(|reply| Command::Accept { sdp, reply }).await?;
        Ok(Session::new(self.info, self.commands, self.events, self.ended))
    }

    /// Completes when the caller gave up. It has then been answered with 487.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cancelled = self.cancelled.clone();
        async move {
            // An error means that the call's task is gone, which ends the call just as well.
            let _ = cancelled.wait_for(|cancelled| *cancelled).await;
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, CallError>>) -> Command,
    ) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| self.gone())?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> CallError {
        if *self.cancelled.borrow() { CallError::Cancelled } else { CallError::Closed }
    }
}
