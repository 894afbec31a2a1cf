//! The media engine: one pinned OS thread per media CPU, each with its own sockets, streams and timers.
//!
//! ```text
//!          Command ring | per worker, bounded          | Event ring
//!   worker:  device -> demux -> Stream -> [jitter -> decode -> App -> encode] -> device
//!                                 |                     |
//!                             timer wheel           AI stream rings <-> ai threads (tokio, WebSocket)
//! ```
//!
//! The crate knows RTP, codecs and audio; it refuses to know SIP, SDP, HTTP or configuration files.
//! Everything below `worker` is sans-IO: packets and time go in, packets, events and the next deadline
//! come out. Nothing on the packet path allocates, locks, logs or makes a system call of its own.
#![warn(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

pub mod ai;
pub mod codec;
pub mod command;
pub mod config;
pub mod dsp;
pub mod dtmf;
pub mod engine;
pub mod event;
pub mod jitter;
pub mod player;
pub mod relay;
pub mod rtp;
pub mod simd;
mod source;
pub mod srtp;
pub mod stream;
pub mod time;
pub mod wav;
mod worker;

pub use engine::{
    AddRelayError, AddStreamError, CommandRingFull, DeviceChoice, Engine, EngineEvents, PortCounters,
    StartError,
};
pub use worker::WorkerCounters;
pub use xdp::{Counter, Device, DeviceCounters, Doorbell};
