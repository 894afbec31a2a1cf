//! `[agents.NAME]` and the tables below it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::ai::{AccountSid, AudioName, FreeTable, OnFailure};
use super::super::types::{FilePath, Host, Span};
use crate::sip::TransferTarget;

/// `[agents.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// `ws://` or `wss://`, or `tcp://` for AudioSocket; the dialects of vendors know theirs.
    pub url: String,
    /// The protocol.
    pub dialect: Dialect,
    /// For Azure: the resource's host, from which the URL is made.
    pub endpoint: Option<Host>,
    /// The model.
    pub model: Option<String>,
    /// The id of an agent that is configured at the vendor.
    pub agent_id: Option<String>,
    /// The system prompt.
    pub instructions: Option<String>,
    /// A text file that holds it.
    pub instructions_file: Option<FilePath>,
    /// What the bot says first.
    pub greeting: Option<String>,
    /// BCP 47.
    pub language: Option<String>,
    /// A voice's name.
    pub voice: Option<String>,
    /// The audio wanted, where the dialect leaves the choice to us.
    pub format: Option<AudioName>,
    /// Merged over the message that sets the session up.
    pub session: FreeTable,
    /// A JSON file with more of the same; `null` leaves a key out.
    pub session_file: Option<FilePath>,
    /// Functions that the model may call.
    pub tools: Vec<AgentTool>,
    /// Where a call may be transferred to, by names that the bot knows.
    pub transfers: BTreeMap<String, TransferTarget>,
    /// What happens when the caller speaks while the bot does.
    pub barge_in: BargeIn,
    /// How long bot audio may wait, and what then.
    pub latency: Latency,
    /// What happens when the connection is lost in mid-call.
    pub reconnect: Reconnect,
    /// The agents that take over, in this order, when this one is lost or cannot be reached.
    pub fallback_agents: Vec<String>,
    /// When the backend is lost for good; as `on_close` if not given.
    pub on_failure: Option<OnFailure>,
    /// Sent in the start message; values may hold `{call_id}`, `{from}`, `{to}`,
    /// `{from_display}`, `{from_uri}`, `{to_uri}` and `{header:NAME}`.
    pub parameters: BTreeMap<String, String>,
    /// SIP headers of the INVITE passed on in the start message.
    pub sip_headers: Vec<String>,
    /// HTTP headers of the WebSocket handshake.
    pub http_headers: BTreeMap<String, String>,
    /// The environment variable that holds the token or key.
    pub auth_token_env: Option<String>,
    /// The file that holds the token or key.
    pub auth_token_file: Option<FilePath>,
    /// The account of the Twilio dialect and of the calls resource.
    pub account_sid: Option<AccountSid>,
    /// The environment variable that holds the token that signs the handshake as Twilio does, and opens the calls
    /// resource.
    pub signing_token_env: Option<String>,
    /// The file that holds it.
    pub signing_token_file: Option<FilePath>,
    /// A file of PEM certificates to trust besides the public authorities.
    pub ca_file: Option<FilePath>,
    /// The name that the backend's certificate must have.
    pub tls_server_name: Option<Host>,
    /// How long the backend may take to accept the connection.
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
            endpoint: None,
            model: None,
            agent_id: None,
            instructions: None,
            instructions_file: None,
            greeting: None,
            language: None,
            voice: None,
            format: None,
            session: FreeTable::default(),
            session_file: None,
            tools: Vec::new(),
            transfers: BTreeMap::new(),
            barge_in: BargeIn::default(),
            latency: Latency::default(),
            reconnect: Reconnect::default(),
            fallback_agents: Vec::new(),
            on_failure: None,
            parameters: BTreeMap::new(),
            sip_headers: Vec::new(),
            http_headers: BTreeMap::new(),
            auth_token_env: None,
            auth_token_file: None,
            account_sid: None,
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
    /// Telnyx media streaming.
    Telnyx,
    /// Plivo audio streams.
    Plivo,
    /// Vonage WebSockets.
    Vonage,
    /// Exotel's voice streaming.
    Exotel,
    /// Asterisk's chan_websocket.
    Asterisk,
    /// The other side of Asterisk's chan_websocket.
    AsteriskApp,
    /// Asterisk's AudioSocket, over TCP.
    #[serde(rename = "audiosocket")]
    AudioSocket,
    /// jambonz listen and stream.
    Jambonz,
    /// FreeSWITCH mod_audio_fork.
    AudioFork,
    /// FreeSWITCH mod_audio_stream.
    AudioStream,
    /// Audio and nothing else.
    Raw,
    /// The OpenAI Realtime API.
    #[serde(rename = "openai")]
    OpenAi,
    /// Azure Voice Live.
    AzureVoiceLive,
    /// The Deepgram Voice Agent API.
    Deepgram,
    /// ElevenLabs Agents.
    #[serde(rename = "elevenlabs")]
    ElevenLabs,
    /// Gemini Live.
    Gemini,
}

/// What happens when an AI backend ends the stream in mid-call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClose {
    /// Queued audio is played out, then BYE.
    #[default]
    HangUp,
    /// The fallback prompt, then BYE.
    PlayFallback,
}

/// `[[agents.NAME.tools]]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentTool {
    /// What the model calls it. `end_call`, `transfer_call` and `send_dtmf` need no more than that.
    pub name: String,
    /// When to call it, for the model.
    pub description: String,
    /// JSON Schema of its arguments, as a table.
    pub arguments: FreeTable,
    /// A file of JSON Schema, instead.
    pub arguments_file: Option<FilePath>,
    /// What calling it does.
    pub action: Option<ToolAction>,
    /// For `transfer`: the one place, by its name in `transfers`; without it the model chooses.
    pub target: Option<String>,
}

/// What a tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolAction {
    /// Ends the call after what the bot has said.
    HangUp,
    /// Transfers the call after what the bot has said.
    Transfer,
    /// Sends keys to the caller.
    SendDtmf,
    /// Puts the caller on hold, or takes them back.
    Hold,
    /// Keeps the caller's audio from the bot, or no longer.
    Mute,
    /// Steers the recording.
    Record,
}

/// `[agents.NAME.barge_in]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BargeIn {
    /// Who decides that the caller interrupts the bot.
    pub mode: BargeInMode,
    /// For `after`: how much speech it takes.
    pub after: Option<Span>,
    /// For `after`: the same in words, of 300 ms each.
    pub words: Option<u32>,
    /// For `engine`: shorter speech changes nothing.
    pub backchannel: Span,
}

/// Who decides that the caller interrupts the bot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BargeInMode {
    /// The backend.
    #[default]
    Backend,
    /// We, as soon as speech is heard.
    Engine,
    /// Nobody.
    Off,
    /// We, after so much speech.
    After,
}

/// `[agents.NAME.latency]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// How much bot audio may wait before the policy is applied.
    pub limit: Span,
    /// What is done then.
    pub policy: LatencyPolicy,
}

impl Default for Latency {
    fn default() -> Self {
        Self { limit: Span::seconds(10), policy: LatencyPolicy::Keep }
    }
}

/// What is done about more bot audio than the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyPolicy {
    /// Nothing.
    #[default]
    Keep,
    /// The oldest is left out, from silence to silence.
    DropOldest,
    /// The backend is asked to pause.
    BackPressure,
    /// What comes beyond is refused.
    Reject,
}

/// `[agents.NAME.reconnect]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reconnect {
    /// How often it is tried; 0 never. If not given: 5 for the dialects of vendors, else 0.
    pub attempts: Option<u32>,
    /// The pause before the first attempt; it doubles.
    pub backoff: Span,
    /// The longest pause.
    pub longest_backoff: Span,
    /// How long it may take altogether.
    pub window: Span,
    /// A WAV file that the caller hears meanwhile, again and again.
    pub filler: Option<FilePath>,
    /// How long before the end of a session that has a limit a new one is made.
    pub renew_before: Span,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            attempts: None,
            backoff: Span(std::time::Duration::from_millis(250)),
            longest_backoff: Span::seconds(4),
            window: Span::seconds(15),
            filler: None,
            renew_before: Span::seconds(60),
        }
    }
}
