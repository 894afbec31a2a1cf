//! Asterisk's AudioSocket: each binary message is one frame of type, length (big endian) and payload. Here as Asterisk; the
//! application's side is [`Line`].
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::{
    AudioFormat, Carrier, Codec, Decoded, Encoding, Formats, Handshake, Ignored, Incoming, Kind, Outbox,
    Outgoing, StreamStart,
};
use crate::dsp::rate::SampleRate;

mod frames;
mod line;

pub use frames::AudioSocketFrames;
pub(super) use line::Line;

#[derive(Debug)]
pub(super) struct AudioSocket {
    uuid: [u8; 16],
    formats: Formats,
}

impl AudioSocket {
    pub(super) fn handshake() -> Handshake {
        Handshake { carrier: Carrier::AudioSocket, ..Handshake::default() }
    }

    pub(super) fn new(start: &StreamStart) -> Self {
        let wanted = start.settings.formats.map_or(start.line, |formats| formats.caller);
        let rate = if SampleRate::from_hz(wanted.rate).is_some() { wanted.rate } else { 8_000 };
        let format = AudioFormat::l16(rate);
        // The operator's own, or one that depends on the Call-ID alone.
        let own = start.custom_parameters.get("uuid").and_then(|uuid| read_uuid(uuid));
        let uuid = own.or_else(|| read_uuid(start.call_sid.get(2..)?)).unwrap_or_default();
        Self { uuid, formats: Formats { caller: format, bot: format } }
    }
}

impl Codec for AudioSocket {
    fn formats(&self) -> Formats {
        self.formats
    }

    fn open(&mut self, out: &mut Outbox) {
        frame(UUID, &self.uuid, out);
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        match event {
            Outgoing::Audio { audio, .. } => {
                let kind = audio_type(self.formats.caller.rate).unwrap_or(AUDIO_8K);
                for part in audio.chunks(MAX_AUDIO_BYTES) {
                    frame(kind, part, out);
                }
            }
            Outgoing::Digit { digit, .. } => frame(DTMF, &[digit.as_char() as u8], out),
            Outgoing::Stop => frame(HANG_UP, &[], out),
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Text {
            return Err(Ignored::TextFrame);
        }
        let (kind, payload) = parts(message)?;
        match kind {
            HANG_UP => decoded.events.push(Incoming::HangUp { reason: String::new() }),
            ERROR => decoded.events.push(Incoming::Error {
                fatal: false,
                code: payload.iter().map(|byte| format!("{byte:02x}")).take(8).collect(),
                text: "the application reports an error".to_owned(),
            }),
            _ => {
                let rate = audio_rate(kind).ok_or(Ignored::UnknownEvent)?;
                if payload.is_empty() {
                    return Err(Ignored::MediaWithoutPayload);
                }
                // Every frame names its own rate.
                if rate != self.formats.bot.rate {
                    if SampleRate::from_hz(rate).is_none() {
                        return Err(Ignored::UnknownEvent);
                    }
                    self.formats.bot = AudioFormat { encoding: Encoding::L16, rate };
                    decoded.events.push(Incoming::BotFormat(self.formats.bot));
                }
                decoded.audio.extend_from_slice(payload);
                decoded.events.push(Incoming::Audio { len: payload.len(), item: 0 });
            }
        }
        Ok(())
    }
}

/// The type and the payload of a frame.
fn parts(message: &[u8]) -> Result<(u8, &[u8]), Ignored> {
    let (&[kind, high, low], payload) = message.split_first_chunk().ok_or(Ignored::BadJson)?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == payload.len() { Ok((kind, payload)) } else { Err(Ignored::BadJson) }
}

fn frame(kind: u8, payload: &[u8], out: &mut Outbox) {
    out.push(Kind::Binary, |bytes| {
        let [high, low] = (payload.len() as u16).to_be_bytes();
        bytes.extend_from_slice(&[kind, high, low]);
        bytes.extend_from_slice(payload);
    });
}

fn audio_type(rate: u32) -> Option<u8> {
    RATES.iter().position(|&known| known == rate).map(|position| AUDIO_8K + position as u8)
}

fn audio_rate(kind: u8) -> Option<u32> {
    RATES.get(usize::from(kind.checked_sub(AUDIO_8K)?)).copied()
}

/// 32 hexadecimal digits, hyphens or not.
fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|&c| c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

const HANG_UP: u8 = 0x00;
const UUID: u8 = 0x01;
const SILENCE: u8 = 0x02;
const DTMF: u8 = 0x03;
const AUDIO_8K: u8 = 0x10;
const ERROR: u8 = 0xff;
/// The types from 0x10 on.
const RATES: [u32; 9] = [8_000, 12_000, 16_000, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000];
/// Whole samples that the length can tell.
const MAX_AUDIO_BYTES: usize = 65_534;

#[cfg(test)]
mod tests;
