//! A SIP user agent client of our own: small, so that it can be checked by reading.

mod message;
mod uac;

pub(super) use message::{Message, StartLine, frame_length};
pub(super) use uac::{Output, Uac, UacConfig, host_port, reply_no_call, resolve_by_name};
