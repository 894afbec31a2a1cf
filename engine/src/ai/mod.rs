//! AI streams: the rings between a worker and a WebSocket, the pump that serves them, and the dialects.

mod port;

pub use port::AiPort;
