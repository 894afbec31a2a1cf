//! `callload`: N concurrent SIP calls with real RTP, and what came back of them.
//!
//! ```text
//!  main thread: options, progress line, Ctrl-C, report
//!  worker threads (default 1), share nothing:
//!     timerfd tick -> SIP in -> Uac -> SIP out
//!                  -> RTP in -> Receiver (sequence, jitter) -> Track (markers, integrity)
//!                  -> RTP out: packet n of a call at t0 + slot + n * 20 ms
//! ```
//!
//! `streamload` adds a [`tap::Tap`] to the worker: the AI backend of the calls, in the same thread.
//!
//! `sip`, `rtp`, `g711`, `marker`, `track` and `receiver` do no I/O and read no clock; `net` and `worker` do.

mod aibench;
mod call;
pub(crate) mod clock;
pub(crate) mod g711;
mod histogram;
mod marker;
mod net;
mod options;
mod receiver;
mod report;
mod rtp;
mod run;
mod sdp;
mod sender;
mod sip;
mod speech;
mod stamp;
mod stats;
mod streamload;
mod tap;
mod track;
mod worker;

pub use aibench::{AiBenchOptions, run as run_ai_bench};
pub use options::{Codec, Options, Transport};
pub(crate) use options::{ports, positive, seconds};
pub use run::run;
pub use streamload::{StreamOptions, run as run_streams};
