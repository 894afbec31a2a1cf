//! `bench-relay`: rtpengine and sidetone, one after the other, as relays between the same parties on the same core.
//!
//! ```text
//!  namespace of the parties, core 1            namespace of the relay, core 0
//!  rtpload: generator and receiver in the  <-- veth -->  threaded NAPI, then rtpengine, or sidetone by each of
//!  kernel, threaded NAPI                                 its devices, or bare AF_XDP forwarding
//! ```
//!
//! What the kernel does to receive a packet runs on the relay's core, for everybody; so it is part of what is measured.

mod neighbours;
mod network;
mod options;
mod report;
mod rtpload;
mod run;
mod subject;

pub use options::Options;
pub use run::run;
