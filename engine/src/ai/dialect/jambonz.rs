//! The verbs `listen` and `stream` of jambonz, and FreeSWITCH's `mod_audio_fork`, on which they stand: the side that
//! carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::VecDeque;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::clip::Clips;
use super::json::{self, Text, quoted};
use super::overlay::merge;
use super::{
    AudioFormat, Codec, Decoded, Encoding, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart,
    base64,
};
use crate::time::Duration;

#[derive(Debug)]
pub(super) struct Listen {
    start: StreamStart,
    formats: Formats,
    module: Module,
    clips: Clips,
    /// Marks that were neither passed nor cleared, oldest first.
    pending: VecDeque<(u64, String)>,
    next_mark: u64,
    scratch: Vec<u8>,
}

/// Whose first message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    Jambonz,
    AudioFork,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "audioContent")]
    content: Option<Text<'a>>,
    #[serde(borrow, default, rename = "audioContentType")]
    content_type: Option<Text<'a>>,
    /// A number, or one in a string.
    #[serde(default, rename = "sampleRate")]
    sample_rate: Option<Value>,
    #[serde(default, rename = "queuePlay")]
    queue_play: bool,
}

impl Listen {
    pub(super) fn jambonz(start: StreamStart) -> Self {
        Self::new(start, Module::Jambonz)
    }

    pub(super) fn audio_fork(start: StreamStart) -> Self {
        Self::new(start, Module::AudioFork)
    }

    fn new(start: StreamStart, module: Module) -> Self {
        let formats = linear(&start);
        Self {
            start,
            formats,
            module,
            clips: Clips::new(formats.bot),
            pending: VecDeque::new(),
            next_mark: 0,
            scratch: Vec::new(),
        }
    }

    /// What jambonz says about the call. What only a jambonz has stays empty, for the session's keys to fill.
    fn metadata(&self) -> Value {
        let start = &self.start;
        let parameters = || start.custom_parameters.iter();
        let is_header = |name: &str| name.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-"));
        let headers: Map<String, Value> = parameters()
            .filter(|(name, _)| is_header(name))
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let mut metadata = Map::new();
        for (name, value) in parameters().filter(|(name, _)| !is_header(name)) {
            metadata.insert(name.clone(), value.as_str().into());
        }
        for (name, value) in [
            ("callSid", start.call_sid.as_str()),
            ("direction", "inbound"),
            ("from", &start.from),
            ("to", &start.to),
            ("callId", &start.call_id),
            ("sbcCallid", &start.call_id),
            ("callStatus", "in-progress"),
            ("callerId", &start.from_name),
            ("accountSid", &start.account_sid),
            ("traceId", &start.stream_sid),
            ("applicationSid", ""),
            ("fsSipAddress", ""),
            ("originatingSipIp", ""),
            ("originatingSipTrunkName", ""),
            ("mixType", "mono"),
        ] {
            metadata.insert(name.into(), value.into());
        }
        metadata.insert("sipStatus".into(), 200.into());
        metadata.insert("headers".into(), headers.into());
        metadata.insert("sampleRate".into(), self.formats.caller.rate.into());
        merge(&mut metadata, &start.settings.session);
        metadata.into()
    }

    fn play(&mut self, data: Data<'_>, decoded: &mut Decoded) -> Result<(), Ignored> {
        let content = data.content.ok_or(Ignored::MediaWithoutPayload)?;
        self.scratch.clear();
        base64::append_decoded(&content.0, &mut self.scratch)?;
        let rate = rate(data.sample_rate.as_ref()).unwrap_or(self.formats.bot.rate);
        let before = decoded.audio.len();
        // One clip does not go on with another.
        self.clips.reset();
        let clips = (&mut self.clips, &self.scratch);
        let len = match data.content_type.as_ref().map_or("raw", |name| &*name.0) {
            "raw" => clips.0.append(AudioFormat::l16(rate), clips.1, &mut decoded.audio),
            "wav" => append_wav(clips.0, clips.1, &mut decoded.audio),
            _ => None,
        };
        self.scratch.shrink_to(KEPT_BYTES);
        let Some(len) = len else {
            decoded.audio.truncate(before);
            decoded.events.push(unsupported("playAudio plays raw and wav"));
            return Ok(());
        };
        if !data.queue_play {
            decoded.events.push(Incoming::Clear);
        }
        // Half a sample would shift all that follows.
        let len = len / 2 * 2;
        decoded.audio.truncate(before + len);
        decoded.events.push(Incoming::Audio { len, item: 0 });
        decoded.events.push(Incoming::AudioEnd);
        let id = data.id.map(|id| id.0.into_owned()).unwrap_or_default();
        decoded.events.push(Incoming::Mark(format!("{CLIP}{id}")));
        Ok(())
    }

    fn mark(&mut self, data: Data<'_>) -> Result<Incoming, Ignored> {
        let name = data.name.ok_or(Ignored::MarkWithoutName)?.0.into_owned();
        if self.pending.len() >= MAX_PENDING_MARKS || name.len() > MAX_MARK_BYTES {
            return Err(Ignored::Refused);
        }
        let number = self.next_mark;
        self.next_mark += 1;
        self.pending.push_back((number, name));
        Ok(Incoming::Mark(format!("{MARK}{number}")))
    }
}

impl Codec for Listen {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        match self.module {
            Module::Jambonz => out.json(&self.metadata()),
            Module::AudioFork => {
                if let Some(metadata) = given_metadata(&self.start) {
                    out.text(&metadata);
                }
            }
        }
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        match event {
            Outgoing::Audio { audio, .. } => out.binary(audio),
            Outgoing::Digit { digit, duration } => out.push(Kind::Text, |text| {
                // Writing to memory does not fail.
                let _ = write!(
                    text,
                    r#"{{"event":"dtmf","dtmf":"{}","duration":"{}"}}"#,
                    digit.as_char(),
                    AudioFormat::PCMU.bytes(duration)
                );
            }),
            Outgoing::MarkPlayed { name, complete } => {
                if let Some(id) = name.strip_prefix(CLIP) {
                    // Over is over, whether it was heard to its end or not.
                    out.json(&json!({ "type": "playDone", "data": { "id": id } }));
                    return;
                }
                let number = name.strip_prefix(MARK).and_then(|number| number.parse::<u64>().ok());
                let found = self.pending.iter().position(|(pending, _)| Some(*pending) == number);
                // A mark that `clearMarks` has dealt with is not told again.
                if let Some((_, name)) = found.and_then(|found| self.pending.remove(found)) {
                    write_mark(&name, complete, out);
                }
            }
            // The graceful end.
            Outgoing::Stop => out.binary(&[]),
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            decoded.audio.extend_from_slice(message);
            decoded.events.push(Incoming::Audio { len: message.len(), item: 0 });
            return Ok(());
        }
        let message: Message<'_> = json::object(message).ok_or(Ignored::BadJson)?;
        let data = message.data.unwrap_or_default();
        let event = match &*message.kind.0 {
            "playAudio" => return self.play(data, decoded),
            "mark" => self.mark(data)?,
            "clearMarks" => {
                for (_, name) in self.pending.drain(..) {
                    write_mark(&name, false, &mut decoded.replies);
                }
                return Ok(());
            }
            "killAudio" => Incoming::Clear,
            "disconnect" => Incoming::HangUp { reason: "disconnect".into() },
            _ => return Err(Ignored::UnknownEvent),
        };
        decoded.events.push(event);
        Ok(())
    }
}

fn write_mark(name: &str, complete: bool, out: &mut Outbox) {
    let event = if complete { "playout" } else { "cleared" };
    out.push(Kind::Text, |text| {
        // Writing to memory does not fail.
        let _ = write!(text, r#"{{"type":"mark","data":{{"name":{},"event":"{event}"}}}}"#, quoted(name));
    });
}

/// The formats of dialects that know 16-bit samples only: what was chosen, or the line's rate.
pub(super) fn linear(start: &StreamStart) -> Formats {
    let formats = start.settings.formats.unwrap_or(Formats { caller: start.line, bot: start.line });
    Formats { caller: AudioFormat::l16(formats.caller.rate), bot: AudioFormat::l16(formats.bot.rate) }
}

/// The text that an operator gives FreeSWITCH's modules to send first: the session's key `metadata`, a string as it is
/// and anything else as JSON; the parameters of the call if there is none.
pub(super) fn given_metadata(start: &StreamStart) -> Option<String> {
    match start.settings.session.get("metadata") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(value) if !value.is_null() => Some(value.to_string()),
        _ if start.custom_parameters.is_empty() => None,
        _ => Some(json!(start.custom_parameters).to_string()),
    }
}

/// Appends the samples of a WAV file. Only of one that says how long it is, of a known format.
pub(super) fn append_wav(clips: &mut Clips, file: &[u8], audio: &mut Vec<u8>) -> Option<usize> {
    let (rate, samples) = crate::wav::samples(file).ok()?;
    clips.append_samples(AudioFormat { encoding: Encoding::L16, rate }, &samples, audio)
}

/// A sampling rate, as a number or in a string.
pub(super) fn rate(value: Option<&Value>) -> Option<u32> {
    match value? {
        Value::String(rate) => rate.parse().ok(),
        rate => u32::try_from(rate.as_u64()?).ok(),
    }
}

/// What the operator should read when audio cannot be played.
pub(super) fn unsupported(text: &str) -> Incoming {
    Incoming::Error {
        fatal: false,
        code: "unsupported_audio".into(),
        text: format!("{text}, at 8, 16, 24, 32, 44.1 or 48 kHz"),
    }
}

/// What the names of marks begin with: clips, whose id follows, and marks, whose number does.
const CLIP: char = 'p';
const MARK: char = 'm';
/// More marks than anyone has audio for are refused, as the module does beyond 30.
const MAX_PENDING_MARKS: usize = 512;
const MAX_MARK_BYTES: usize = 4096;
/// Decoding memory kept between clips.
const KEPT_BYTES: usize = 16 * 1024;
/// How a duration is counted on the wire.
const _: () = assert!(AudioFormat::PCMU.bytes(Duration::from_millis(200)) == 1600);
