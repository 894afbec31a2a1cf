//! The demo agent: an AI backend small enough to live in this binary, reached over a real loopback socket
//! by the same WebSocket protocol as any other. It greets, repeats what the caller says, and stops when the
//! caller talks over it.

mod conversation;
mod ear;
mod server;

pub use server::DemoAgent;
