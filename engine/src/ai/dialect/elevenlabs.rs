//! ElevenLabs Agents: JSON text, audio in base64. What the agent is was configured at the vendor; we may override
//! what it allows.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::details::{convertible, details, told, unsupported_format};
use super::json::{self, Text};
use super::keypad::Keypad;
use super::overlay::{overlay, set};
use super::{
    AgentSettings, AudioFormat, Codec, Decoded, Encoding, Formats, Handshake, Ignored, Incoming, Kind,
    Outbox, Outgoing, Sender, StreamStart, ToolCall, base64,
};

#[derive(Debug)]
pub(super) struct ElevenLabs {
    start: StreamStart,
    formats: Formats,
    ready: bool,
    /// Audio up to this event was interrupted, however late it comes.
    interrupted: Option<i64>,
    caller_speaks: bool,
    keypad: Keypad,
}

/// What is read of every message. Audio comes with a type or without.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    audio_event: Option<AudioEvent<'a>>,
}

#[derive(Deserialize)]
struct AudioEvent<'a> {
    #[serde(borrow, default)]
    audio_base_64: Option<Text<'a>>,
    #[serde(default)]
    event_id: Option<i64>,
    #[serde(default)]
    is_final: Option<bool>,
}

impl ElevenLabs {
    pub(super) fn handshake(settings: &AgentSettings) -> Handshake {
        let agent = settings.agent_id.iter().map(|id| ("agent_id", id.clone()));
        Handshake { query: agent.collect(), credential: Some(("xi-api-key", "")), ..Handshake::default() }
    }

    pub(super) fn new(start: StreamStart) -> Self {
        let assumed = AudioFormat::l16(16_000);
        let formats = start.settings.formats.unwrap_or(Formats { caller: assumed, bot: assumed });
        Self {
            start,
            formats,
            ready: false,
            interrupted: None,
            caller_speaks: false,
            keypad: Keypad::default(),
        }
    }

    fn caller_speaks(&mut self, speaking: bool, decoded: &mut Decoded) {
        if self.caller_speaks != speaking {
            self.caller_speaks = speaking;
            decoded.events.push(Incoming::CallerSpeech { speaking });
        }
    }

    /// The formats that the agent is configured for: to be obeyed.
    fn begin(&mut self, announced: &Value, decoded: &mut Decoded) {
        if std::mem::replace(&mut self.ready, true) {
            return;
        }
        for (key, format) in [
            ("user_input_audio_format", &mut self.formats.caller),
            ("agent_output_audio_format", &mut self.formats.bot),
        ] {
            let Some(name) = announced.get(key).filter(|name| !name.is_null()) else { continue };
            let name = name.as_str().unwrap_or_default();
            match read_format(name) {
                Some(read) => *format = read,
                None => decoded
                    .events
                    .push(unsupported_format(name, "configure the agent for ulaw_8000 or pcm_16000")),
            }
        }
        decoded.events.push(Incoming::Ready);
        if !self.start.history.is_empty() {
            decoded.replies.json(&json!({"type": "contextual_update", "text": told(&self.start.history)}));
        }
    }

    fn audio(&mut self, event: AudioEvent<'_>, decoded: &mut Decoded) -> Result<(), Ignored> {
        let stale =
            event.event_id.is_some_and(|id| self.interrupted.is_some_and(|interrupted| id <= interrupted));
        // Before the metadata nobody knows what the bytes are.
        if stale || !self.ready {
            return Err(Ignored::Stale);
        }
        let payload = event.audio_base_64.ok_or(Ignored::MediaWithoutPayload)?;
        let len = base64::append_decoded(&payload.0, &mut decoded.audio)?;
        self.caller_speaks(false, decoded);
        if len > 0 {
            decoded.events.push(Incoming::Audio { len, item: 0 });
        }
        if event.is_final == Some(true) {
            decoded.events.push(Incoming::AudioEnd);
        }
        Ok(())
    }

    fn event(&mut self, kind: &str, message: &Value, decoded: &mut Decoded) -> Result<(), Ignored> {
        let inner = |key: &str| message.get(key).unwrap_or(&Value::Null);
        match kind {
            "conversation_initiation_metadata" => {
                self.begin(inner("conversation_initiation_metadata_event"), decoded)
            }
            "interruption" => {
                let id = inner("interruption_event").get("event_id").and_then(Value::as_i64);
                self.interrupted = self.interrupted.max(id);
                self.caller_speaks(true, decoded);
                decoded.events.push(Incoming::Clear);
            }
            "ping" => {
                let id = inner("ping_event").get("event_id").unwrap_or(&Value::Null);
                decoded.replies.json(&json!({"type": "pong", "event_id": id}));
            }
            "user_transcript" => {
                self.caller_speaks(false, decoded);
                let text = string(inner("user_transcription_event"), "user_transcript");
                decoded.events.push(Incoming::Transcript { from: Sender::Caller, text, complete: true });
            }
            "tentative_user_transcript" => {
                let text = string(inner("tentative_user_transcription_event"), "user_transcript");
                decoded.events.push(Incoming::Transcript { from: Sender::Caller, text, complete: false });
            }
            "agent_response" => {
                let text = string(inner("agent_response_event"), "agent_response");
                decoded.events.push(Incoming::Transcript { from: Sender::Bot, text, complete: true });
            }
            "agent_response_complete" => decoded.events.push(Incoming::AudioEnd),
            "client_tool_call" => {
                let call = inner("client_tool_call");
                decoded.events.push(Incoming::Tool(ToolCall {
                    id: string(call, "tool_call_id"),
                    name: string(call, "tool_name"),
                    arguments: call.get("parameters").map_or_else(|| "{}".to_owned(), Value::to_string),
                }));
            }
            "dtmf_request" => {
                let request = [inner("dtmf_request"), inner("dtmf_request_event")];
                let keys = request
                    .iter()
                    .flat_map(|request| ["dtmf_tones", "digits"].map(|key| string(request, key)));
                let keys = keys.into_iter().find(|keys| !keys.is_empty()).ok_or(Ignored::BadJson)?;
                decoded.events.push(Incoming::SendDigits(keys));
            }
            "client_error" | "error" => {
                let error =
                    [inner("client_error"), inner("client_error_event"), inner("error_event"), message];
                let first = |keys: &[&str]| {
                    let found = error.iter().flat_map(|error| keys.iter().map(|key| string(error, key)));
                    found.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
                };
                // The vendor closes when it means it: a complaint alone does not end the call.
                decoded.events.push(Incoming::Error {
                    fatal: false,
                    code: Some(first(&["code", "error_type", "reason"]))
                        .filter(|c| !c.is_empty())
                        .unwrap_or_else(|| kind.to_owned()),
                    text: first(&["message", "debug_message", "details"]),
                });
            }
            "agent_response_correction" | "guardrail_triggered" => {
                decoded.events.push(Incoming::Custom { name: kind.to_owned(), data: message.to_string() });
            }
            "audio" => return Err(Ignored::MediaWithoutPayload),
            "vad_score"
            | "agent_tool_request"
            | "agent_tool_response"
            | "agent_tool_response_full_payload"
            | "agent_response_metadata"
            | "agent_chat_response_part"
            | "agent_reasoning_response_part"
            | "asr_initiation_metadata"
            | "context_usage"
            | "mcp_tool_call"
            | "mcp_connection_status"
            | "queue_status"
            | "internal_turn_probability"
            | "internal_tentative_agent_response" => {}
            _ => return Err(Ignored::UnknownEvent),
        }
        Ok(())
    }
}

impl Codec for ElevenLabs {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        out.json(&initiation(&self.start));
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        if !self.ready {
            return;
        }
        let user = |text: &str, out: &mut Outbox| out.json(&json!({"type": "user_message", "text": text}));
        match event {
            Outgoing::Audio { timestamp, audio } => {
                if let Some(sentence) = self.keypad.pass(timestamp) {
                    user(&sentence, out);
                }
                out.push(Kind::Text, |text| {
                    text.extend_from_slice(br#"{"user_audio_chunk":""#);
                    base64::append_encoded(audio, text);
                    text.extend_from_slice(br#""}"#);
                });
            }
            Outgoing::Digit { digit, .. } => {
                if let Some(sentence) = self.keypad.press(digit) {
                    user(&sentence, out);
                }
            }
            Outgoing::Text { text, respond: true, .. } => user(text, out),
            Outgoing::Text { text, respond: false, .. } => {
                out.json(&json!({"type": "contextual_update", "text": text}));
            }
            Outgoing::ToolResult(result) => {
                // A JSON string is text; any other JSON goes as the text that it is.
                let text =
                    serde_json::from_str::<String>(&result.output).unwrap_or_else(|_| result.output.clone());
                out.json(&json!({
                    "type": "client_tool_result", "tool_call_id": result.id, "result": text,
                    "is_error": result.is_error,
                }));
            }
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            return Err(Ignored::BinaryFrame);
        }
        let read: Message<'_> = json::object(message).ok_or(Ignored::BadJson)?;
        if let Some(event) = read.audio_event {
            return self.audio(event, decoded);
        }
        let kind = read.kind.ok_or(Ignored::UnknownEvent)?;
        let whole: Value = json::object(message).ok_or(Ignored::BadJson)?;
        self.event(&kind.0, &whole, decoded)
    }
}

/// The message that opens the conversation. An override that the agent does not allow is an error at the vendor, so
/// only what is configured is sent.
fn initiation(start: &StreamStart) -> Value {
    let settings: &AgentSettings = &start.settings;
    let mut agent = Map::new();
    if let Some(instructions) = &settings.instructions {
        let mut prompt = json!({"prompt": instructions});
        if let Some(model) = &settings.model {
            set(&mut prompt, "llm", model.as_str());
        }
        agent.insert("prompt".to_owned(), prompt);
    } else if let Some(model) = &settings.model {
        agent.insert("prompt".to_owned(), json!({"llm": model}));
    }
    if let Some(greeting) = &settings.greeting {
        // The conversation goes on: no second greeting.
        let greeting = if start.history.is_empty() { greeting.as_str() } else { "" };
        agent.insert("first_message".to_owned(), greeting.into());
    }
    if let Some(language) = &settings.language {
        agent.insert("language".to_owned(), language.as_str().into());
    }
    let mut config = Map::new();
    if !agent.is_empty() {
        config.insert("agent".to_owned(), agent.into());
    }
    if let Some(voice) = &settings.voice {
        config.insert("tts".to_owned(), json!({"voice_id": voice}));
    }
    let mut message = json!({
        "type": "conversation_initiation_client_data",
        "conversation_config_override": config,
        "dynamic_variables": details(start),
    });
    overlay(&mut message, &settings.session);
    message
}

/// A format's name, if we can speak it.
fn read_format(name: &str) -> Option<AudioFormat> {
    let (encoding, rate) = name.split_once('_')?;
    let rate = rate.parse().ok()?;
    let encoding = match encoding {
        "pcm" => Encoding::L16,
        "ulaw" => Encoding::Pcmu,
        "alaw" => Encoding::Pcma,
        _ => return None,
    };
    convertible(AudioFormat { encoding, rate })
}

fn string(object: &Value, key: &str) -> String {
    match object.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null | Value::Object(_)) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
