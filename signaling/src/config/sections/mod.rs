//! The sections of the configuration file. Every default runs on a laptop.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::machine::CpuList;
use super::registration::RegistrationSection;
use super::types::{BindAddress, FilePath, Network, OptionalAddress, Pattern, RefusalStatus, Span};
use crate::telemetry::LogFormat;

mod access;
mod agent;
mod asterisk;
mod events;
mod media;
mod sip;
mod store;

pub use access::AccessSection;
pub use agent::{
    Agent, AgentTool, BargeIn, BargeInMode, Dialect, Latency, LatencyPolicy, OnClose, Reconnect, ToolAction,
};
pub use asterisk::{AudioSocket, ChanWebSocket};
pub use events::{AmqpSection, EventsSection, NatsSection, WebhooksSection};
pub use media::Media;
pub use sip::{Sip, SipLimits, SipTls};
pub use store::StoreSection;

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder for everything that is kept; made at start.
    pub data_dir: FilePath,
    /// SIP.
    pub sip: Sip,
    /// The account at a SIP server.
    pub registration: RegistrationSection,
    /// RTP and the threads that carry it.
    pub media: Media,
    /// The threads for everything but media.
    pub signaling: Signaling,
    /// What every call is allowed.
    pub calls: Calls,
    /// Health, metrics and the calls' API.
    pub http: Http,
    /// Where records, trunks and all that is set through the API are kept.
    pub store: StoreSection,
    /// Who may use the API.
    pub access: AccessSection,
    /// The control protocol for a pool behind a proxy.
    pub ng: Ng,
    /// Asterisk dials us by AudioSocket.
    pub audiosocket: AudioSocket,
    /// Asterisk dials us by `chan_websocket`.
    pub chan_websocket: ChanWebSocket,
    /// AI agents by name. The name `demo` is the agent inside this program.
    pub agents: BTreeMap<String, Agent>,
    /// Which app a dialled user reaches; the first route that matches decides. Without any route, `agent`
    /// reaches the demo agent and `echo` the echo.
    pub routes: Vec<Route>,
    /// Events to the outside.
    pub events: EventsSection,
    /// The end of service.
    pub drain: Drain,
    /// Logs.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: FilePath(PathBuf::from("sidetone-data")),
            sip: Sip::default(),
            registration: RegistrationSection::default(),
            media: Media::default(),
            signaling: Signaling::default(),
            calls: Calls::default(),
            http: Http::default(),
            store: StoreSection::default(),
            access: AccessSection::default(),
            ng: Ng::default(),
            audiosocket: AudioSocket::default(),
            chan_websocket: ChanWebSocket::default(),
            agents: BTreeMap::new(),
            routes: Vec::new(),
            events: EventsSection::default(),
            drain: Drain::default(),
            log: Log::default(),
        }
    }
}

/// `[signaling]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signaling {
    /// One pinned thread per CPU for SIP, HTTP and the calls; empty takes one unpinned thread per CPU.
    pub cpus: CpuList,
}

/// `[calls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// Calls at once; further ones get 503.
    pub max: usize,
    /// The Retry-After of a 503.
    pub retry_after: Span,
    /// How long to let it ring before the answer.
    pub answer_delay: Span,
    /// How long an agent's queued audio is still played after it hung up.
    pub goodbye_limit: Span,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            max: 2000,
            retry_after: Span::seconds(10),
            answer_delay: Span::default(),
            goodbye_limit: Span::seconds(10),
        }
    }
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The local address.
    pub bind: BindAddress,
    /// Names that a request's Host header may carry besides addresses and `localhost`; `*` takes any.
    pub allowed_hosts: Vec<String>,
    /// Connections at once; further ones wait.
    pub connections: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            bind: BindAddress(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)),
            allowed_hosts: Vec::new(),
            connections: 1024,
        }
    }
}

/// `[ng]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ng {
    /// The local address of the NG protocol; empty does not serve it.
    pub bind: OptionalAddress,
    /// Networks that may ask; empty is this host only.
    pub allow: Vec<Network>,
    /// How long a deleted call lives on unless the command says otherwise.
    pub delete_delay: Span,
}

impl Default for Ng {
    fn default() -> Self {
        Self {
            bind: OptionalAddress(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2223))),
            allow: Vec::new(),
            delete_delay: Span::default(),
        }
    }
}

/// `[[routes]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// The dialled user, exactly. This or `regex`.
    #[serde(rename = "match")]
    pub user: Option<String>,
    /// An expression that the whole dialled user matches.
    pub regex: Option<Pattern>,
    /// What it reaches.
    pub app: Option<App>,
    /// For `agent`: its name.
    pub agent: Option<String>,
    /// For `play`: a WAV file.
    pub file: Option<FilePath>,
    /// For `play`: again and again.
    pub repeat: Option<bool>,
    /// For `reject`: the SIP status.
    pub status: Option<RefusalStatus>,
    /// For `reject`: the reason phrase.
    pub reason: Option<String>,
}

/// What a dialled user can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum App {
    /// An AI agent.
    Agent,
    /// The caller's own voice.
    Echo,
    /// A recording.
    Play,
    /// A refusal.
    Reject,
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long running calls may go on after SIGTERM before they are ended with BYE.
    pub timeout: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Span::seconds(30) }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or an env-filter such as `info,signaling::sip=debug`.
    pub level: String,
    /// The form.
    pub format: LogFormat,
    /// Masks phone numbers and names, all but the last two characters.
    pub redact: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, redact: true }
    }
}
