//! What a call can do once it is answered: an AI agent, an echo, a recording, a refusal.
//!
//! The types here are plain data, which the configuration file is read into; [`Apps`] is what was loaded of
//! it, and [`serve`] runs every call in a task of its own.

use std::path::PathBuf;

mod agent;
mod agent_config;
mod bridge;
mod control;
mod demo;
mod keys;
mod load;
mod outbound;
mod prepare;
mod recorded;
mod service;
mod socket;
mod talk;

pub use agent_config::{AgentConfig, OnClose, ReconnectConfig, ToolAction, ToolConfig};
pub use demo::DemoAgent;
pub use load::{Apps, AppsError};
pub use outbound::{
    Batch, BatchProgress, BatchState, Batches, Directory, Ended, Originate, OriginateError, Outbound, Recent,
    Wish,
};
pub(crate) use prepare::percent_decoded;
pub use service::serve;
pub use socket::{SocketCall, cleaned, take as take_socket};

pub use crate::call::CallConfig;
pub use crate::route::{RouteRule, UserPattern};

/// What a dialled user reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppConfig {
    /// The AI agent of this name, one of [`AppsConfig::agents`].
    Agent(String),
    /// Callers hear themselves.
    Echo,
    /// A recording, then the call ends.
    Play(PlayConfig),
    /// The call is refused.
    Reject(RejectConfig),
}

impl AppConfig {
    /// The name used in logs, metrics and the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Echo => "echo",
            Self::Play(_) => "play",
            Self::Reject(_) => "reject",
        }
    }
}

/// A recording to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayConfig {
    /// A WAV file of any common encoding and rate. It is read once, at start.
    pub file: PathBuf,
    /// Plays it again and again until the caller hangs up.
    pub repeat: bool,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectConfig {
    /// The SIP status, 400 to 699.
    pub status: u16,
    /// The reason phrase; the one of RFC 3261 if `None`.
    pub reason: Option<String>,
}

/// All apps: who is reached under which number, and the agents that rules name.
#[derive(Clone, Debug, Default)]
pub struct AppsConfig {
    /// The agents, by unique name.
    pub agents: Vec<AgentConfig>,
    /// The first rule that matches the dialled user decides; no match is answered with 404.
    pub routes: Vec<RouteRule>,
}
