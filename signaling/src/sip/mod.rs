//! SIP (RFC 3261): a user agent server that takes calls over UDP and TCP. SDP is opaque text here.
//!
//! Messages and transactions are bought (`rsipstack`); the transports with their limits, dialogs and
//! sessions are ours. Nothing of `rsipstack` is visible outside this module.

mod command;
mod config;
mod counters;
mod endpoint;
mod incoming;
mod session;

pub use config::{SipConfig, SipLimits};
pub use counters::SipCounters;
pub use endpoint::{SipEndpoint, SipError, SipLoad};
pub use incoming::{CallError, IncomingCall, InviteInfo, Party, Rejection, Transport};
pub use session::{
    ByeReason, EndCause, OfferRequest, OfferWanted, RequestError, Session, SessionEvent, SessionHandle,
};
