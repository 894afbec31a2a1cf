//! FreeSWITCH's `mod_audio_stream`, as the module. Audio that comes back is played at once, which the free edition of
//! the module leaves to the dialplan.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde::Deserialize;
use serde_json::Value;

use super::clip::Clips;
use super::jambonz::{append_wav, given_metadata, linear, rate, unsupported};
use super::json::{self, Text};
use super::{
    AudioFormat, Codec, Decoded, Encoding, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart,
    base64,
};

#[derive(Debug)]
pub(super) struct AudioStream {
    start: StreamStart,
    formats: Formats,
    /// One clip goes on with the one before: speech comes in pieces here.
    clips: Clips,
    scratch: Vec<u8>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    data: Data<'a>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, rename = "audioDataType")]
    encoding: Option<Text<'a>>,
    #[serde(default, rename = "sampleRate")]
    sample_rate: Option<Value>,
    #[serde(borrow, default, rename = "audioData")]
    audio: Option<Text<'a>>,
}

impl AudioStream {
    pub(super) fn new(start: StreamStart) -> Self {
        let formats = linear(&start);
        Self { start, formats, clips: Clips::new(formats.bot), scratch: Vec::new() }
    }

    fn play(&mut self, data: &Data<'_>, decoded: &mut Decoded) -> Result<(), Ignored> {
        let audio = data.audio.as_ref().ok_or(Ignored::MediaWithoutPayload)?;
        self.scratch.clear();
        base64::append_decoded(&audio.0, &mut self.scratch)?;
        let rate = |default| rate(data.sample_rate.as_ref()).unwrap_or(default);
        let (clips, clip) = (&mut self.clips, &self.scratch);
        let len = match data.encoding.as_ref().map_or("raw", |name| &*name.0) {
            "raw" => clips.append(AudioFormat::l16(rate(self.formats.bot.rate)), clip, &mut decoded.audio),
            "pcmu" => {
                let source = AudioFormat { encoding: Encoding::Pcmu, rate: rate(8_000) };
                clips.append(source, clip, &mut decoded.audio)
            }
            "pcma" => {
                let source = AudioFormat { encoding: Encoding::Pcma, rate: rate(8_000) };
                clips.append(source, clip, &mut decoded.audio)
            }
            "wav" => append_wav(clips, clip, &mut decoded.audio),
            _ => None,
        };
        self.scratch.shrink_to(KEPT_BYTES);
        decoded.events.push(match len {
            Some(len) => Incoming::Audio { len, item: 0 },
            None => unsupported("streamAudio plays raw, wav, pcmu and pcma"),
        });
        Ok(())
    }
}

impl Codec for AudioStream {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        if let Some(metadata) = given_metadata(&self.start) {
            out.text(&metadata);
        }
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        if let Outgoing::Audio { audio, .. } = event {
            out.binary(audio);
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            decoded.audio.extend_from_slice(message);
            decoded.events.push(Incoming::Audio { len: message.len(), item: 0 });
            return Ok(());
        }
        let message: Message<'_> = json::object(message).ok_or(Ignored::BadJson)?;
        match &*message.kind.0 {
            "streamAudio" => self.play(&message.data, decoded),
            // Not in the module, which has no word for it: its applications talk to the caller's leg instead.
            "killAudio" => {
                self.clips.reset();
                decoded.events.push(Incoming::Clear);
                Ok(())
            }
            _ => Err(Ignored::UnknownEvent),
        }
    }
}

/// Decoding memory kept between clips.
const KEPT_BYTES: usize = 16 * 1024;
