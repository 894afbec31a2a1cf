//! Plivo audio streaming, and its clones, as the side that carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io::Write as _;

use serde_json::{Value, json};

use super::clip::Clips;
use super::json::quoted;
use super::overlay::merge;
use super::telephony::{Media, Message, SAMPLES_PER_MS};
use super::{
    AudioFormat, Codec, Decoded, Encoding, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart,
    base64,
};

#[derive(Debug)]
pub(super) struct Plivo {
    start: StreamStart,
    formats: Formats,
    /// The stream's id as a JSON string, quotes included.
    stream_id_json: String,
    /// The parameters of the call as a JSON string, quotes included.
    extra_headers_json: String,
    /// Counts every message from `start`, which has 0.
    sequence_number: u64,
    /// Counts `media` messages.
    chunk: u64,
    /// The time of day of the newest caller audio.
    now_ms: u64,
    /// Bot audio may come in another format than it was asked for.
    clips: Clips,
    scratch: Vec<u8>,
}

impl Plivo {
    pub(super) fn new(start: StreamStart) -> Self {
        let formats = start.settings.formats.unwrap_or_default();
        let formats = Formats { caller: spoken(formats.caller), bot: spoken(formats.bot) };
        Self {
            formats,
            stream_id_json: quoted(&start.stream_sid),
            extra_headers_json: quoted(&extra_headers(&start)),
            now_ms: start.unix_ms,
            start,
            sequence_number: 0,
            chunk: 0,
            clips: Clips::new(formats.bot),
            scratch: Vec::new(),
        }
    }

    fn write(&mut self, event: Outgoing<'_>, text: &mut Vec<u8>) {
        self.sequence_number += 1;
        let (number, id) = (self.sequence_number, &self.stream_id_json);
        // Writing to memory does not fail.
        let _ = match event {
            Outgoing::Audio { timestamp, audio } => {
                self.chunk += 1;
                self.now_ms = self.start.unix_ms.saturating_add(timestamp / SAMPLES_PER_MS);
                let _ = write!(
                    text,
                    r#"{{"sequenceNumber":{number},"streamId":{id},"event":"media","media":{{"track":"inbound","timestamp":"{}","chunk":{},"payload":""#,
                    self.now_ms, self.chunk
                );
                base64::append_encoded(audio, text);
                write!(text, r#""}},"extra_headers":{}}}"#, self.extra_headers_json)
            }
            Outgoing::Digit { digit, .. } => write!(
                text,
                r#"{{"event":"dtmf","streamId":{id},"sequenceNumber":{number},"dtmf":{{"track":"inbound","digit":"{}","timestamp":"{}"}}}}"#,
                digit.as_char(),
                self.now_ms
            ),
            Outgoing::MarkPlayed { name, .. } => write!(
                text,
                r#"{{"event":"playedStream","streamId":{id},"sequenceNumber":{number},"name":{}}}"#,
                quoted(name)
            ),
            _ => write!(text, r#"{{"event":"clearedAudio","sequenceNumber":{number},"streamId":{id}}}"#),
        };
    }

    /// Appends a clip in the bot's format.
    fn append(&mut self, message: &Message<'_>, audio: &mut Vec<u8>) -> Result<usize, Ignored> {
        let source = message.media().map_or(Some(self.formats.bot), |media| self.source(media));
        let source = source.ok_or(Ignored::Refused)?;
        if source == self.formats.bot {
            return message.append_audio(audio);
        }
        self.scratch.clear();
        message.append_audio(&mut self.scratch)?;
        let len = self.clips.append(source, &self.scratch, audio);
        self.scratch.shrink_to(KEPT_BYTES);
        len.ok_or(Ignored::Refused)
    }

    /// The format that a clip says it has: what it does not say is as it was agreed.
    fn source(&self, media: &Media<'_>) -> Option<AudioFormat> {
        let encoding = match media.content_type.as_ref().map(|name| &*name.0) {
            None => self.formats.bot.encoding,
            Some(MU_LAW) => Encoding::Pcmu,
            Some(LINEAR) => Encoding::L16,
            Some(_) => return None,
        };
        let rate = match &media.sample_rate {
            None | Some(Value::Null) => u64::from(self.formats.bot.rate),
            Some(Value::String(rate)) => rate.parse().ok()?,
            Some(rate) => rate.as_u64()?,
        };
        Some(AudioFormat { encoding, rate: u32::try_from(rate).ok()? })
    }
}

impl Codec for Plivo {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        let mut start = json!({
            "callId": self.start.call_sid,
            "streamId": self.start.stream_sid,
            "accountId": self.start.account_sid,
            "tracks": ["inbound"],
            "mediaFormat": {
                "encoding": content_type(self.formats.caller.encoding),
                "sampleRate": self.formats.caller.rate,
            },
        });
        if let Value::Object(start) = &mut start {
            merge(start, &self.start.settings.session);
        }
        out.push(Kind::Text, |text| {
            let _ = write!(
                text,
                r#"{{"sequenceNumber":0,"event":"start","start":{start},"extra_headers":{}}}"#,
                self.extra_headers_json
            );
        });
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        match event {
            // A checkpoint that a clear has overtaken is never told.
            Outgoing::MarkPlayed { complete: true, .. }
            | Outgoing::Audio { .. }
            | Outgoing::Digit { .. }
            | Outgoing::Cleared => out.push(Kind::Text, |text| self.write(event, text)),
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            return Err(Ignored::BinaryFrame);
        }
        let message = Message::parse(message)?;
        decoded.wrong_stream = message.is_for_another_than(&self.start.stream_sid);
        let event = match &*message.event.0 {
            "playAudio" => Incoming::Audio { len: self.append(&message, &mut decoded.audio)?, item: 0 },
            "checkpoint" => Incoming::Mark(message.name.ok_or(Ignored::MarkWithoutName)?.0.into_owned()),
            "clearAudio" => {
                self.clips.reset();
                Incoming::Clear
            }
            "sendDTMF" => match message.dtmf {
                Some(Value::String(digits)) => Incoming::SendDigits(digits),
                Some(Value::Number(digits)) => Incoming::SendDigits(digits.to_string()),
                _ => return Err(Ignored::BadJson),
            },
            _ => return Err(Ignored::UnknownEvent),
        };
        decoded.events.push(event);
        Ok(())
    }
}

/// The nearest that the protocol has a word for: mu-law, or 16 bits at 8 or 16 kHz.
fn spoken(wanted: AudioFormat) -> AudioFormat {
    match (wanted.encoding, wanted.rate) {
        (Encoding::L16, 8_000) => AudioFormat::l16(8_000),
        (Encoding::L16, _) => AudioFormat::l16(16_000),
        (Encoding::Pcmu | Encoding::Pcma, _) => AudioFormat::PCMU,
    }
}

fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::L16 => LINEAR,
        Encoding::Pcmu | Encoding::Pcma => MU_LAW,
    }
}

/// The parameters as the protocol writes them, `{X-PH-name: value, X-PH-other: value}`: it has no escapes, so what
/// would end a value is left out.
fn extra_headers(start: &StreamStart) -> String {
    let plain = |text: &str| text.replace(['{', '}', ',', ':'], "");
    let pairs = start.custom_parameters.iter();
    let pairs = pairs.map(|(name, value)| {
        let name = plain(name);
        let name = name.strip_prefix(HEADER_PREFIX).unwrap_or(&name);
        format!("{HEADER_PREFIX}{name}: {}", value.replace(['{', '}', ','], ""))
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

const MU_LAW: &str = "audio/x-mulaw";
const LINEAR: &str = "audio/x-l16";
const HEADER_PREFIX: &str = "X-PH-";
/// Decoding memory kept between clips.
const KEPT_BYTES: usize = 16 * 1024;
