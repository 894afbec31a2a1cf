//! `bench-ai`: how many AI streams a core carries, and what one costs.
//!
//! ```text
//!  generator (callload, this process) --SIP, RTP--> sidetone: media thread, AI thread --WebSocket--> peer (own process)
//!        <-- RTP with the same audio --                                  <-- the same audio, counted and echoed --
//! ```
//!
//! Each packet carries its send time ([`super::stamp`]): the peer tells how long the way up took and whether a packet is missing, the
//! generator the same for the way there and back.

mod bystanders;
mod hostile;
mod options;
mod peer;
mod processor;
mod report;
mod round;
mod run;

pub use options::AiBenchOptions;
pub use run::run;
