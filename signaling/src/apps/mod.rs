//! What a call can do once it is answered: an AI agent, an echo, a recording, a refusal.
//!
//! The types here are plain data, which the configuration file is read into; [`Apps`] is what was loaded of
//! it, and [`serve`] runs every call in a task of its own.

use std::path::PathBuf;
use std::time::Duration;

mod agent;
mod demo;
mod load;
mod prepare;
mod service;

pub use demo::DemoAgent;
pub use load::{Apps, AppsError};
pub use service::serve;

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

/// The protocol an AI backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentDialect {
    /// Twilio Media Streams; we are the WebSocket client.
    #[default]
    Twilio,
}

/// What happens to the call when the backend ends or loses the WebSocket in mid-call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnClose {
    /// What it had queued is played out (at most [`CallConfig::goodbye_limit`]), then BYE.
    #[default]
    HangUp,
    /// The fallback prompt is played, then BYE.
    PlayFallback,
}

/// One AI agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// The name that routes refer to.
    pub name: String,
    /// The protocol.
    pub dialect: AgentDialect,
    /// `ws://` or `wss://`.
    pub url: String,
    /// Sent in the start message. Values are templates: `{call_id}`, `{from}`, `{to}` (the user parts),
    /// `{from_display}`, `{from_uri}`, `{to_uri}` and `{header:NAME}`; anything else stays as it is.
    pub custom_parameters: Vec<(String, String)>,
    /// SIP headers of the INVITE to pass on in the start message, as custom parameters of the same name.
    /// Values are cut at 256 bytes and stripped of control characters.
    pub sip_headers: Vec<String>,
    /// HTTP headers of the WebSocket handshake.
    pub http_headers: Vec<(String, String)>,
    /// Sent as `Authorization: Bearer` in the handshake.
    pub bearer_token: Option<engine::ai::Secret>,
    /// Signs the handshake as Twilio does (`X-Twilio-Signature`), for backends that check it.
    pub signing_token: Option<engine::ai::Secret>,
    /// A file of PEM certificates to trust besides the public authorities, for `wss://`.
    pub ca_file: Option<PathBuf>,
    /// The name that the backend's certificate must have, if not the URL's host.
    pub tls_server_name: Option<String>,
    /// How long the backend may take to accept the WebSocket; the caller hears ringing meanwhile.
    pub connect_timeout: Duration,
    /// Played, before BYE, to a caller whose backend cannot be reached; without it they get 503.
    pub fallback_prompt: Option<PathBuf>,
    /// When the backend closes in mid-call.
    pub on_close: OnClose,
    /// How much bot audio may wait to be played; at least 60 s.
    pub playout_limit: Duration,
    /// How much caller audio may wait to be sent before the oldest is dropped.
    pub caller_audio_limit: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            dialect: AgentDialect::Twilio,
            url: String::new(),
            custom_parameters: Vec::new(),
            sip_headers: Vec::new(),
            http_headers: Vec::new(),
            bearer_token: None,
            signing_token: None,
            ca_file: None,
            tls_server_name: None,
            connect_timeout: Duration::from_secs(5),
            fallback_prompt: None,
            on_close: OnClose::HangUp,
            playout_limit: Duration::from_secs(120),
            caller_audio_limit: Duration::from_secs(4),
        }
    }
}
