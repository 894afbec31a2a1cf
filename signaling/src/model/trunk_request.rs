//! What is asked for when a trunk is made or changed, and what its calls came to.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{AuthMethod, TrunkTransport};

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct FieldError {
    /// Its name, with an index for one of several: `allowed_ips[0]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// One of `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

macro_rules! settings {
    ($($(#[$meta:meta])* pub $field:ident: $type:ty,)*) => {
        /// A trunk to be made. What is left out has a default.
        #[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(example = json!({
            "trunk_id": "carrier_main",
            "name": "Main carrier",
            "provider": "carrier",
            "proxy_address": "sip.example.com",
            "proxy_port": 5060,
            "username": "account",
            "password": "secret",
            "transport": "UDP",
            "preferred_codecs": ["PCMU", "PCMA"],
            "max_concurrent_calls": 100,
            "calls_per_second_limit": 10
        }))]
        pub struct NewTrunk {
            /// Names it within its tenant: letters, digits, `_`, `-` and `.`, up to 64; not `status` or `stats`.
            #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$")]
            pub trunk_id: String,
            /// The carrier's host name or address.
            #[schema(min_length = 1, max_length = 253)]
            pub proxy_address: String,
            $($(#[$meta])* #[serde(default)] pub $field: $type,)*
        }

        /// Changes of a trunk: what is left out stays, `null` takes away what may be missing.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(example = json!({
            "allowed_ips": ["198.51.100.0/24"], "transport": "TLS", "auth_method": "digest"
        }))]
        pub struct TrunkPatch {
            /// As in the path, if it is given at all: a trunk keeps its name.
            #[serde(default)]
            pub trunk_id: Option<String>,
            /// The carrier's host name or address.
            #[serde(default)]
            #[schema(min_length = 1, max_length = 253)]
            pub proxy_address: Option<String>,
            $($(#[$meta])* #[serde(default)] pub $field: $type,)*
        }

        impl From<NewTrunk> for TrunkPatch {
            fn from(new: NewTrunk) -> Self {
                Self {
                    trunk_id: Some(new.trunk_id),
                    proxy_address: Some(new.proxy_address),
                    $($field: new.$field,)*
                }
            }
        }
    };
}

settings! {
        /// For people; `trunk_id` if not given.
        #[schema(min_length = 1, max_length = 128)]
        pub name: Option<String>,
        /// The carrier, as metrics and records name it; `trunk_id` if not given.
        #[schema(min_length = 1, max_length = 64)]
        pub provider: Option<String>,
        /// Its port; without one, DNS decides (RFC 3263).
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<u16>, minimum = 1)]
        pub proxy_port: Option<Option<u16>>,
        /// Goes before the proxy: `host`, `host:port` or a SIP URI.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 255)]
        pub outbound_proxy: Option<Option<String>>,
        /// How it is reached; UDP if not given.
        pub transport: Option<TrunkTransport>,
        /// The account's user.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 128)]
        pub username: Option<Option<String>>,
        /// The account's password; kept sealed and never shown. `null` removes it.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 256, write_only)]
        pub password: Option<Option<Secret>>,
        /// Asked for only by this realm; any if not given.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 128)]
        pub realm: Option<Option<String>>,
        /// The user in answers to challenges, if not `username`.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 128)]
        pub auth_user: Option<Option<String>>,
        /// The user of From, if not the call's.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 128)]
        pub from_user: Option<Option<String>>,
        /// The host of From and of the address of record, if not `proxy_address`.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 253)]
        pub from_domain: Option<Option<String>>,
        /// The name that is shown.
        #[serde(deserialize_with = "given")]
        #[schema(value_type = Option<String>, max_length = 128)]
        pub display_name: Option<Option<String>>,
        /// Calls come from it; true if not given.
        pub supports_inbound: Option<bool>,
        /// Calls go to it; true if not given.
        pub supports_outbound: Option<bool>,
        /// Whether to register. If not given: when there are a username and a password, and `auth_method` is not set to
        /// `ip`.
        pub register: Option<bool>,
        /// How long a registration is asked to hold, 30 to 86400; 3600 if not given.
        #[schema(minimum = 30, maximum = 86400)]
        pub register_expires_s: Option<u32>,
        /// The codecs to offer, best first; ours if empty. Those that we do not have are left out of offers.
        #[schema(max_items = 16)]
        pub preferred_codecs: Option<Vec<String>>,
        /// Calls at once, both ways and on each node, 1 to 100000; 100 if not given.
        #[schema(minimum = 1, maximum = 100000)]
        pub max_concurrent_calls: Option<u32>,
        /// New calls per second, both ways and on each node, 1 to 10000; 10 if not given.
        #[schema(minimum = 1, maximum = 10000)]
        pub calls_per_second_limit: Option<u32>,
        /// Where its calls may come from: addresses or networks such as `198.51.100.0/24`. Without any, only from where
        /// its proxy is.
        #[schema(max_items = 64)]
        pub allowed_ips: Option<Vec<String>>,
        /// How its calls to us prove whose they are; `ip` if not given.
        pub auth_method: Option<AuthMethod>,
        /// Trunks of the same tenant that are tried when this one fails, in order. One that is not there (yet) is
        /// skipped.
        #[schema(max_items = 16)]
        pub backup_trunks: Option<Vec<String>>,
        /// How often it is asked for its health with OPTIONS, 5 to 3600; 0, the default, never.
        #[schema(maximum = 3600)]
        pub options_ping_s: Option<u32>,
        /// What a minute costs, in whatever currency the operator counts; 0 if not given.
        #[schema(minimum = 0, maximum = 1000000)]
        pub cost_per_minute: Option<f64>,
        /// Whether it is in use; false if not given: `activate` comes next.
        pub active: Option<bool>,
}

/// A password on its way: it does not show itself, and leaves nothing behind.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// What it is.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Tells `null` from what is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What a trunk's calls came to over a time, from the records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrunkSummary {
    /// Which.
    pub trunk_id: String,
    /// Its carrier.
    pub provider: String,
    /// Legs that are over, both ways.
    pub calls: i64,
    /// Of those, answered ones.
    pub answered: i64,
    /// Of those, failed ones: neither answered, nor busy, unanswered or given up by the caller.
    pub failed: i64,
    /// Legs that run now.
    pub active: i64,
    /// 1 minus the part that failed, 0 to 1; 1 where there were no calls.
    pub success_rate: f64,
    /// Answered ones among those that are over, 0 to 1 (the answer-seizure ratio); none without calls.
    pub answer_rate: Option<f64>,
    /// Failed ones in the last hour.
    pub failed_last_hour: i64,
    /// The answered ones' time from answer to end, together.
    pub duration_s: f64,
    /// Its mean; none without answered calls.
    pub mean_duration_s: Option<f64>,
    /// What they cost.
    pub cost: f64,
}
