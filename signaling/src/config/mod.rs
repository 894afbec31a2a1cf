//! Configuration (architecture D15): one TOML file, environment variables over it, flags over those.
//!
//! ```text
//! defaults < file < gateway variables < SIDETONE_ variables < flags   -- load --> Config -- plan --> Plan
//! ```
//!
//! [`load`] merges and types the layers, [`plan`] checks what only makes sense together, reads secrets and
//! gives the plain structures that the other parts start from.

mod agents;
mod document;
mod environment;
mod error;
mod gateway;
mod load;
mod plan;
mod report;
mod routes;
mod schema;
mod sections;
mod types;

#[cfg(test)]
mod tests;

pub use environment::CONFIG_FILE;
pub use error::{ConfigError, Origin, Problem};
pub use gateway::Gateway;
pub use load::{Loaded, Setting, Sources, load};
pub use plan::{DEMO_AGENT, Plan, plan};
pub use report::report;
pub use schema::{Kind, all_keys, kind_at};
pub use sections::{
    Agent, App, Calls, Codec, Config, Device, Dialect, Drain, Http, InbandDtmf, Log, Media, Ng, OnClose,
    Route, Simd, Sip, SipLimits, Source, Wait,
};
pub use types::{
    BindAddress, CpuList, FilePath, Host, MediaAddress, Pattern, PortRange, RefusalStatus, Secret, Span,
};
