//! SIP (RFC 3261): a user agent that takes calls and makes them, over UDP, TCP and TLS, and registers where it is told to. SDP
//! is opaque text here.
//!
//! Messages and most transactions are bought (`rsipstack`); the transports with their limits, dialogs, sessions and the
//! INVITE client transaction of calls that we make are ours. Nothing of `rsipstack` is visible outside this module.

mod address;
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
mod outgoing;
mod refer;
mod registration;
mod reliable;
mod request;
mod resolver;
mod route;
mod session;
mod session_timer;
mod target;
mod task;
mod transaction;
mod transport;
mod validate;

pub use address::{Address, Headers, InvalidAddress};
pub use challenge::{Authenticator, Claim, Proof};
pub use config::{SipConfig, SipLimits, SipTls};
pub use counters::SipCounters;
pub use endpoint::{SipEndpoint, SipError, SipHandle, SipLoad};
pub use fuzz::fuzz_message;
pub use incoming::{CallError, IncomingCall, InviteInfo, Party, Rejection, Transport};
pub use outgoing::{
    Answer, DialError, Failure, FailureClass, Method, OutgoingCall, OutgoingInvite, OutgoingRequest, Progress,
};
pub use refer::{TransferError, TransferTarget, Transferred};
pub use registration::{Account, Credentials, Registration, RegistrationState, RegistrationStatus};
pub use request::IncomingRequest;
pub use session::{
    ByeReason, EndCause, OfferRequest, OfferWanted, RequestError, Session, SessionEvent, SessionHandle,
};
pub use target::Target;
pub use transport::TlsError;
