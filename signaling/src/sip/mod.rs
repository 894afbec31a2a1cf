//! SIP (RFC 3261): a user agent server that takes calls over UDP and TCP, and registers
//! where it is told to. SDP is opaque text here.
//!
//! Messages and transactions are bought (`rsipstack`); the transports with their limits, dialogs and
//! sessions are ours. Nothing of `rsipstack` is visible outside this module.

mod admission;
mod challenge;
mod command;
mod config;
mod core;
mod counters;
mod dialog;
mod digest;
mod endpoint;
mod fuzz;
mod incoming;
mod message;
mod negotiation;
mod refer;
mod registration;
mod reliable;
mod route;
mod session;
mod session_timer;
mod task;
mod transaction;
mod transport;
mod validate;

pub use challenge::{Authenticator, Claim, Proof};
pub use config::{SipConfig, SipLimits};
pub use counters::SipCounters;
pub use endpoint::{SipEndpoint, SipError, SipLoad};
pub use fuzz::fuzz_message;
pub use incoming::{CallError, IncomingCall, InviteInfo, Party, Rejection, Transport};
pub use refer::{TransferError, TransferTarget, Transferred};
pub use registration::{Account, Credentials, Registration, RegistrationState, RegistrationStatus};
pub use session::{
    ByeReason, EndCause, OfferRequest, OfferWanted, RequestError, Session, SessionEvent, SessionHandle,
};
