//! Trunks: the carriers and switches that calls come from and go to.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Moment, TenantId};

/// A trunk as it is kept. Its password is not part of it: the store seals that and opens it only for the registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trunk {
    /// Names it within its tenant: letters, digits, `_`, `-` and `.`, up to 64.
    pub trunk_id: String,
    /// Whose.
    pub tenant: TenantId,
    /// For people.
    pub name: String,
    /// The carrier, as metrics and records name it.
    pub provider: String,
    /// The carrier's host name or address.
    pub proxy_address: String,
    /// Its port; without one, DNS decides (RFC 3263).
    pub proxy_port: Option<u16>,
    /// Goes before the proxy (a Route), such as `sip:192.0.2.1:5060;lr`, or `host` or `host:port`.
    pub outbound_proxy: Option<String>,
    /// How it is reached.
    pub transport: TrunkTransport,
    /// The account's user.
    pub username: Option<String>,
    /// Whether a password is kept.
    pub has_password: bool,
    /// Asked for only by this realm; any if not given.
    pub realm: Option<String>,
    /// The user in answers to challenges, if not `username`.
    pub auth_user: Option<String>,
    /// The user of From, if not the call's.
    pub from_user: Option<String>,
    /// The host of From, if not `proxy_address`.
    pub from_domain: Option<String>,
    /// The name that is shown.
    pub display_name: Option<String>,
    /// Calls come from it.
    pub supports_inbound: bool,
    /// Calls go to it.
    pub supports_outbound: bool,
    /// Whether to register; without it the trunk is NOREG.
    pub register: bool,
    /// How long a registration is asked to hold.
    pub register_expires_s: u32,
    /// The codecs to offer, best first; ours if empty.
    pub preferred_codecs: Vec<String>,
    /// Calls at once, both ways.
    pub max_concurrent_calls: u32,
    /// New calls per second, both ways.
    pub calls_per_second_limit: u32,
    /// Where its calls may come from; without any, only from where its proxy is.
    #[schema(value_type = Vec<String>)]
    pub allowed_ips: Vec<IpNet>,
    /// How its calls prove whose they are.
    pub auth_method: AuthMethod,
    /// Trunks of the same tenant that are tried when this one fails, in order.
    pub backup_trunks: Vec<String>,
    /// How often it is asked for its health with OPTIONS; 0 never.
    pub options_ping_s: u32,
    /// What a minute costs, in whatever currency the operator counts.
    pub cost_per_minute: f64,
    /// Whether it is in use.
    pub active: bool,
    /// When it was made.
    pub created_at: Moment,
    /// When it was changed.
    pub updated_at: Moment,
}

/// What carries a trunk's signalling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TrunkTransport {
    /// Datagrams.
    #[default]
    #[serde(alias = "udp")]
    Udp,
    /// A stream.
    #[serde(alias = "tcp")]
    Tcp,
    /// An encrypted stream.
    #[serde(alias = "tls")]
    Tls,
}

/// How a trunk's calls prove whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// By the address that they come from.
    #[default]
    Ip,
    /// By the account's password.
    Digest,
    /// By both.
    Both,
}

/// How a trunk's registration stands, in the words that operators of switches know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum TrunkState {
    /// Nothing was tried, or it was taken back.
    #[serde(rename = "UNREGED")]
    Unregistered,
    /// A request is on its way.
    #[serde(rename = "TRYING")]
    Trying,
    /// Calls come to us.
    #[serde(rename = "REGED")]
    Registered,
    /// It was refused in a way that trying again does not mend; the cause says how.
    #[serde(rename = "FAILED")]
    Failed,
    /// It failed and will be tried again.
    #[serde(rename = "FAIL_WAIT")]
    FailWait,
    /// It held, and could not be renewed in time.
    #[serde(rename = "EXPIRED")]
    Expired,
    /// It does not register.
    #[serde(rename = "NOREG")]
    NotRegistering,
    /// It is not in use.
    #[serde(rename = "DOWN")]
    Inactive,
}

/// What OPTIONS found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PingState {
    /// Not asked, or no answer yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not; calls go to the next trunk.
    Down,
}

/// How a trunk stands now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrunkStatus {
    /// Which.
    pub trunk_id: String,
    /// Its carrier.
    pub provider: String,
    /// Its registration.
    pub state: TrunkState,
    /// Since when.
    pub since: Moment,
    /// Why it failed last, such as `403 Forbidden`.
    pub cause: Option<String>,
    /// How long the carrier lets the registration hold.
    pub expires_s: Option<u64>,
    /// Its health.
    pub ping: PingState,
    /// How long its last answer to OPTIONS took.
    pub ping_ms: Option<f64>,
    /// Calls that it carries now, on the node that was asked.
    pub active_calls: u32,
    /// The user part of the Contact that it is registered with; calls that come there are this trunk's.
    pub contact_user: Option<String>,
    /// The node that keeps it registered.
    pub node: Option<String>,
}

impl TrunkTransport {
    /// As the store and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The one of that name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

impl AuthMethod {
    /// As the store and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Digest => "digest",
            Self::Both => "both",
        }
    }

    /// The one of that name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ip, Self::Digest, Self::Both].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// Whether a call has to come from an address of the trunk.
    #[must_use]
    pub const fn wants_address(self) -> bool {
        matches!(self, Self::Ip | Self::Both)
    }

    /// Whether a call has to show that it knows the password.
    #[must_use]
    pub const fn wants_password(self) -> bool {
        matches!(self, Self::Digest | Self::Both)
    }
}

impl TrunkState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unregistered,
        Self::Trying,
        Self::Registered,
        Self::Failed,
        Self::FailWait,
        Self::Expired,
        Self::NotRegistering,
        Self::Inactive,
    ];

    /// The familiar word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unregistered => "UNREGED",
            Self::Trying => "TRYING",
            Self::Registered => "REGED",
            Self::Failed => "FAILED",
            Self::FailWait => "FAIL_WAIT",
            Self::Expired => "EXPIRED",
            Self::NotRegistering => "NOREG",
            Self::Inactive => "DOWN",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether calls can be expected to go through.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Registered | Self::NotRegistering)
    }
}

impl PingState {
    /// As the store and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Up => "UP",
            Self::Down => "DOWN",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Unknown, Self::Up, Self::Down].into_iter().find(|known| known.name() == name)
    }
}
