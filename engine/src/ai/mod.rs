//! AI streams: the rings between a worker and a WebSocket, the pump that serves them, and the dialects.

mod backend;
mod counters;
mod pacer;
mod port;
mod shared;

pub use backend::{AudioBlock, Backend, FromWorker};
pub use counters::AiCounters;
pub use port::{AiPort, PortConfig};
