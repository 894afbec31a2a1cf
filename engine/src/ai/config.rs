//! How to reach an AI backend, and what it is told about a call.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::dialect::{AgentSettings, AudioFormat, Dialect};
use crate::time::Duration;

/// How to reach and treat an AI backend.
#[derive(Clone, Debug)]
pub struct AiConfig {
    /// `ws://` or `wss://`; a query string is allowed.
    pub url: String,
    /// The language it speaks.
    pub dialect: Dialect,
    /// What the operator wants of the agent.
    pub settings: Arc<AgentSettings>,
    /// How the call's leg sends and receives, or mu-law.
    pub line: AudioFormat,
    /// What happens when the caller speaks while the bot does.
    pub barge_in: BargeIn,
    /// How long bot audio may wait, and what then.
    pub latency: LatencyBudget,
    /// What happens when the connection is lost in mid-call; `None` ends the stream.
    pub reconnect: Option<Reconnect>,
    /// Who is tried, in this order, when this backend is lost for good.
    pub fallbacks: Vec<Self>,
    /// Names and values for the backend's application. Values may hold the templates of
    /// [`CallMeta::expand`].
    pub custom_parameters: BTreeMap<String, String>,
    /// `AC` and 32 hexadecimal digits; a fixed one is used if empty.
    pub account_sid: String,
    /// The value of an `Authorization` header on the upgrade, with its scheme; a token alone is sent as
    /// `Bearer`.
    pub authorization: Option<Secret>,
    /// Signs the upgrade as Twilio does: `X-Twilio-Signature`, the HMAC-SHA1 of the URL.
    pub auth_token: Option<Secret>,
    /// More header fields on the upgrade.
    pub headers: Vec<(String, String)>,
    /// A file of PEM certificates to trust besides the public authorities.
    pub extra_ca: Option<PathBuf>,
    /// The name that the certificate must have, if not the URL's host.
    pub tls_server_name: Option<String>,
    /// How long one attempt may take, from name resolution to the upgrade's answer.
    pub connect_timeout: Duration,
    /// The time between the starts of two attempts.
    pub retry_interval: Duration,
    /// How long attempts are made and waited for, altogether.
    pub connect_window: Duration,
    /// How much bot audio may wait; at least 60 s. The newest beyond it is dropped.
    pub max_queue: Duration,
    /// How much bot audio a spurt needs before it is played.
    pub cushion: Duration,
    /// How far gaps inside spurts may raise the cushion.
    pub cushion_limit: Duration,
    /// How much caller audio may wait for a backend that reads slowly. The oldest beyond it is dropped.
    pub max_outbound: Duration,
    /// The time between pings. A backend that stays silent for two of them is given up.
    pub ping_interval: Duration,
    /// How long the backend may refuse to read.
    pub write_stall: Duration,
    /// The largest message taken, in bytes. A larger one ends the stream with close code 1009.
    pub max_message_bytes: usize,
    /// How long audio that is queued when the backend closes may go on playing.
    pub drain_limit: Duration,
}

impl AiConfig {
    /// The defaults for a backend at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            dialect: Dialect::default(),
            settings: Arc::default(),
            line: AudioFormat::PCMU,
            barge_in: BargeIn::default(),
            latency: LatencyBudget::default(),
            reconnect: None,
            fallbacks: Vec::new(),
            custom_parameters: BTreeMap::new(),
            account_sid: String::new(),
            authorization: None,
            auth_token: None,
            headers: Vec::new(),
            extra_ca: None,
            tls_server_name: None,
            connect_timeout: Duration::from_secs(2),
            retry_interval: Duration::from_millis(250),
            connect_window: Duration::from_millis(2500),
            max_queue: Duration::from_secs(120),
            cushion: Duration::from_millis(60),
            cushion_limit: Duration::from_millis(200),
            max_outbound: Duration::from_secs(3),
            ping_interval: Duration::from_secs(10),
            write_stall: Duration::from_secs(2),
            max_message_bytes: 1 << 20,
            drain_limit: Duration::from_secs(10),
        }
    }
}

/// What happens when the caller speaks while the bot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BargeIn {
    /// Who decides.
    pub mode: BargeInMode,
    /// Shorter speech is taken for a backchannel, an "mm-hm", and changes nothing; in engine mode only.
    pub backchannel: Duration,
}

/// Who decides that the caller interrupts the bot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BargeInMode {
    /// The backend: by its clear, or its notice that the caller speaks.
    #[default]
    Backend,
    /// Our voice activity detection, at once.
    Engine,
    /// Nobody: the bot is always heard to the end.
    Off,
    /// Our voice activity detection, after so much speech.
    After(Duration),
}

/// How much bot audio may wait to be played, and what happens when there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyBudget {
    /// Beyond this the policy is applied. [`AiConfig::max_queue`] holds besides.
    pub limit: Duration,
    /// What is done.
    pub policy: LatencyPolicy,
}

/// What is done about more bot audio than the budget allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatencyPolicy {
    /// Nothing: a burst is played in full.
    #[default]
    Keep,
    /// The oldest is left out, from one silence to the next.
    DropOldest,
    /// The backend is asked to pause, where its dialect has a word for that.
    BackPressure,
    /// What comes beyond is refused.
    Reject,
}

/// What happens when the connection is lost in mid-call.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconnect {
    /// How often it is tried.
    pub attempts: u32,
    /// The pause before the first attempt; it doubles from one to the next, with some chance in it.
    pub backoff: Duration,
    /// The longest pause.
    pub longest_backoff: Duration,
    /// How long it may take altogether.
    pub window: Duration,
    /// What the caller hears meanwhile, again and again: 8 kHz, or silence.
    pub filler: Option<Arc<[i16]>>,
    /// How long before the end of a session that has a limit a new one is made, at the next silence.
    pub renew_before: Duration,
}

impl Default for BargeIn {
    fn default() -> Self {
        Self { mode: BargeInMode::default(), backchannel: Duration::ZERO }
    }
}

impl Default for LatencyBudget {
    fn default() -> Self {
        Self { limit: Duration::from_secs(10), policy: LatencyPolicy::default() }
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff: Duration::from_millis(250),
            longest_backoff: Duration::from_secs(4),
            window: Duration::from_secs(15),
            filler: None,
            renew_before: Duration::from_secs(60),
        }
    }
}

/// Where a secret is. Read for every connection, so that it can be changed without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The name of an environment variable.
    Env(String),
    /// A file; surrounding white space is ignored.
    File(PathBuf),
}

impl Secret {
    /// Reads the secret. May block on the file system.
    pub(super) fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} is not set or not valid UTF-8")),
            Self::File(path) => std::fs::read_to_string(path)
                .map(|secret| secret.trim().to_owned())
                .map_err(|error| format!("cannot read {}: {error}", path.display())),
        }
    }
}

/// What is known about a call. Most of it comes from the peer and is not to be trusted.
#[derive(Clone, Debug, Default)]
pub struct CallMeta {
    /// The SIP Call-ID.
    pub call_id: String,
    /// The caller's number or user name.
    pub from_number: String,
    /// The caller's display name.
    pub from_name: String,
    /// The number or user name that was called.
    pub to_number: String,
    /// Header fields of the INVITE that may be passed on.
    pub headers: Vec<(String, String)>,
}

impl CallMeta {
    /// Replaces `{call_id}`, `{from_number}`, `{from_name}`, `{to_number}` and `{header:NAME}` in
    /// `template`; anything else stays. Control characters are removed from the values, and the result ends
    /// after 500 characters, which is what Twilio allows.
    #[must_use]
    pub fn expand(&self, template: &str) -> String {
        let mut expanded = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            expanded.push_str(before);
            match after.split_once('}').and_then(|(name, after)| Some((self.value(name)?, after))) {
                Some((value, after)) => {
                    expanded.push_str(value);
                    rest = after;
                }
                None => {
                    expanded.push('{');
                    rest = after;
                }
            }
        }
        expanded.push_str(rest);
        expanded.chars().filter(|c| !c.is_control()).take(MAX_PARAMETER_CHARS).collect()
    }

    /// `CA` and 32 hexadecimal digits that depend on the Call-ID alone: what the Twilio dialect calls the call, so that
    /// logs and requests of both sides can be joined.
    #[must_use]
    pub fn call_sid(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.call_id.as_bytes());
        let hex = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
        format!("CA{}", hex.collect::<String>())
    }

    fn value(&self, name: &str) -> Option<&str> {
        Some(match name {
            "call_id" => &self.call_id,
            "from_number" => &self.from_number,
            "from_name" => &self.from_name,
            "to_number" => &self.to_number,
            _ => {
                let wanted = name.strip_prefix("header:")?;
                let header = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                header.map_or("", |(_, value)| value)
            }
        })
    }
}

const MAX_PARAMETER_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> CallMeta {
        CallMeta {
            call_id: "a84b4c76e66710".into(),
            from_number: "+4930123".into(),
            from_name: "Eve\r\n{to_number}".into(),
            to_number: "agent".into(),
            headers: vec![("X-Tenant".into(), "acme".into())],
        }
    }

    #[test]
    fn templates_are_filled_in() {
        assert_eq!(
            meta().expand("{from_number} -> {to_number} ({call_id})"),
            "+4930123 -> agent (a84b4c76e66710)"
        );
        assert_eq!(meta().expand("{header:x-tenant}|{header:X-None}|"), "acme||");
    }

    #[test]
    fn unknown_templates_stay() {
        assert_eq!(meta().expand("{nope} {{call_id}} {call_id {"), "{nope} {a84b4c76e66710} {call_id {");
    }

    #[test]
    fn values_are_cleaned_and_never_expanded_again() {
        assert_eq!(meta().expand("{from_name}"), "Eve{to_number}");
        let long = CallMeta { from_name: "é".repeat(10_000), ..meta() };
        assert_eq!(long.expand("{from_name}").chars().count(), 500);
    }

    proptest::proptest! {
        #[test]
        fn expand_never_panics(template in ".{0,100}|[{}a-z:_]{0,60}") {
            let _ = meta().expand(&template);
        }
    }
}
