//! AI streams: the rings between a worker and a WebSocket, the pump that serves them, and the dialects.

mod allowance;
mod backend;
mod barge_in;
mod budget;
#[cfg(test)]
mod budget_tests;
mod carrier;
mod config;
mod connect;
mod convert;
mod counters;
pub mod dialect;
mod events;
mod figures;
mod filler;
mod histograms;
mod history;
mod items;
mod line;
mod link;
#[cfg(test)]
mod model_tests;
mod pacer;
mod playout;
mod port;
mod pump;
mod recovery;
mod report;
mod runtime;
mod session;
mod shared;
mod socket_line;
mod supervisor;
pub mod tap;
mod uplink;
mod upstream;

pub use backend::{Backend, Tally};
pub use config::{AiConfig, BargeIn, BargeInMode, CallMeta, LatencyBudget, LatencyPolicy, Reconnect, Secret};
pub use connect::ConnectError;
pub use counters::AiCounters;
pub use figures::{AiFigures, Distribution};
pub use histograms::{AiHistograms, Buckets};
pub use port::{AiPort, PortConfig};
pub use report::{AudioBlock, FromWorker};
pub use runtime::AiRuntime;
pub use session::{AiEnd, AiEvent, AiFailure, AiNotice, AiRequest, AiSession, CommandError};
pub use socket_line::{
    LineApp, LineConfig, LineCounters, LineEnd, LineError, LineEvent, LineFigures, SocketLine,
};
