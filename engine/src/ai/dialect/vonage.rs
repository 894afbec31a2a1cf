//! The WebSocket endpoint of Vonage's Voice API, as the side that carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::json::{self, Text};
use super::overlay::merge;
use super::{
    AudioFormat, Codec, Decoded, Encoding, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart,
};

#[derive(Debug)]
pub(super) struct Vonage {
    start: StreamStart,
    format: AudioFormat,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    action: Text<'a>,
    /// Of a `notify`: whatever the application wants back.
    #[serde(default)]
    payload: Option<Value>,
}

impl Vonage {
    pub(super) fn new(start: StreamStart) -> Self {
        let rate = start.settings.formats.map_or(DEFAULT_RATE, |formats| match formats.caller {
            AudioFormat { encoding: Encoding::L16, rate } => rate,
            _ => 8_000,
        });
        Self { start, format: AudioFormat::l16(rate) }
    }

    fn connected(&self) -> Map<String, Value> {
        let mut message = Map::new();
        message.insert("caller".into(), self.start.from.as_str().into());
        for (name, value) in &self.start.custom_parameters {
            message.insert(name.clone(), value.as_str().into());
        }
        merge(&mut message, &self.start.settings.session);
        // What the application tells the audio by is ours to say.
        message.insert("event".into(), "websocket:connected".into());
        message.insert("content-type".into(), format!("audio/l16;rate={}", self.format.rate).into());
        message
    }
}

impl Codec for Vonage {
    fn formats(&self) -> Formats {
        Formats { caller: self.format, bot: self.format }
    }

    fn open(&mut self, out: &mut Outbox) {
        out.json(&Value::Object(self.connected()));
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        match event {
            Outgoing::Audio { audio, .. } => out.binary(audio),
            Outgoing::Digit { digit, duration } => out.push(Kind::Text, |text| {
                // Writing to memory does not fail.
                let _ = write!(
                    text,
                    r#"{{"event":"websocket:dtmf","digit":"{}","duration":{}}}"#,
                    digit.as_char(),
                    duration.as_millis()
                );
            }),
            // What a clear has overtaken was never heard, and `cleared` says that.
            Outgoing::MarkPlayed { name, complete: true } => out.push(Kind::Text, |text| {
                let _ = write!(text, r#"{{"event":"websocket:notify","payload":{name}}}"#);
            }),
            Outgoing::Cleared => out.text(r#"{"event":"websocket:cleared"}"#),
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        let event = match kind {
            Kind::Binary => {
                decoded.audio.extend_from_slice(message);
                Incoming::Audio { len: message.len(), item: 0 }
            }
            Kind::Text => {
                let message: Message<'_> = json::object(message).ok_or(Ignored::BadJson)?;
                match &*message.action.0 {
                    "clear" => Incoming::Clear,
                    // The mark's name is the payload itself, as JSON.
                    "notify" => Incoming::Mark(message.payload.ok_or(Ignored::MarkWithoutName)?.to_string()),
                    _ => return Err(Ignored::UnknownEvent),
                }
            }
        };
        decoded.events.push(event);
        Ok(())
    }
}

/// What applications expect that were not told otherwise.
const DEFAULT_RATE: u32 = 16_000;
