//! The NG protocol: a SIP proxy asks for relays, one command a datagram, and rewrites its SDP by our replies.
#![deny(clippy::indexing_slicing)]

pub mod bencode;
mod cache;
pub mod command;
mod counters;
pub mod json;
pub mod message;
pub mod options;
mod sdp;
pub mod value;
