//! The side of the application: Asterisk dials us, and each connection is a call.

use super::{
    AUDIO_8K, DTMF, ERROR, HANG_UP, MAX_AUDIO_BYTES, SILENCE, UUID, audio_rate, audio_type, frame, parts,
};
use crate::ai::dialect::{AudioFormat, Ignored, Kind, LineHeard, LineStart, Outbox};
use crate::command::Digit;
use crate::dsp::rate::SampleRate;

/// What is known of one call.
#[derive(Debug)]
pub(in crate::ai::dialect) struct Line {
    /// That of the caller's last frame, which ours follow.
    format: AudioFormat,
    started: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { format: AudioFormat::l16(8_000), started: false }
    }
}

impl Line {
    pub(in crate::ai::dialect) fn decode<'a>(
        &mut self,
        kind: Kind,
        message: &'a [u8],
    ) -> Result<LineHeard<'a>, Ignored> {
        if kind == Kind::Text {
            return Err(Ignored::TextFrame);
        }
        let (kind, payload) = parts(message)?;
        if !self.started && !matches!(kind, UUID | HANG_UP | ERROR) {
            return Ok(LineHeard::Broken("the first frame is not the call's UUID".to_owned()));
        }
        Ok(match kind {
            UUID if self.started => return Err(Ignored::Refused),
            UUID => match <[u8; 16]>::try_from(payload) {
                Ok(uuid) => {
                    self.started = true;
                    LineHeard::Start(LineStart {
                        id: written_uuid(uuid),
                        format: self.format,
                        ..LineStart::default()
                    })
                }
                Err(_) => LineHeard::Broken(format!("a UUID of {} bytes; it has 16", payload.len())),
            },
            HANG_UP => LineHeard::HangUp,
            SILENCE => LineHeard::Nothing,
            DTMF => match payload {
                &[key] => LineHeard::Digit(Digit::from_char(key.into()).ok_or(Ignored::UnknownEvent)?),
                _ => return Err(Ignored::BadJson),
            },
            ERROR => LineHeard::Error(payload.iter().take(8).map(|byte| format!("{byte:02x}")).collect()),
            _ => {
                let rate = audio_rate(kind).ok_or(Ignored::UnknownEvent)?;
                if SampleRate::from_hz(rate).is_none() {
                    return Ok(LineHeard::Broken(format!(
                        "audio at {rate} Hz, which cannot be converted; let the channel have slin, slin16, slin24 or slin48"
                    )));
                }
                if payload.is_empty() {
                    return Err(Ignored::MediaWithoutPayload);
                }
                // Half a sample would swap the bytes of all that follow.
                if !payload.len().is_multiple_of(2) {
                    return Err(Ignored::Refused);
                }
                self.format = AudioFormat::l16(rate);
                LineHeard::Audio { format: self.format, audio: payload }
            }
        })
    }

    pub(in crate::ai::dialect) fn audio(&self, audio: &[u8], out: &mut Outbox) {
        let kind = audio_type(self.format.rate).unwrap_or(AUDIO_8K);
        for part in audio.chunks(MAX_AUDIO_BYTES) {
            frame(kind, part, out);
        }
    }

    pub(in crate::ai::dialect) fn hang_up(out: &mut Outbox) {
        frame(HANG_UP, &[], out);
    }
}

/// `8-4-4-4-12` hexadecimal digits.
fn written_uuid(uuid: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(uuid));
    let mut written = String::with_capacity(36);
    for (index, digit) in digits.chars().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            written.push('-');
        }
        written.push(digit);
    }
    written
}
