//! Audio and nothing else: binary messages both ways.

use serde_json::{Value, json};

use super::overlay::merge;
use super::{
    AudioFormat, Codec, Decoded, Encoding, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart,
};

#[derive(Debug)]
pub(super) struct Raw {
    start: StreamStart,
    formats: Formats,
}

impl Raw {
    pub(super) fn new(start: StreamStart) -> Self {
        let formats = start.settings.formats.unwrap_or(Formats { caller: start.line, bot: start.line });
        Self { start, formats }
    }
}

impl Codec for Raw {
    fn formats(&self) -> Formats {
        self.formats
    }

    /// A message about the call, if the session has the key `metadata`: `true`, or an object with keys to add.
    fn open(&mut self, out: &mut Outbox) {
        let wanted = self.start.settings.session.get("metadata");
        if !matches!(wanted, None | Some(Value::Null | Value::Bool(false))) {
            let mut message = json!({
                "event": "start",
                "stream_id": self.start.stream_sid,
                "call_id": self.start.call_id,
                "from": self.start.from,
                "from_name": self.start.from_name,
                "to": self.start.to,
                "parameters": self.start.custom_parameters,
                "caller_format": described(self.formats.caller),
                "bot_format": described(self.formats.bot),
            });
            if let (Value::Object(message), Some(Value::Object(over))) = (&mut message, wanted) {
                merge(message, over);
            }
            out.json(&message);
        }
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        if let Outgoing::Audio { audio, .. } = event {
            out.binary(audio);
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Text {
            return Err(Ignored::TextFrame);
        }
        decoded.audio.extend_from_slice(message);
        decoded.events.push(Incoming::Audio { len: message.len(), item: 0 });
        Ok(())
    }
}

fn described(format: AudioFormat) -> Value {
    let encoding = match format.encoding {
        Encoding::Pcmu => "pcmu",
        Encoding::Pcma => "pcma",
        Encoding::L16 => "l16",
    };
    json!({ "encoding": encoding, "rate": format.rate })
}
