//! What the configuration says of an AI agent. Plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::ai::dialect::{AgentSettings, Dialect};
use engine::ai::{BargeIn, LatencyBudget, Secret};

use crate::sip::TransferTarget;

/// One AI agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// The name that routes refer to.
    pub name: String,
    /// The protocol.
    pub dialect: Dialect,
    /// `ws://`, `wss://`, or `tcp://` for AudioSocket.
    pub url: String,
    /// What the operator wants of the agent, its tools included.
    pub settings: AgentSettings,
    /// What calling a tool does, for each of [`AgentSettings::tools`].
    pub tools: Vec<ToolConfig>,
    /// Where a call may be transferred to, by names that the bot knows.
    pub transfers: BTreeMap<String, TransferTarget>,
    /// What happens when the caller speaks while the bot does.
    pub barge_in: BargeIn,
    /// How long bot audio may wait, and what then.
    pub latency: LatencyBudget,
    /// What happens when the connection is lost in mid-call; `None` ends the stream.
    pub reconnect: Option<ReconnectConfig>,
    /// The agents that take over, in this order, when this one is lost or cannot be reached.
    pub fallback_agents: Vec<String>,
    /// Sent in the start message. Values are templates: `{call_id}`, `{from}`, `{to}` (the user parts),
    /// `{from_display}`, `{from_uri}`, `{to_uri}` and `{header:NAME}`; anything else stays as it is.
    pub custom_parameters: Vec<(String, String)>,
    /// SIP headers of the INVITE to pass on in the start message, as custom parameters of the same name.
    /// Values are cut at 256 bytes and stripped of control characters.
    pub sip_headers: Vec<String>,
    /// HTTP headers of the WebSocket handshake.
    pub http_headers: Vec<(String, String)>,
    /// Sent in the handshake, in the header that the dialect has for it.
    pub bearer_token: Option<Secret>,
    /// `AC` and 32 hexadecimal digits; empty for the usual one.
    pub account_sid: String,
    /// Signs the handshake as Twilio does (`X-Twilio-Signature`), for backends that check it, and opens the calls
    /// resource of the API.
    pub signing_token: Option<Secret>,
    /// A file of PEM certificates to trust besides the public authorities, for `wss://`.
    pub ca_file: Option<PathBuf>,
    /// The name that the backend's certificate must have, if not the URL's host.
    pub tls_server_name: Option<String>,
    /// How long the backend may take to accept the WebSocket; the caller hears ringing meanwhile.
    pub connect_timeout: Duration,
    /// Played, before BYE, to a caller whose backend cannot be reached; without it they get 503.
    pub fallback_prompt: Option<PathBuf>,
    /// When the backend ends the stream in mid-call.
    pub on_close: OnClose,
    /// When the backend is lost in mid-call, for good; as `on_close` if `None`.
    pub on_failure: Option<OnClose>,
    /// How much bot audio may wait to be played; at least 60 s.
    pub playout_limit: Duration,
    /// How much caller audio may wait to be sent before the oldest is dropped.
    pub caller_audio_limit: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            dialect: Dialect::Twilio,
            url: String::new(),
            settings: AgentSettings { flush_on_speech: true, ..AgentSettings::default() },
            tools: Vec::new(),
            transfers: BTreeMap::new(),
            barge_in: BargeIn::default(),
            latency: LatencyBudget::default(),
            reconnect: None,
            fallback_agents: Vec::new(),
            custom_parameters: Vec::new(),
            sip_headers: Vec::new(),
            http_headers: Vec::new(),
            bearer_token: None,
            account_sid: String::new(),
            signing_token: None,
            ca_file: None,
            tls_server_name: None,
            connect_timeout: Duration::from_secs(5),
            fallback_prompt: None,
            on_close: OnClose::HangUp,
            on_failure: None,
            playout_limit: Duration::from_secs(120),
            caller_audio_limit: Duration::from_secs(4),
        }
    }
}

impl AgentConfig {
    /// The account SID that its streams name, and that the calls resource is under.
    #[must_use]
    pub fn account(&self) -> String {
        if self.account_sid.is_empty() { format!("AC{}", "0".repeat(32)) } else { self.account_sid.clone() }
    }

    /// Where a call may be transferred to of what a bot names: by its name, its address, or the number in it.
    #[must_use]
    pub fn transfer_target(&self, wanted: &str) -> Option<&TransferTarget> {
        let wanted = wanted.trim();
        let mut targets = self.transfers.values();
        let by_address = || targets.find(|target| target.as_str() == wanted);
        self.transfers.get(wanted).or_else(by_address).or_else(|| {
            let number = wanted.strip_prefix("tel:").unwrap_or(wanted);
            let is_number = number.bytes().any(|byte| byte.is_ascii_digit());
            self.transfers.values().find(|target| is_number && target.user() == number)
        })
    }
}

/// What happens to a call whose backend is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnClose {
    /// What it had queued is played out (at most [`super::CallConfig::goodbye_limit`]), then BYE.
    #[default]
    HangUp,
    /// The fallback prompt is played, then BYE.
    PlayFallback,
    /// The call is transferred; if that fails, as [`OnClose::PlayFallback`] where there is a prompt.
    Transfer(TransferTarget),
}

/// What calling a tool does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolConfig {
    /// What the model calls it.
    pub name: String,
    /// What it does.
    pub action: ToolAction,
}

/// What a tool can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolAction {
    /// Ends the call after what the bot has said.
    HangUp,
    /// Transfers the call after what the bot has said.
    Transfer {
        /// The one place, by its name in [`AgentConfig::transfers`]; else the argument `target` names it.
        target: Option<String>,
    },
    /// Sends the keys of the argument `digits` to the caller.
    SendDtmf,
    /// Puts the caller on hold, or takes them back if the argument `on` is false.
    Hold,
    /// Keeps the caller's audio from the bot, or no longer if the argument `on` is false.
    Mute,
    /// Steers the recording by the argument `command`.
    Record,
}

/// What happens when the connection is lost in mid-call. [`engine::ai::Reconnect`] with the filler still in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct ReconnectConfig {
    /// Everything else.
    pub reconnect: engine::ai::Reconnect,
    /// What the caller hears meanwhile, again and again.
    pub filler: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_to_configured_places_only() {
        let target = |text: &str| text.parse::<TransferTarget>().expect("a target");
        let places =
            [("sales", "sip:sales@pbx.example.com"), ("desk", "sip:+4930123@pbx.example.com;user=phone")];
        let transfers = places.map(|(name, place)| (name.to_owned(), target(place))).into();
        let agent = AgentConfig { transfers, ..AgentConfig::default() };
        for (wanted, place) in [
            ("sales", Some(0)),
            (" desk ", Some(1)),
            ("sip:sales@pbx.example.com", Some(0)),
            ("+4930123", Some(1)),
            ("tel:+4930123", Some(1)),
            ("sip:sales@evil.example.net", None),
            ("+4930124", None),
            ("pbx", None),
            ("", None),
        ] {
            let found = agent.transfer_target(wanted).map(TransferTarget::as_str);
            assert_eq!(found, place.map(|place: usize| places[place].1), "{wanted}");
        }
    }
}
