//! Deepgram Voice Agent: control as JSON text, audio as binary messages.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde_json::{Value, json};

use super::details::{convertible, unsupported_format};
use super::json;
use super::keypad::Keypad;
use super::overlay::{overlay, set};
use super::{
    AgentSettings, AudioFormat, Codec, Decoded, Encoding, Formats, Handshake, Ignored, Incoming, Kind,
    Outbox, Outgoing, Sender, StreamStart, ToolCall,
};

#[derive(Debug)]
pub(super) struct Deepgram {
    formats: Formats,
    /// The `Settings` message, until `Welcome` allows it.
    settings: Option<Value>,
    /// The first format in it that cannot be converted.
    unsupported: Option<String>,
    state: State,
    caller_speaks: bool,
    keypad: Keypad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing may be sent.
    Welcome,
    /// `Settings` is sent.
    Applying,
    /// Audio may flow.
    Ready,
}

impl Deepgram {
    pub(super) fn handshake() -> Handshake {
        Handshake { credential: Some(("Authorization", "Token")), ..Handshake::default() }
    }

    pub(super) fn new(start: &StreamStart) -> Self {
        let wanted = start.settings.formats.unwrap_or(Formats { caller: start.line, bot: start.line });
        let mut settings = settings(start, wanted);
        overlay(&mut settings, &start.settings.session);
        // What the operator wrote over it is what will be spoken.
        let (mut formats, mut unsupported) = (wanted, None);
        for (way, format) in [("input", &mut formats.caller), ("output", &mut formats.bot)] {
            let audio = settings.pointer(&format!("/audio/{way}")).unwrap_or(&Value::Null);
            match read_format(audio) {
                Some(read) => *format = read,
                None => unsupported = unsupported.or_else(|| Some(audio.to_string())),
            }
        }
        Self {
            formats,
            settings: Some(settings),
            unsupported,
            state: State::Welcome,
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
}

impl Codec for Deepgram {
    fn formats(&self) -> Formats {
        self.formats
    }

    /// Nothing may be sent before `Welcome`.
    fn open(&mut self, _out: &mut Outbox) {}

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        if self.state != State::Ready {
            return;
        }
        match event {
            Outgoing::Audio { timestamp, audio } => {
                if let Some(sentence) = self.keypad.pass(timestamp) {
                    inject_user(&sentence, out);
                }
                out.binary(audio);
            }
            Outgoing::Digit { digit, .. } => {
                if let Some(sentence) = self.keypad.press(digit) {
                    inject_user(&sentence, out);
                }
            }
            Outgoing::Text { from: Sender::Bot, text, respond: true } => {
                out.json(&json!({"type": "InjectAgentMessage", "message": text, "behavior": "queue"}));
            }
            Outgoing::Text { text, respond: true, .. } => inject_user(text, out),
            // The one word that makes the model know and not speak.
            Outgoing::Text { text, respond: false, .. } => {
                out.json(&json!({"type": "UpdatePrompt", "prompt": text}));
            }
            Outgoing::ToolResult(result) => out.json(&json!({
                "type": "FunctionCallResponse", "id": result.id, "name": result.name, "content": result.output,
            })),
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            if message.is_empty() {
                return Err(Ignored::MediaWithoutPayload);
            }
            decoded.audio.extend_from_slice(message);
            decoded.events.push(Incoming::Audio { len: message.len(), item: 0 });
            return Ok(());
        }
        let message: Value = json::object(message).ok_or(Ignored::BadJson)?;
        let text = |key: &str| match message.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let functions = || message.get("functions").and_then(Value::as_array).into_iter().flatten();
        match message.get("type").and_then(Value::as_str).unwrap_or_default() {
            "Welcome" => {
                if let Some(format) = self.unsupported.take() {
                    decoded
                        .events
                        .push(unsupported_format(&format, "use mulaw, alaw or linear16 at 8000 to 48000"));
                }
                if let Some(settings) = self.settings.take() {
                    decoded.replies.json(&settings);
                    self.state = State::Applying;
                }
            }
            "SettingsApplied" if self.state == State::Applying => {
                self.state = State::Ready;
                decoded.events.push(Incoming::Ready);
            }
            "UserStartedSpeaking" => {
                // Said again while the caller speaks on, it still means: drop what is queued.
                self.caller_speaks(true, decoded);
                decoded.events.push(Incoming::Clear);
            }
            "ConversationText" => {
                let from = match message.get("role").and_then(Value::as_str) {
                    Some("user") => Sender::Caller,
                    Some("assistant") => Sender::Bot,
                    _ => Sender::System,
                };
                if from == Sender::Caller {
                    self.caller_speaks(false, decoded);
                }
                decoded.events.push(Incoming::Transcript { from, text: text("content"), complete: true });
            }
            "AgentStartedSpeaking" => self.caller_speaks(false, decoded),
            "AgentAudioDone" => decoded.events.push(Incoming::AudioEnd),
            "FunctionCallRequest" => {
                // The others are called at the vendor's.
                let ours =
                    functions().filter(|f| f.get("client_side").and_then(Value::as_bool) != Some(false));
                decoded.events.extend(ours.map(|function| {
                    Incoming::Tool(ToolCall {
                        id: string(function, "id"),
                        name: string(function, "name"),
                        arguments: string(function, "arguments"),
                    })
                }));
            }
            "FunctionCallCancelled" => {
                decoded.events.push(Incoming::ToolCancelled(functions().map(|f| string(f, "id")).collect()));
            }
            "Error" => decoded.events.push(Incoming::Error {
                fatal: true,
                code: text("code"),
                text: text("description"),
            }),
            "Warning" => decoded.events.push(Incoming::Error {
                fatal: false,
                code: text("code"),
                text: text("description"),
            }),
            "InjectionRefused" => decoded.events.push(Incoming::Error {
                fatal: false,
                code: "InjectionRefused".to_owned(),
                text: text("message"),
            }),
            name @ ("FrustrationDetected" | "LatencyReport") => {
                decoded.events.push(Incoming::Custom { name: name.to_owned(), data: message.to_string() });
            }
            "SettingsApplied"
            | "AgentThinking"
            | "PromptUpdated"
            | "SpeakUpdated"
            | "ThinkUpdated"
            | "ThinkLiveUpdated"
            | "ListenUpdated"
            | "History"
            | "FunctionCallResponse" => {}
            _ => return Err(Ignored::UnknownEvent),
        }
        Ok(())
    }
}

/// The `Settings` message as the operator's words make it.
fn settings(start: &StreamStart, formats: Formats) -> Value {
    let settings: &AgentSettings = &start.settings;
    let mut tags = Vec::new();
    if !start.call_sid.is_empty() {
        tags.push(&start.call_sid);
    }
    let mut output = write_format(formats.bot);
    // A WAV header would be heard as a click.
    set(&mut output, "container", "none");
    let mut message = json!({
        "type": "Settings",
        "tags": tags,
        "audio": {"input": write_format(formats.caller), "output": output},
    });
    if let Some(id) = &settings.agent_id {
        set(&mut message, "agent", id.as_str());
        return message;
    }
    let (provider, model) = match settings.model.as_deref() {
        Some(model) => model.split_once('/').unwrap_or(("open_ai", model)),
        None => ("open_ai", DEFAULT_THINK),
    };
    let mut listen = json!({"type": "deepgram", "model": DEFAULT_LISTEN});
    if let Some(language) = &settings.language {
        set(&mut listen, "language", language.as_str());
    }
    let mut think = json!({"provider": {"type": provider, "model": model}});
    if let Some(instructions) = &settings.instructions {
        set(&mut think, "prompt", instructions.as_str());
    }
    if !settings.tools.is_empty() {
        let functions = settings.tools.iter().map(
            |tool| json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters}),
        );
        set(&mut think, "functions", functions.collect::<Vec<_>>());
    }
    let voice = settings.voice.as_deref().unwrap_or(DEFAULT_SPEAK);
    let mut agent = json!({
        "listen": {"provider": listen},
        "think": think,
        "speak": {"provider": {"type": "deepgram", "model": voice}},
    });
    if !start.history.is_empty() {
        // The conversation goes on: no second greeting.
        let said = start.history.iter().filter(|(from, _)| *from != Sender::System).map(|(from, text)| {
            let role = if *from == Sender::Caller { "user" } else { "assistant" };
            json!({"type": "History", "role": role, "content": text})
        });
        set(&mut agent, "context", json!({"messages": said.collect::<Vec<_>>()}));
    } else if let Some(greeting) = &settings.greeting {
        set(&mut agent, "greeting", greeting.as_str());
    }
    set(&mut message, "agent", agent);
    message
}

fn inject_user(text: &str, out: &mut Outbox) {
    out.json(&json!({"type": "InjectUserMessage", "content": text}));
}

fn write_format(format: AudioFormat) -> Value {
    let encoding = match format.encoding {
        Encoding::Pcmu => "mulaw",
        Encoding::Pcma => "alaw",
        Encoding::L16 => "linear16",
    };
    json!({"encoding": encoding, "sample_rate": format.rate})
}

/// The format of an `audio` entry, if we can speak it. Missing keys have the vendor's defaults.
fn read_format(audio: &Value) -> Option<AudioFormat> {
    let encoding = match audio.get("encoding").and_then(Value::as_str) {
        Some("mulaw") => Encoding::Pcmu,
        Some("alaw") => Encoding::Pcma,
        Some("linear16") | None => Encoding::L16,
        Some(_) => return None,
    };
    let rate = match audio.get("sample_rate") {
        None => DEFAULT_RATE,
        Some(rate) => u32::try_from(rate.as_u64()?).ok()?,
    };
    convertible(AudioFormat { encoding, rate })
}

fn string(object: &Value, key: &str) -> String {
    match object.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

const DEFAULT_LISTEN: &str = "nova-3";
const DEFAULT_THINK: &str = "gpt-4o-mini";
const DEFAULT_SPEAK: &str = "aura-2-thalia-en";
const DEFAULT_RATE: u32 = 24_000;

#[cfg(test)]
mod tests;
