//! `streamload`: both ends of an AI call in one program.
//!
//! ```text
//!  callload worker --SIP, RTP--> sidetone --WebSocket--> Backend (a Tap of that worker, same thread, same clock)
//!        Tap::sent ------------------------------------> Uplink: when did the audio of a packet arrive
//!        Tap::received <-------- sidetone <------------- Bot: when was what it said heard, and its marks true
//! ```
//!
//! `websocket`, `uplink` and `bot` do no I/O and read no clock.

mod backend;
mod bot;
pub(super) mod encoding;
mod interruption;
mod options;
mod report;
mod run;
pub(super) mod server;
mod stats;
mod uplink;
pub(super) mod websocket;

pub use options::StreamOptions;
pub use run::run;
