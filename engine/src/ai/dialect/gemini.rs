//! Gemini Live: JSON of one key per message from us and several from the server, in text or binary messages; audio
//! in base64, 16 bits, never G.711.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::details::{convertible, unsupported_format};
use super::json::{self, Text};
use super::keypad::Keypad;
use super::overlay::{overlay, set};
use super::{
    AgentSettings, AudioFormat, Codec, Decoded, Encoding, Formats, Handshake, Ignored, Incoming, Kind,
    Outbox, Outgoing, Sender, StreamStart, ToolCall, base64,
};
use crate::time::Duration;

#[derive(Debug)]
pub(super) struct Gemini {
    start: StreamStart,
    formats: Formats,
    ready: bool,
    /// The server waits for the history before it listens.
    history_first: bool,
    /// What was transcribed and is not yet complete.
    heard: String,
    said: String,
    caller_speaks: bool,
    keypad: Keypad,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(default)]
    setup_complete: Option<Value>,
    #[serde(borrow, default)]
    server_content: Option<Content<'a>>,
    #[serde(default)]
    tool_call: Option<Value>,
    #[serde(default)]
    tool_call_cancellation: Option<Value>,
    #[serde(default)]
    go_away: Option<Value>,
    #[serde(default)]
    session_resumption_update: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    usage_metadata: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    voice_activity: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    voice_activity_detection_signal: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    #[serde(borrow, default)]
    model_turn: Option<Turn<'a>>,
    #[serde(default)]
    interrupted: Option<bool>,
    #[serde(default)]
    generation_complete: Option<bool>,
    #[serde(default)]
    turn_complete: Option<bool>,
    #[serde(default)]
    input_transcription: Option<Transcription>,
    #[serde(default)]
    output_transcription: Option<Transcription>,
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow, default)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    inline_data: Option<Blob<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow, default)]
    mime_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Transcription {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finished: Option<bool>,
}

impl Gemini {
    /// The models of Vertex AI have paths that begin with the project; it takes a bearer token and not a key.
    pub(super) fn handshake(settings: &AgentSettings) -> Handshake {
        let vertex = settings.model.as_deref().is_some_and(|model| model.starts_with("projects/"));
        Handshake { credential: (!vertex).then_some(("x-goog-api-key", "")), ..Handshake::default() }
    }

    pub(super) fn new(start: StreamStart) -> Self {
        let caller = start.settings.formats.map(|formats| formats.caller);
        let caller = caller.filter(|caller| caller.encoding == Encoding::L16);
        let formats = Formats {
            caller: caller.unwrap_or(AudioFormat::l16(NATIVE_RATE)),
            bot: AudioFormat::l16(BOT_RATE),
        };
        Self {
            start,
            formats,
            ready: false,
            history_first: false,
            heard: String::new(),
            said: String::new(),
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

    /// What a new session has to know, or do, before the caller speaks.
    fn begin(&mut self, decoded: &mut Decoded) {
        if std::mem::replace(&mut self.ready, true) {
            return;
        }
        decoded.events.push(Incoming::Ready);
        let resumed = self.start.resume.is_some();
        let fresh = !resumed && self.start.history.is_empty();
        if !resumed && (self.history_first || !self.start.history.is_empty()) {
            let turns = self.start.history.iter().map(|(from, text)| turn(*from, text)).collect::<Vec<_>>();
            decoded
                .replies
                .json(&json!({"clientContent": {"turns": turns, "turnComplete": self.history_first}}));
        }
        if let Some(greeting) = self.start.settings.greeting.as_deref().filter(|_| fresh) {
            // The model says nothing by itself.
            respond(&format!("Greet the caller with these words: {greeting}"), &mut decoded.replies);
        }
    }

    fn content(&mut self, content: Content<'_>, decoded: &mut Decoded) -> Result<(), Ignored> {
        let mut result = Ok(());
        if let Some(part) = content.input_transcription {
            transcribe(&mut self.heard, Sender::Caller, part, decoded);
        }
        if content.interrupted == Some(true) {
            complete(&mut self.said, Sender::Bot, decoded);
            self.caller_speaks(true, decoded);
            decoded.events.push(Incoming::Clear);
        }
        for part in content.model_turn.and_then(|turn| turn.parts).unwrap_or_default() {
            let Some(blob) = part.inline_data else { continue };
            // The answer has begun, so the question is over.
            complete(&mut self.heard, Sender::Caller, decoded);
            self.caller_speaks(false, decoded);
            let taken = self.audio(&blob, decoded);
            result = result.and(taken);
        }
        if let Some(part) = content.output_transcription {
            transcribe(&mut self.said, Sender::Bot, part, decoded);
        }
        if content.generation_complete == Some(true) {
            decoded.events.push(Incoming::AudioEnd);
        }
        if content.turn_complete == Some(true) {
            complete(&mut self.heard, Sender::Caller, decoded);
            complete(&mut self.said, Sender::Bot, decoded);
            decoded.events.push(Incoming::AudioEnd);
        }
        result
    }

    fn audio(&mut self, blob: &Blob<'_>, decoded: &mut Decoded) -> Result<(), Ignored> {
        let mime_type = blob.mime_type.as_ref().map_or("audio/pcm", |mime_type| &mime_type.0);
        let Some(format) = read_format(mime_type) else {
            decoded.events.push(unsupported_format(mime_type, "ask the model for audio/pcm"));
            return Ok(());
        };
        let payload = blob.data.as_ref().ok_or(Ignored::MediaWithoutPayload)?;
        let len = base64::append_decoded(&payload.0, &mut decoded.audio)?;
        if len == 0 {
            return Ok(());
        }
        if format != self.formats.bot {
            self.formats.bot = format;
            decoded.events.push(Incoming::BotFormat(format));
        }
        decoded.events.push(Incoming::Audio { len, item: 0 });
        Ok(())
    }
}

impl Codec for Gemini {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        let setup = setup(&self.start);
        let history = setup.pointer("/historyConfig/initialHistoryInClientContent");
        self.history_first = history.and_then(Value::as_bool) == Some(true);
        out.json(&json!({"setup": setup}));
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        if !self.ready {
            return;
        }
        match event {
            Outgoing::Audio { timestamp, audio } => {
                if let Some(sentence) = self.keypad.pass(timestamp) {
                    respond(&sentence, out);
                }
                let rate = self.formats.caller.rate;
                out.push(Kind::Text, |text| {
                    text.extend_from_slice(br#"{"realtimeInput":{"audio":{"data":""#);
                    base64::append_encoded(audio, text);
                    text.extend_from_slice(br#"","mimeType":"audio/pcm;rate="#);
                    // Writing to memory does not fail.
                    let _ = std::io::Write::write_fmt(text, format_args!(r#"{rate}"}}}}}}"#));
                });
            }
            Outgoing::Digit { digit, .. } => {
                if let Some(sentence) = self.keypad.press(digit) {
                    respond(&sentence, out);
                }
            }
            Outgoing::Text { text, respond: true, .. } => respond(text, out),
            Outgoing::Text { from, text, respond: false } => {
                out.json(&json!({"clientContent": {"turns": [turn(from, text)], "turnComplete": false}}));
            }
            Outgoing::ToolResult(result) => {
                let output =
                    serde_json::from_str(&result.output).unwrap_or_else(|_| result.output.clone().into());
                let response = match output {
                    Value::Object(object) => Value::Object(object),
                    other => json!({(if result.is_error { "error" } else { "output" }): other}),
                };
                let response = json!({"id": result.id, "name": result.name, "response": response});
                out.json(&json!({"toolResponse": {"functionResponses": [response]}}));
            }
            _ => {}
        }
    }

    fn decode(&mut self, _kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        let message: Message<'_> = json::object(message).ok_or(Ignored::BadJson)?;
        let mut known = message.usage_metadata.is_some()
            || message.voice_activity.is_some()
            || message.voice_activity_detection_signal.is_some();
        let mut result = Ok(());
        if message.setup_complete.is_some() {
            known = true;
            self.begin(decoded);
        }
        if let Some(update) = message.session_resumption_update {
            known = true;
            let handle = update.get("newHandle").and_then(Value::as_str).unwrap_or_default();
            let resumable = update.get("resumable").and_then(Value::as_bool) == Some(true);
            // A handle of a moment that cannot be gone back to does not replace the one that can.
            if resumable && !handle.is_empty() {
                decoded.events.push(Incoming::Resumption { handle: handle.to_owned() });
            }
        }
        if let Some(content) = message.server_content {
            known = true;
            result = self.content(content, decoded);
        }
        if let Some(call) = message.tool_call {
            known = true;
            let calls = call.get("functionCalls").and_then(Value::as_array).into_iter().flatten();
            decoded.events.extend(calls.map(|call| {
                Incoming::Tool(ToolCall {
                    id: string(call, "id"),
                    name: string(call, "name"),
                    arguments: call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string),
                })
            }));
        }
        if let Some(cancellation) = message.tool_call_cancellation {
            known = true;
            let ids = cancellation.get("ids").and_then(Value::as_array).into_iter().flatten();
            let ids = ids.filter_map(Value::as_str).map(str::to_owned).collect();
            decoded.events.push(Incoming::ToolCancelled(ids));
        }
        if let Some(go_away) = message.go_away {
            known = true;
            let within = go_away.get("timeLeft").and_then(time_left).unwrap_or_default();
            decoded.events.push(Incoming::Expires { within });
        }
        if let Some(error) = message.error {
            known = true;
            let code =
                ["status", "code"].map(|key| string(&error, key)).into_iter().find(|code| !code.is_empty());
            decoded.events.push(Incoming::Error {
                fatal: true,
                code: code.unwrap_or_default(),
                text: string(&error, "message"),
            });
        }
        if known { result } else { Err(Ignored::UnknownEvent) }
    }
}

/// The `setup` message's content.
fn setup(start: &StreamStart) -> Value {
    let settings: &AgentSettings = &start.settings;
    let model = settings.model.as_deref().unwrap_or(DEFAULT_MODEL);
    let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let mut speech = Map::new();
    if let Some(voice) = &settings.voice {
        speech.insert("voiceConfig".to_owned(), json!({"prebuiltVoiceConfig": {"voiceName": voice}}));
    }
    if let Some(language) = &settings.language {
        speech.insert("languageCode".to_owned(), language.as_str().into());
    }
    let mut generation = json!({"responseModalities": ["AUDIO"]});
    if !speech.is_empty() {
        set(&mut generation, "speechConfig", speech);
    }
    let resumption = start.resume.as_ref().map_or_else(|| json!({}), |handle| json!({"handle": handle}));
    let mut setup = json!({
        "model": model,
        "generationConfig": generation,
        "sessionResumption": resumption,
        "contextWindowCompression": {"slidingWindow": {}},
        "inputAudioTranscription": {},
        "outputAudioTranscription": {},
    });
    if let Some(instructions) = &settings.instructions {
        set(&mut setup, "systemInstruction", json!({"parts": [{"text": instructions}]}));
    }
    if !settings.tools.is_empty() {
        let functions = settings.tools.iter().map(|tool| {
            let mut function = json!({"name": tool.name, "description": tool.description});
            if !tool.parameters.is_null() {
                set(&mut function, "parametersJsonSchema", tool.parameters.clone());
            }
            function
        });
        set(&mut setup, "tools", json!([{"functionDeclarations": functions.collect::<Vec<_>>()}]));
    }
    overlay(&mut setup, &settings.session);
    setup
}

/// Text that the model answers at once.
fn respond(text: &str, out: &mut Outbox) {
    out.json(&json!({"realtimeInput": {"text": text}}));
}

fn turn(from: Sender, text: &str) -> Value {
    let role = if from == Sender::Bot { "model" } else { "user" };
    json!({"role": role, "parts": [{"text": text}]})
}

fn transcribe(so_far: &mut String, from: Sender, part: Transcription, decoded: &mut Decoded) {
    let text = part.text.unwrap_or_default();
    if so_far.len() + text.len() > MAX_TRANSCRIPT_BYTES {
        complete(so_far, from, decoded);
    }
    so_far.push_str(&text);
    if part.finished == Some(true) {
        complete(so_far, from, decoded);
    } else if !text.is_empty() {
        decoded.events.push(Incoming::Transcript { from, text, complete: false });
    }
}

fn complete(so_far: &mut String, from: Sender, decoded: &mut Decoded) {
    let text = std::mem::take(so_far);
    let text = text.trim();
    if !text.is_empty() {
        decoded.events.push(Incoming::Transcript { from, text: text.to_owned(), complete: true });
    }
}

/// `audio/pcm;rate=24000`, if we can speak it.
fn read_format(mime_type: &str) -> Option<AudioFormat> {
    let mut parts = mime_type.split(';').map(str::trim);
    if !matches!(parts.next()?.to_ascii_lowercase().as_str(), "audio/pcm" | "audio/l16") {
        return None;
    }
    let rate = parts.find_map(|part| part.strip_prefix("rate="));
    let rate = rate.map_or(Some(BOT_RATE), |rate| rate.parse().ok())?;
    convertible(AudioFormat::l16(rate))
}

/// A duration as protocol buffers write it in JSON: `50s`, `9.5s`.
fn time_left(value: &Value) -> Option<Duration> {
    let seconds: f64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, MAX_SECONDS)).ok()
}

fn string(object: &Value, key: &str) -> String {
    match object.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

const DEFAULT_MODEL: &str = "models/gemini-live-2.5-flash-preview";
/// What the vendor says its models hear at.
const NATIVE_RATE: u32 = 16_000;
const BOT_RATE: u32 = 24_000;
const MAX_TRANSCRIPT_BYTES: usize = 8 * 1024;
const MAX_SECONDS: f64 = 86_400.0;

#[cfg(test)]
mod tests;
