//! Exotel's voice streaming, a relative of Twilio's with 16-bit audio, as the side that carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io::Write as _;

use serde_json::{Value, json};

use super::json::quoted;
use super::overlay::merge;
use super::telephony::{Message, SAMPLES_PER_MS};
use super::{
    AudioFormat, Codec, Decoded, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart, base64,
};

#[derive(Debug)]
pub(super) struct Exotel {
    start: StreamStart,
    format: AudioFormat,
    /// The stream's id as a JSON string, quotes included.
    stream_sid_json: String,
    /// Counts every message from `start` on.
    sequence_number: u64,
    /// Counts `media` messages.
    chunk: u64,
}

impl Exotel {
    pub(super) fn new(start: StreamStart) -> Self {
        let rate = start.settings.formats.map_or(8_000, |formats| formats.caller.rate);
        let stream_sid_json = quoted(&start.stream_sid);
        Self { start, format: AudioFormat::l16(rate), stream_sid_json, sequence_number: 0, chunk: 0 }
    }

    fn write(&mut self, name: &str, event: Outgoing<'_>, text: &mut Vec<u8>) {
        self.sequence_number += 1;
        // Writing to memory does not fail.
        let _ = write!(
            text,
            r#"{{"event":"{name}","sequence_number":{},"stream_sid":{},"{name}":"#,
            self.sequence_number, self.stream_sid_json
        );
        let _ = match event {
            Outgoing::Audio { timestamp, audio } => {
                self.chunk += 1;
                let ms = timestamp / SAMPLES_PER_MS;
                let _ = write!(text, r#"{{"chunk":{},"timestamp":"{ms}","payload":""#, self.chunk);
                base64::append_encoded(audio, text);
                write!(text, r#""}}}}"#)
            }
            Outgoing::Digit { digit, duration } => {
                write!(text, r#"{{"duration":"{}","digit":"{}"}}}}"#, duration.as_millis(), digit.as_char())
            }
            Outgoing::MarkPlayed { name, .. } => write!(text, r#"{{"name":{}}}}}"#, quoted(name)),
            _ => {
                let stop = json!({
                    "call_sid": self.start.call_sid,
                    "account_sid": self.start.account_sid,
                    "reason": "callended",
                });
                write!(text, "{stop}}}")
            }
        };
    }
}

impl Codec for Exotel {
    fn formats(&self) -> Formats {
        Formats { caller: self.format, bot: self.format }
    }

    fn open(&mut self, out: &mut Outbox) {
        self.sequence_number += 1;
        let mut start = json!({
            "stream_sid": self.start.stream_sid,
            "call_sid": self.start.call_sid,
            "account_sid": self.start.account_sid,
            "from": self.start.from,
            "to": self.start.to,
            "custom_parameters": self.start.custom_parameters,
            "media_format": {
                "encoding": "base64",
                "sample_rate": self.format.rate.to_string(),
                "bit_rate": format!("{}kbps", self.format.rate / 1000 * 16),
            },
        });
        if let Value::Object(start) = &mut start {
            merge(start, &self.start.settings.session);
        }
        out.text(r#"{"event":"connected"}"#);
        out.json(&json!({
            "event": "start",
            "sequence_number": self.sequence_number,
            "stream_sid": self.start.stream_sid,
            "start": start,
        }));
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        let name = match event {
            Outgoing::Audio { .. } => "media",
            Outgoing::Digit { .. } => "dtmf",
            Outgoing::MarkPlayed { .. } => "mark",
            Outgoing::Stop => "stop",
            _ => return,
        };
        out.push(Kind::Text, |text| self.write(name, event, text));
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            return Err(Ignored::BinaryFrame);
        }
        let message = Message::parse(message)?;
        decoded.wrong_stream = message.is_for_another_than(&self.start.stream_sid);
        let event = match &*message.event.0 {
            "media" => Incoming::Audio { len: message.append_audio(&mut decoded.audio)?, item: 0 },
            "mark" => Incoming::Mark(message.mark_name()?),
            "clear" => Incoming::Clear,
            _ => return Err(Ignored::UnknownEvent),
        };
        decoded.events.push(event);
        Ok(())
    }
}
