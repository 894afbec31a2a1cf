//! One call: a SIP dialog, its stream, and what became of it.
//!
//! ```text
//! IncomingCall -> Leg (offer/answer + MediaStream) -> accept -> Call { next, handle } -> finish
//! ```
//! A call is owned by one task, which the apps run. [`CallTable`] is what the rest of the process sees of it.

use std::sync::Arc;

use crate::media::{Media, MediaAddresses};

mod answered;
mod config;
mod counters;
mod end;
mod identity;
mod info;
mod leg;
mod quiet;
mod redact;
mod request;
mod table;

pub use config::CallConfig;
pub use counters::{CallCounters, SetupTime};
pub use identity::Identity;
pub use request::{CallRequest, Control, ControlError, Gather, GatherEnd, Gathered};
pub use table::{CallState, CallSummary, CallTable, CallVia, HangUp};

pub(crate) use answered::{Call, CallEvent};
pub(crate) use end::CallEnd;
pub(crate) use leg::{Ends, Leg};
pub(crate) use quiet::Quiet;
pub(crate) use redact::{milliseconds, redacted, shortened};
pub(crate) use table::CallEntry;

/// What all calls share.
#[derive(Debug)]
pub struct CallContext {
    /// The settings.
    pub config: CallConfig,
    /// The engine.
    pub media: Media,
    /// Who is there.
    pub table: CallTable,
    addresses: MediaAddresses,
}

impl CallContext {
    /// Looks which of the configured media addresses are this host's own.
    #[must_use]
    pub fn new(config: CallConfig, media: Media) -> Arc<Self> {
        let addresses = MediaAddresses::new(&config.media_addresses);
        let table = CallTable::new(config.max_calls);
        Arc::new(Self { config, media, table, addresses })
    }

    /// The counters of all calls.
    #[must_use]
    pub fn counters(&self) -> &CallCounters {
        self.table.counters()
    }
}
