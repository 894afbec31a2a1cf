//! What a codec is made of: the call, and what the operator wants of the agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AudioFormat, Formats};

/// What a backend learns about a call when its stream starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamStart {
    /// `MZ` and 32 hexadecimal digits.
    pub stream_sid: String,
    /// `CA` and 32 hexadecimal digits.
    pub call_sid: String,
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// When the stream started, milliseconds since 1970.
    pub unix_ms: u64,
    /// The SIP Call-ID.
    pub call_id: String,
    /// The caller's number or user name.
    pub from: String,
    /// The caller's display name.
    pub from_name: String,
    /// The number or user name that was called.
    pub to: String,
    /// Names and values for the backend's application.
    pub custom_parameters: BTreeMap<String, String>,
    /// What the operator wants of the agent.
    pub settings: Arc<AgentSettings>,
    /// How the call's leg sends and receives, so that it may be passed through.
    pub line: AudioFormat,
    /// The handle of [`super::Incoming::Resumption`], on a new connection of the same call.
    pub resume: Option<String>,
    /// What was said so far, on a new connection of the same call: who, and what.
    pub history: Vec<(super::Sender, String)>,
}

/// What the operator wants of an agent. Each dialect takes what it has words for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentSettings {
    /// The audio wanted, where the dialect leaves the choice to us.
    pub formats: Option<Formats>,
    /// The model.
    pub model: Option<String>,
    /// The id of an agent that is configured at the vendor.
    pub agent_id: Option<String>,
    /// The system prompt.
    pub instructions: Option<String>,
    /// What the bot says first.
    pub greeting: Option<String>,
    /// BCP 47.
    pub language: Option<String>,
    /// A voice's name.
    pub voice: Option<String>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Keys of the session's set-up message, merged over what we would send; `null` leaves a key out.
    pub session: serde_json::Map<String, serde_json::Value>,
    /// Whether the backend's notice that the caller speaks drops queued audio.
    pub flush_on_speech: bool,
}

/// A function that the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// When to call it, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: serde_json::Value,
}

/// How a connection begins, besides what the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// What carries the messages.
    pub carrier: Carrier,
    /// `Sec-WebSocket-Protocol`.
    pub subprotocol: Option<&'static str>,
    /// Added to the URL's query unless it has the name.
    pub query: Vec<(&'static str, String)>,
    /// The header field and the scheme that carry the configured credential; `Authorization` and `Bearer` if `None`.
    /// Without a scheme the credential stands alone.
    pub credential: Option<(&'static str, &'static str)>,
}

impl Handshake {
    /// A WebSocket that names a subprotocol.
    pub(super) fn of_subprotocol(name: &'static str) -> Self {
        Self { subprotocol: Some(name), ..Self::default() }
    }
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// RFC 6455.
    #[default]
    WebSocket,
    /// TCP with the frames of Asterisk's AudioSocket: each is a binary message of type, length and payload.
    AudioSocket,
}
