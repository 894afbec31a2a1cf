//! Asterisk, or what speaks like it, dials us with a call: AudioSocket by TCP, `chan_websocket` by WebSocket.
//!
//! ```text
//! connection -> listener (networks, places, time-outs) -> upgrade (path, token; WebSocket only)
//!            -> the engine's line (UUID, MEDIA_START) -> apps (routes, limits, agent)
//! ```
//! There is no TLS here: listen on this host or in a network of your own, or put a proxy in front.
#![deny(clippy::indexing_slicing)]

mod config;
mod counters;
mod listener;
#[cfg(test)]
mod tests;
mod upgrade;

pub use config::{AsteriskConfig, AudioSocketConfig, ChanWebSocketConfig, Token};
pub use counters::AsteriskCounters;
pub use listener::{AsteriskListener, AsteriskServer};
