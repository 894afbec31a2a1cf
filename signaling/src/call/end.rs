//! Why a call ended, and what the peer is told.

use engine::ai::LineEnd;

use crate::sip::{ByeReason, EndCause};

use super::counters::CallCounters;
use super::table::HangUp;

/// Why an answered call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// The SIP session is over already.
    Session(EndCause),
    /// The socket that the call came by is over already.
    Line(LineEnd),
    /// The app is done.
    AppFinished,
    /// The AI backend hung up.
    BackendHungUp,
    /// The AI backend failed.
    BackendFailed,
    /// The caller was transferred to somebody else.
    Transferred,
    /// No media came for the negotiated time.
    MediaTimeout,
    /// The stream is gone.
    MediaLost,
    /// The caller's answer to our offer does not fit.
    OfferFailed,
    /// Somebody else wanted it.
    HungUp(HangUp),
}

impl CallEnd {
    /// The name used in logs.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Session(EndCause::RemoteBye { .. }) => "caller hung up",
            Self::Session(EndCause::LocalBye) => "hung up",
            Self::Session(EndCause::AckTimeout) => "no ACK",
            Self::Session(EndCause::SessionExpired) => "session expired",
            Self::Session(EndCause::PeerLost { .. }) => "peer lost",
            Self::Session(EndCause::TransportFailed) => "transport failed",
            Self::Session(EndCause::Shutdown) => "shutdown",
            Self::Line(LineEnd::CallerHungUp) => "caller hung up",
            Self::Line(LineEnd::HungUp) => "hung up",
            Self::Line(LineEnd::Lost(_)) => "connection lost",
            Self::Line(LineEnd::Protocol(_)) => "protocol broken",
            Self::Line(LineEnd::Silent) => "media timeout",
            Self::Line(LineEnd::Stalled) => "peer stopped reading",
            Self::Line(LineEnd::Shutdown) => "shutdown",
            Self::AppFinished => "app finished",
            Self::BackendHungUp => "AI backend hung up",
            Self::BackendFailed => "AI backend failed",
            Self::Transferred => "transferred",
            Self::MediaTimeout => "media timeout",
            Self::MediaLost => "stream lost",
            Self::OfferFailed => "no media agreed on",
            Self::HungUp(HangUp::Operator) => "hung up by the operator",
            Self::HungUp(HangUp::Drain) => "cut by drain",
        }
    }

    /// The Reason header of our BYE (RFC 3326); `None` when the session is over without it.
    pub(crate) fn bye_reason(&self) -> Option<ByeReason> {
        let (protocol, cause, text) = match self {
            Self::Session(_) | Self::Line(_) => return None,
            Self::AppFinished | Self::BackendHungUp | Self::Transferred | Self::HungUp(HangUp::Operator) => {
                ("Q.850", 16, "Normal call clearing")
            }
            Self::BackendFailed => ("Q.850", 41, "AI backend failed"),
            Self::MediaTimeout => ("Q.850", 102, "Media timeout"),
            Self::MediaLost => ("Q.850", 41, "Media failed"),
            Self::OfferFailed => ("SIP", 488, "Not Acceptable Here"),
            Self::HungUp(HangUp::Drain) => ("SIP", 503, "Shutting down"),
        };
        Some(ByeReason { protocol, cause, text: text.to_owned() })
    }

    /// Whether the caller is still hearing the end of what was said.
    pub(crate) const fn follows_audio(&self) -> bool {
        matches!(self, Self::AppFinished | Self::BackendHungUp)
    }

    pub(crate) fn count(&self, counters: &CallCounters) {
        let counter = match self {
            Self::Session(EndCause::RemoteBye { .. }) | Self::Line(LineEnd::CallerHungUp) => {
                &counters.ended_by_caller
            }
            Self::Session(EndCause::LocalBye) | Self::Line(LineEnd::HungUp) | Self::AppFinished => {
                &counters.ended_by_app
            }
            Self::Session(EndCause::AckTimeout) => &counters.ended_without_ack,
            Self::Session(EndCause::SessionExpired) => &counters.ended_by_expiry,
            Self::Session(EndCause::PeerLost { .. } | EndCause::TransportFailed)
            | Self::Line(LineEnd::Lost(_) | LineEnd::Protocol(_) | LineEnd::Stalled) => {
                &counters.ended_by_lost_peer
            }
            Self::Session(EndCause::Shutdown)
            | Self::Line(LineEnd::Shutdown)
            | Self::HungUp(HangUp::Drain) => &counters.ended_by_drain,
            Self::BackendHungUp | Self::BackendFailed => &counters.ended_by_backend,
            Self::Transferred => &counters.ended_by_transfer,
            Self::MediaTimeout | Self::Line(LineEnd::Silent) => &counters.ended_by_media_timeout,
            Self::MediaLost => &counters.ended_by_media_loss,
            Self::OfferFailed => &counters.ended_by_failed_offer,
            Self::HungUp(HangUp::Operator) => &counters.ended_by_operator,
        };
        counter.increment();
    }
}
