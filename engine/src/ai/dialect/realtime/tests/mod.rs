//! The documented exchanges, message by message, and whatever else a server may come up with.

mod any_order;
mod session;
mod turns;

use std::sync::Arc;

use ::base64::Engine as _;

use super::super::{AudioFormat, Dialect, Tool};
use super::*;
use crate::command::Digit;
use crate::time::Duration;

/// A codec and what it last said.
struct Peer {
    codec: Box<dyn Codec>,
    audio: Vec<u8>,
    replies: Vec<Value>,
}

impl Peer {
    fn with(dialect: Dialect, settings: AgentSettings, change: impl FnOnce(&mut StreamStart)) -> Self {
        let mut start = StreamStart { settings: Arc::new(settings), ..StreamStart::default() };
        change(&mut start);
        Self { codec: dialect.codec(start), audio: Vec::new(), replies: Vec::new() }
    }

    fn new(dialect: Dialect) -> Self {
        Self::with(dialect, AgentSettings { flush_on_speech: true, ..AgentSettings::default() }, |_| {})
    }

    /// With its session set up.
    fn ready(dialect: Dialect) -> Self {
        let mut peer = Self::new(dialect);
        peer.open();
        assert_eq!(peer.hear(r#"{"type":"session.updated","session":{}}"#), [Incoming::Ready]);
        peer
    }

    fn open(&mut self) -> Vec<Value> {
        let mut out = Outbox::default();
        self.codec.open(&mut out);
        messages(&out)
    }

    fn say(&mut self, event: Outgoing<'_>) -> Vec<Value> {
        let mut out = Outbox::default();
        self.codec.encode(event, &mut out);
        messages(&out)
    }

    fn try_hear(&mut self, message: &str) -> Result<Vec<Incoming>, Ignored> {
        let mut decoded = Decoded::default();
        let result = self.codec.decode(Kind::Text, message.as_bytes(), &mut decoded);
        self.audio.extend_from_slice(&decoded.audio);
        self.replies = messages(&decoded.replies);
        result.map(|()| decoded.events)
    }

    fn hear(&mut self, message: &str) -> Vec<Incoming> {
        self.try_hear(message).unwrap_or_else(|ignored| panic!("{ignored:?}: {message}"))
    }

    fn key(&mut self, key: char) -> Vec<Value> {
        let digit = Digit::from_char(key).expect("a digit");
        self.say(Outgoing::Digit { digit, duration: Duration::from_millis(100) })
    }

    fn text(&mut self, respond: bool) -> Vec<Value> {
        self.say(Outgoing::Text { from: Sender::System, text: "note", respond })
    }

    fn delta(&mut self, response: &str, item: &str, audio: &[u8]) -> Result<Vec<Incoming>, Ignored> {
        self.try_hear(&delta("response.output_audio.delta", response, item, audio))
    }
}

/// The messages, each of which must have an `event_id`, which is left out.
fn messages(out: &Outbox) -> Vec<Value> {
    out.messages()
        .map(|(kind, message)| {
            assert_eq!(kind, Kind::Text);
            let mut message: Value = serde_json::from_slice(message).expect("JSON");
            let id = message.as_object_mut().expect("an object").remove("event_id").expect("an event_id");
            assert!(id.as_str().is_some_and(|id| id.starts_with("sidetone_")), "{id}");
            message
        })
        .collect()
}

fn delta(kind: &str, response: &str, item: &str, audio: &[u8]) -> String {
    let delta = ::base64::engine::general_purpose::STANDARD.encode(audio);
    json!({"type":kind,"event_id":"ev","response_id":response,"item_id":item,"output_index":0,"content_index":0,
        "delta":delta})
    .to_string()
}

fn created(id: &str) -> String {
    json!({"type":"response.created","response":{"id":id,"status":"in_progress","output":[]}}).to_string()
}

fn done(id: &str, status: &str) -> String {
    json!({"type":"response.done","response":{"id":id,"status":status,"output":[]}}).to_string()
}

fn played(item: u32, played_ms: u64, received_ms: u64) -> ItemPlayed {
    let [played, received] = [played_ms, received_ms].map(Duration::from_millis);
    ItemPlayed { item, played, received }
}

fn tool() -> Tool {
    Tool {
        name: "transfer_call".into(),
        description: "Transfer the caller".into(),
        parameters: json!({"type":"object","properties":{"target":{"type":"string"}},"required":["target"]}),
    }
}

fn full_settings() -> AgentSettings {
    AgentSettings {
        instructions: Some("You answer phone calls.".into()),
        language: Some("en-US".into()),
        voice: Some("marin".into()),
        tools: vec![tool()],
        flush_on_speech: true,
        ..AgentSettings::default()
    }
}

fn map(value: Value) -> serde_json::Map<String, Value> {
    serde_json::from_value(value).expect("an object")
}

const BOTH: [Dialect; 2] = [Dialect::OpenAi, Dialect::VoiceLive];
