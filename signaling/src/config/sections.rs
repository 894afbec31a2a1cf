//! The sections of the configuration file. Every default runs on a laptop.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::choices::{Codec, Device, InbandDtmf, Simd, Source, Steering, Wait, Want, XdpMode};
use super::machine::{CpuList, InterfaceName, Priority, QueueList};
use super::registration::RegistrationSection;
use super::types::{
    BindAddress, FilePath, Host, MediaAddress, Network, OptionalAddress, Pattern, PortRange, RefusalStatus,
    Span,
};
use crate::telemetry::LogFormat;

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
    /// The control protocol for a pool behind a proxy.
    pub ng: Ng,
    /// AI agents by name. The name `demo` is the agent inside this program.
    pub agents: BTreeMap<String, Agent>,
    /// Which app a dialled user reaches; the first route that matches decides. Without any route, `agent`
    /// reaches the demo agent and `echo` the echo.
    pub routes: Vec<Route>,
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
            ng: Ng::default(),
            agents: BTreeMap::new(),
            routes: Vec::new(),
            drain: Drain::default(),
            log: Log::default(),
        }
    }
}

/// `[sip]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    /// Local addresses, each for UDP and TCP.
    pub bind: Vec<BindAddress>,
    /// The host in Via and Contact when peers see another one than the local address (NAT).
    pub via_address: Option<Host>,
    /// The Server and User-Agent header.
    pub user_agent: String,
    /// The session interval asked for (RFC 4028).
    pub session_expires: Span,
    /// The shortest session interval taken; at least 90 s.
    pub min_session_expires: Span,
    /// RFC 3261 T1, the base of all retransmission timers.
    pub t1: Span,
    /// Caps on what peers can make us hold.
    pub limits: SipLimits,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            bind: vec![BindAddress(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060))],
            via_address: None,
            user_agent: concat!("sidetone/", env!("CARGO_PKG_VERSION")).to_owned(),
            session_expires: Span::seconds(1800),
            min_session_expires: Span::seconds(90),
            t1: Span(std::time::Duration::from_millis(500)),
            limits: SipLimits::default(),
        }
    }
}

/// `[sip.limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SipLimits {
    /// Dialogs, from INVITE to the end of BYE.
    pub dialogs: usize,
    /// Calls, ringing or answered, whose ACK has not come; a lone source may have two fifths of it.
    pub unacknowledged: usize,
    /// Transactions, running and remembered.
    pub transactions: usize,
    /// New INVITEs per second from one source address; 0 takes any number.
    pub invites_per_second_per_source: u32,
    /// New INVITEs at once from one source address.
    pub invite_burst_per_source: u32,
    /// Source addresses remembered for that.
    pub sources: usize,
    /// TCP connections in all.
    pub tcp_connections: usize,
    /// TCP connections from one source address.
    pub tcp_connections_per_source: usize,
    /// An unused TCP connection is closed after this.
    pub tcp_idle: Span,
    /// A message begun on TCP must be complete within this.
    pub tcp_message: Span,
}

impl Default for SipLimits {
    fn default() -> Self {
        Self {
            dialogs: 4000,
            unacknowledged: 1000,
            transactions: 40_000,
            invites_per_second_per_source: 100,
            invite_burst_per_source: 300,
            sources: 4096,
            tcp_connections: 1024,
            tcp_connections_per_source: 64,
            tcp_idle: Span::seconds(120),
            tcp_message: Span::seconds(10),
        }
    }
}

/// `[media]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// What SDP says; empty takes the address that the INVITE came in on.
    pub address: Vec<MediaAddress>,
    /// UDP ports for RTP and RTCP.
    pub ports: PortRange,
    /// How packets come in and go out.
    pub device: Device,
    /// The network interface for AF_XDP.
    pub interface: Option<InterfaceName>,
    /// Its receive queues for media; empty takes all.
    pub queues: QueueList,
    /// Where the XDP program runs.
    pub xdp_mode: XdpMode,
    /// Whether frames are shared with the driver.
    pub zero_copy: Want,
    /// AF_XDP frames per worker, of 2 KiB.
    pub frames: usize,
    /// Descriptors in each ring of an AF_XDP socket; a power of two.
    pub ring: usize,
    /// Whether AF_XDP frames are in huge pages.
    pub hugepages: Want,
    /// Whether workers drive the driver's queues themselves.
    pub busy_poll: bool,
    /// Packets per second from one source that no call knows; 0 takes any number.
    pub flood_limit: u32,
    /// Whether SIP over UDP falls under `flood_limit`, too.
    pub flood_limit_sip: bool,
    /// How the packets of a call come to its worker's queue (AF_XDP).
    pub steering: Steering,
    /// Whether relays that need no look at their payload are left to the kernel.
    pub kernel_relay: bool,
    /// Which kernels work on samples.
    pub simd: Simd,
    /// One pinned worker per CPU; empty takes one unpinned worker per two CPUs.
    pub cpus: CpuList,
    /// One pinned AI stream thread per CPU; empty takes one unpinned thread.
    pub stream_cpus: CpuList,
    /// What a worker does while there is nothing to do.
    pub wait: Wait,
    /// How long a loaded adaptive worker lets packets gather; `0ms` does not.
    pub tick: Span,
    /// The real-time priority of workers (SCHED_FIFO), 1 to 99 or `off`.
    pub priority: Priority,
    /// Whether all memory of the process stays in RAM.
    pub lock_memory: bool,
    /// Calls per worker; their memory is taken at start.
    pub streams_per_worker: usize,
    /// Relays (of the NG port) per worker; their slots are made at start.
    pub relays_per_worker: usize,
    /// Datagrams taken per loop of a worker.
    pub receive_budget: usize,
    /// Commands that may wait for a worker.
    pub command_ring: usize,
    /// Events that may wait from a worker.
    pub event_ring: usize,
    /// How long media goes to an address that never answered.
    pub silent_peer_limit: Span,
    /// Whose packets to believe.
    pub source: Source,
    /// Whether keys are tones in the audio.
    pub inband_dtmf: InbandDtmf,
    /// Codecs, most preferred first.
    pub codecs: Vec<Codec>,
    /// Audio per packet if the peer does not say, 10 to 60 ms.
    pub ptime: Span,
    /// A call without media for this long is ended; `0s` never.
    pub timeout: Span,
    /// The same on hold.
    pub hold_timeout: Span,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            address: Vec::new(),
            ports: PortRange(20_000..=29_999),
            device: Device::Auto,
            interface: None,
            queues: QueueList::default(),
            xdp_mode: XdpMode::Auto,
            zero_copy: Want::Auto,
            frames: 8192,
            ring: 2048,
            hugepages: Want::Auto,
            busy_poll: false,
            flood_limit: 0,
            flood_limit_sip: false,
            steering: Steering::Auto,
            kernel_relay: true,
            simd: Simd::Auto,
            cpus: CpuList::default(),
            stream_cpus: CpuList::default(),
            wait: Wait::Adaptive,
            tick: Span(std::time::Duration::from_millis(1)),
            priority: Priority::default(),
            lock_memory: false,
            streams_per_worker: 4096,
            relays_per_worker: 16_384,
            receive_budget: 256,
            command_ring: 1024,
            event_ring: 4096,
            silent_peer_limit: Span::seconds(10),
            source: Source::Latch,
            inband_dtmf: InbandDtmf::Auto,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            ptime: Span(std::time::Duration::from_millis(20)),
            timeout: Span::seconds(60),
            hold_timeout: Span::seconds(3600),
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

/// `[agents.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// `ws://` or `wss://`.
    pub url: String,
    /// The protocol.
    pub dialect: Dialect,
    /// Sent in the start message; values may hold `{call_id}`, `{from}`, `{to}`,
    /// `{from_display}`, `{from_uri}`, `{to_uri}` and `{header:NAME}`.
    pub parameters: BTreeMap<String, String>,
    /// SIP headers of the INVITE passed on in the start message.
    pub sip_headers: Vec<String>,
    /// HTTP headers of the WebSocket handshake.
    pub http_headers: BTreeMap<String, String>,
    /// The environment variable that holds the bearer token.
    pub auth_token_env: Option<String>,
    /// The file that holds the bearer token.
    pub auth_token_file: Option<FilePath>,
    /// The environment variable that holds the token that signs the handshake as Twilio does.
    pub signing_token_env: Option<String>,
    /// The file that holds the token that signs the handshake as Twilio does.
    pub signing_token_file: Option<FilePath>,
    /// A file of PEM certificates to trust besides the public authorities.
    pub ca_file: Option<FilePath>,
    /// The name that the backend's certificate must have.
    pub tls_server_name: Option<Host>,
    /// How long the backend may take to accept the WebSocket.
    pub connect_timeout: Span,
    /// A WAV file played to a caller whose backend cannot be reached; without it they get 503.
    pub fallback_prompt: Option<FilePath>,
    /// When the backend closes in mid-call.
    pub on_close: OnClose,
    /// How much bot audio may wait to be played; at least 60 s.
    pub playout_limit: Span,
    /// How much caller audio may wait to be sent.
    pub caller_audio_limit: Span,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            url: String::new(),
            dialect: Dialect::Twilio,
            parameters: BTreeMap::new(),
            sip_headers: Vec::new(),
            http_headers: BTreeMap::new(),
            auth_token_env: None,
            auth_token_file: None,
            signing_token_env: None,
            signing_token_file: None,
            ca_file: None,
            tls_server_name: None,
            connect_timeout: Span::seconds(5),
            fallback_prompt: None,
            on_close: OnClose::HangUp,
            playout_limit: Span::seconds(120),
            caller_audio_limit: Span::seconds(4),
        }
    }
}

/// The protocol of an AI backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Twilio Media Streams.
    #[default]
    Twilio,
}

/// What happens when an AI backend ends or loses the WebSocket in mid-call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClose {
    /// Queued audio is played out, then BYE.
    #[default]
    HangUp,
    /// The fallback prompt, then BYE.
    PlayFallback,
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
