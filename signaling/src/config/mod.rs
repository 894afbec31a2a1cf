//! Configuration: one TOML file, environment variables over it, flags over those.
//!
//! ```text
//! defaults < file < gateway variables < SIDETONE_ variables < flags   -- load --> Config -- plan --> Plan
//! ```
//!
//! [`load`] merges and types the layers, [`plan`] checks what only makes sense together, reads secrets and
//! gives the plain structures that the other parts start from.

mod access;
mod agents;
mod ai;
mod asterisk;
mod choices;
mod document;
mod environment;
mod error;
mod events;
mod gateway;
mod load;
mod machine;
mod media;
mod plan;
mod registration;
mod report;
mod routes;
mod schema;
mod sections;
mod types;

#[cfg(test)]
mod tests;

pub use ai::{AccountSid, AudioName, FreeTable, OnFailure};
pub use choices::{Codec, Device, InbandDtmf, Simd, Source, Steering, Wait, Want, XdpMode};
pub use environment::CONFIG_FILE;
pub use error::{ConfigError, Origin, Problem};
pub use gateway::AZURE_ENDPOINT;
pub use load::{Loaded, Setting, Sources, load};
pub use machine::{CpuList, InterfaceName, Priority, QueueList};
pub use plan::{DEMO_AGENT, Plan, plan};
pub use registration::{RegistrationSection, SipTransport};
pub use report::report;
pub use schema::{Kind, all_keys, kind_at};
pub use sections::{
    AccessSection, Agent, AgentTool, AmqpSection, App, AudioSocket, BargeIn, BargeInMode, Calls,
    ChanWebSocket, Config, Dialect, Drain, EventsSection, Http, Latency, LatencyPolicy, Log, Media,
    NatsSection, Ng, OnClose, Reconnect, Route, Signaling, Sip, SipLimits, SipTls, StoreSection, ToolAction,
    WebhooksSection,
};
pub use types::{
    BindAddress, FilePath, Host, MediaAddress, Network, OptionalAddress, Pattern, PortRange, RefusalStatus,
    Secret, Span,
};
