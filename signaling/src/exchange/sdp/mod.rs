//! Session descriptions as a proxy passes them on: what is ours to change is changed, all else stays.
//!
//! [`crate::sdp`] reads descriptions into what we answer with ourselves and drops the rest; here every line
//! is kept, so that attributes that nobody here has heard of arrive.

mod body;
mod formats;
mod origin;
mod write;

pub(crate) use body::{Body, BodyError, Section};
pub(crate) use formats::{Format, Negotiation};
pub(crate) use origin::Outgoing;
pub(crate) use write::{MediaChange, RelayedMedia, RtcpAttribute, write};
