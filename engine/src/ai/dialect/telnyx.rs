//! Telnyx media streaming, as the side that carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io::Write as _;

use ::base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::json::quoted;
use super::overlay::merge;
use super::telephony::{Message, SAMPLES_PER_MS, Swap, rfc3339};
use super::{
    Codec, Decoded, Encoding, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart, base64,
};

#[derive(Debug)]
pub(super) struct Telnyx {
    start: StreamStart,
    formats: Formats,
    /// The stream's id as a JSON string, quotes included.
    stream_id_json: String,
    /// Counts every message from `start` on.
    sequence_number: u64,
    /// Counts `media` messages.
    chunk: u64,
    /// Milliseconds of the stream at the newest caller audio.
    now_ms: u64,
    /// L16 is in network order here, as in RTP.
    to_network: Swap,
    from_network: Swap,
    scratch: Vec<u8>,
    /// How often the backend may still be told of a malformed message.
    complaints: u8,
}

impl Telnyx {
    pub(super) fn new(start: StreamStart) -> Self {
        // A stream that nobody chose the audio of carries the line's, untouched.
        let formats = start.settings.formats.unwrap_or(Formats { caller: start.line, bot: start.line });
        Self {
            formats,
            stream_id_json: quoted(&start.stream_sid),
            start,
            sequence_number: 0,
            chunk: 0,
            now_ms: 0,
            to_network: Swap::default(),
            from_network: Swap::default(),
            scratch: Vec::new(),
            complaints: COMPLAINTS,
        }
    }

    /// The custom parameters, as this protocol carries what an application wants to know: in base64.
    fn client_state(&self) -> String {
        if self.start.custom_parameters.is_empty() {
            return String::new();
        }
        BASE64_STANDARD.encode(json!(self.start.custom_parameters).to_string())
    }

    fn write(&mut self, event: Outgoing<'_>, text: &mut Vec<u8>) {
        let name = match event {
            Outgoing::Audio { .. } => "media",
            Outgoing::Digit { .. } => "dtmf",
            Outgoing::MarkPlayed { .. } => "mark",
            _ => "stop",
        };
        self.sequence_number += 1;
        // Writing to memory does not fail.
        let _ = write!(
            text,
            r#"{{"event":"{name}","sequence_number":"{}","stream_id":{},"#,
            self.sequence_number, self.stream_id_json
        );
        let _ = match event {
            Outgoing::Audio { timestamp, audio } => {
                self.chunk += 1;
                self.now_ms = timestamp / SAMPLES_PER_MS;
                let _ = write!(
                    text,
                    r#""media":{{"track":"inbound","chunk":"{}","timestamp":"{}","payload":""#,
                    self.chunk, self.now_ms
                );
                if self.formats.caller.encoding == Encoding::L16 {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(audio);
                    self.to_network.from(0, &mut self.scratch);
                    base64::append_encoded(&self.scratch, text);
                } else {
                    base64::append_encoded(audio, text);
                }
                write!(text, r#""}}}}"#)
            }
            Outgoing::Digit { digit, .. } => {
                let at = rfc3339(self.start.unix_ms.saturating_add(self.now_ms));
                write!(text, r#""occurred_at":"{at}","dtmf":{{"digit":"{}"}}}}"#, digit.as_char())
            }
            Outgoing::MarkPlayed { name, .. } => write!(text, r#""mark":{{"name":{}}}}}"#, quoted(name)),
            _ => {
                let stop =
                    json!({ "user_id": self.start.account_sid, "call_control_id": self.start.call_sid });
                write!(text, r#""stop":{stop}}}"#)
            }
        };
    }

    /// Tells the backend that a message was malformed, a bounded number of times.
    fn complain(&mut self, detail: &str, out: &mut Outbox) {
        if self.complaints == 0 {
            return;
        }
        self.complaints -= 1;
        out.json(&json!({
            "event": "error",
            "stream_id": self.start.stream_sid,
            "payload": { "code": MALFORMED_FRAME, "title": "malformed_frame", "detail": detail },
        }));
    }

    fn read(&mut self, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        let message = Message::parse(message)?;
        decoded.wrong_stream = message.is_for_another_than(&self.start.stream_sid);
        let event = match &*message.event.0 {
            "media" => {
                let before = decoded.audio.len();
                message.append_audio(&mut decoded.audio)?;
                if self.formats.bot.encoding == Encoding::L16 {
                    self.from_network.from(before, &mut decoded.audio);
                }
                Incoming::Audio { len: decoded.audio.len() - before, item: 0 }
            }
            "mark" => Incoming::Mark(message.mark_name()?),
            "clear" => {
                self.from_network.reset();
                Incoming::Clear
            }
            _ => return Err(Ignored::UnknownEvent),
        };
        decoded.events.push(event);
        Ok(())
    }
}

impl Codec for Telnyx {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        self.sequence_number += 1;
        let mut start = json!({
            "user_id": self.start.account_sid,
            "call_control_id": self.start.call_sid,
            "call_session_id": self.start.call_id,
            "from": self.start.from,
            "to": self.start.to,
            "client_state": self.client_state(),
            "tags": [],
            "media_format": {
                "encoding": encoding_name(self.formats.caller.encoding),
                "sample_rate": self.formats.caller.rate,
                "channels": 1,
            },
        });
        if let Value::Object(start) = &mut start {
            merge(start, &self.start.settings.session);
        }
        out.text(r#"{"event":"connected","version":"1.0.0"}"#);
        out.json(&json!({
            "event": "start",
            "sequence_number": self.sequence_number.to_string(),
            "stream_id": self.start.stream_sid,
            "start": start,
        }));
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        if let Outgoing::Audio { .. }
        | Outgoing::Digit { .. }
        | Outgoing::MarkPlayed { .. }
        | Outgoing::Stop = event
        {
            out.push(Kind::Text, |text| self.write(event, text));
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            return Err(Ignored::BinaryFrame);
        }
        let result = self.read(message, decoded);
        match result {
            Err(Ignored::BadJson) => {
                self.complain("not a JSON object of the expected shape", &mut decoded.replies)
            }
            Err(Ignored::BadBase64) => self.complain("the payload is not base64", &mut decoded.replies),
            Err(Ignored::MediaWithoutPayload) => {
                self.complain("media without a payload", &mut decoded.replies)
            }
            _ => {}
        }
        result
    }
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Pcmu => "PCMU",
        Encoding::Pcma => "PCMA",
        Encoding::L16 => "L16",
    }
}

/// The vendor's number for a message that cannot be read.
const MALFORMED_FRAME: u32 = 100_003;
/// A backend that gets everything wrong is not answered for ever.
const COMPLAINTS: u8 = 16;
