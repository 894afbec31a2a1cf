//! `rtpload`: RTP of many calls through a two-party relay, from one core, and what came back of it.
//!
//! ```text
//!  flows (NG or a file) -> plan: packet n of the run is due at start + n * interval / flows
//!     send what is due -> relay -> checker: flow, index, bytes, way, order, latency -> outcome
//!     slots: what was sent while this program itself was held up is left out of the account
//!     search: runs with more and fewer calls until the largest good number is known
//! ```
//!
//! `packet`, `check`, `plan`, `slots` and `search` do no I/O and read no clock.

mod check;
mod flow;
mod forward;
mod histogram;
mod kernel;
mod link;
mod ng;
mod options;
mod packet;
mod plan;
mod report;
mod run;
pub(crate) mod search;
mod slots;
mod sockets;
mod transport;
mod watch;
mod xdp;

pub use options::Options;
pub use run::run;
