//! Calls and requests that we begin (RFC 3261 8.1, 13.2): the owner's end.
//!
//! ```text
//! SipHandle::invite -> OutgoingCall --cancel--> dial task: targets -> addresses -> attempts (one INVITE each)
//!                      next() <---Progress---     |  attempt: INVITE transaction, early dialogs, PRACK
//!                                                 v
//!                                             call task: the session, as of a call that came to us
//! ```

mod attempt;
mod client;
mod dial;
mod early;
mod failure;
mod linger;
mod request;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::address::{Address, Headers};
use super::digest::Credentials;
use super::session::{ByeReason, OfferRequest, Session};
use super::target::Target;

pub(super) use dial::start;
pub use failure::{Failure, FailureClass};
pub(super) use request::request;
pub use request::{Answer, Method, OutgoingRequest};

/// A call to make.
#[derive(Clone, Debug)]
pub struct OutgoingInvite {
    /// Where it goes.
    pub target: Target,
    /// The user part of the Request-URI; the target's URI as it stands without one.
    pub request_user: Option<String>,
    /// Who calls.
    pub from: Address,
    /// Who is called, as it is shown; the Request-URI without one.
    pub to: Option<Address>,
    /// The user part of our Contact; the one of `from` without one.
    pub contact_user: Option<String>,
    /// Who really calls, for networks that trust us (RFC 3325, P-Asserted-Identity).
    pub asserted_identity: Option<Address>,
    /// Nobody but the network is to know who calls (RFC 3323, `Privacy: id`).
    pub private: bool,
    /// Who diverted the call to here (RFC 5806).
    pub diversion: Option<Address>,
    /// Further headers.
    pub headers: Headers,
    /// What to prove with who we are.
    pub credentials: Option<Credentials>,
    /// The SDP offer.
    pub offer: String,
    /// How long a server may take for its first answer, before the next address is tried.
    pub response_timeout: Duration,
    /// How long it may ring altogether; then it is cancelled.
    pub ring_timeout: Duration,
}

impl OutgoingInvite {
    /// A call with nothing special: 6 s for the first answer, 60 s to ring.
    #[must_use]
    pub fn new(target: Target, from: Address, offer: String) -> Self {
        Self {
            target,
            request_user: None,
            from,
            to: None,
            contact_user: None,
            asserted_identity: None,
            private: false,
            diversion: None,
            headers: Headers::default(),
            credentials: None,
            offer,
            response_timeout: Duration::from_secs(6),
            ring_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a request was not even tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// As many calls or transactions as are allowed are there already.
    #[error("as many calls as sip.limits allows are running; wait, or raise the limit")]
    Overloaded,
    /// The endpoint ends.
    #[error("the SIP side is draining or shut down and begins nothing new")]
    Draining,
    /// It is too large to be sent or holds what no message can.
    #[error("the request cannot be written as a SIP message; check its offer, body and method")]
    Unsendable,
    /// The name has no address, or none is reachable from where we listen.
    #[error("{0} cannot be reached; is the name right, and an address of its kind in sip.bind?")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("{0} did not answer in time")]
    TimedOut(String),
}

/// What happens to a call of ours.
#[derive(Debug)]
pub enum Progress {
    /// A provisional response: it rings (180), is forwarded (181), queued (182), or there is early media (183 with SDP).
    /// 100 says only that somebody is there.
    Provisional {
        /// 100 to 199.
        status: u16,
        /// The answer to our offer, or what to expect of early media where it was not sent reliably.
        sdp: Option<String>,
    },
    /// The callee changes its early answer before it takes the call (UPDATE, RFC 3311). Dropping it refuses.
    Offer(OfferRequest),
    /// It was answered. The session is confirmed: its ACK was sent.
    Answered {
        /// The session; dropping it hangs up.
        session: Session,
        /// The answer to our offer.
        sdp: String,
    },
    /// It ended without an answer.
    Failed(Failure),
}

/// A call that has been sent out. Dropping it cancels the call.
#[derive(Debug)]
pub struct OutgoingCall {
    call_id: String,
    progress: mpsc::Receiver<Progress>,
    cancel: Option<oneshot::Sender<Option<ByeReason>>>,
}

impl OutgoingCall {
    /// The Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// What happens next. After [`Progress::Answered`] or [`Progress::Failed`] it never completes. Cancel safe.
    pub async fn next(&mut self) -> Progress {
        match self.progress.recv().await {
            Some(progress) => progress,
            None => std::future::pending().await,
        }
    }

    /// Gives the call up (CANCEL, RFC 3261 9.1). [`Self::next`] then tells [`FailureClass::Cancelled`], even where the
    /// callee answers at the same time: that session is ended at once. A call that was answered before is not touched.
    pub fn cancel(&mut self) {
        self.cancel_because(None);
    }

    /// [`Self::cancel`] with a Reason header (RFC 3326), such as `SIP;cause=200` for a call that was answered elsewhere.
    pub fn cancel_because(&mut self, reason: Option<ByeReason>) {
        if let Some(cancel) = self.cancel.take() {
            // A call that is over needs no CANCEL.
            let _ = cancel.send(reason);
        }
    }
}

/// The remote address that a failure names, for the log.
type Remote = Option<SocketAddr>;
