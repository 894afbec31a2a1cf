//! The NG protocol: a SIP proxy asks for relays, one command a datagram, and rewrites its SDP by our replies.
//!
//! ```text
//! datagram -> server (access, cookie, cache of replies) -> message (bencode, JSON) -> options (keys, flags)
//!          -> table (calls by id) -> call (a task each: parties, dialogues, SDP) -> MediaRelay -> responder
//! ```
//! The task that reads the socket never waits: what takes time is done by the task of the call, and commands of
//! different calls do not wait for each other. Served is plain RTP; what is not is refused with a reason, or
//! ignored and counted where that does no harm.
#![deny(clippy::indexing_slicing)]

pub mod bencode;
mod cache;
mod call;
pub mod command;
mod counters;
mod fuzz;
pub mod json;
pub mod message;
pub mod options;
mod responder;
mod server;
mod statistics;
mod table;
pub mod value;

pub use counters::{CommandCounters, NgCounters, OneCommand};
pub use fuzz::fuzz_datagram;
pub(crate) use server::is_allowed;
pub use server::{NgConfig, NgListener, NgServer};
