//! The side of the application: Asterisk dials us, and each connection is a call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde_json::Value;

use super::command::Command;
use super::event::Heard;
use super::{Control, PTIME, format_named};
use crate::ai::dialect::{AudioFormat, Ignored, Kind, LineHeard, LineStart, Outbox, json};
use crate::command::Digit;

/// What is known of one call.
#[derive(Debug, Default)]
pub(in crate::ai::dialect) struct Line {
    /// The channel's codec, both ways.
    format: AudioFormat,
    /// As MEDIA_START came.
    control: Control,
    started: bool,
    /// What Asterisk takes without buffering is a multiple of this; 0 passes every message on as it is.
    frame_bytes: usize,
    buffering: bool,
}

impl Line {
    pub(in crate::ai::dialect) fn decode<'a>(
        &mut self,
        kind: Kind,
        message: &'a [u8],
    ) -> Result<LineHeard<'a>, Ignored> {
        if kind == Kind::Binary {
            return self.caller_audio(message);
        }
        let (control, heard) = if message.trim_ascii_start().starts_with(b"{") {
            (Control::Json, json::object(message).ok_or(Ignored::BadJson)?)
        } else {
            let text = std::str::from_utf8(message).map_err(|_| Ignored::UnknownEvent)?;
            (Control::Text, Heard::from_text(text))
        };
        Ok(match &*heard.event.0 {
            "MEDIA_START" if self.started => return Err(Ignored::Refused),
            "MEDIA_START" => self.media_start(heard, control),
            _ if !self.started => LineHeard::Broken("the first message is not MEDIA_START".to_owned()),
            "DTMF_END" => {
                let mut keys = heard.digit.0.chars();
                match (keys.next().and_then(Digit::from_char), keys.next()) {
                    (Some(digit), None) => LineHeard::Digit(digit),
                    _ => return Err(Ignored::UnknownEvent),
                }
            }
            "MEDIA_XOFF" => LineHeard::Pressure { high: true },
            "MEDIA_XON" => LineHeard::Pressure { high: false },
            "ERROR" => LineHeard::Error(heard.error_text.0.into_owned()),
            "MEDIA_BUFFERING_COMPLETED" | "MEDIA_MARK_PROCESSED" | "QUEUE_DRAINED" | "STATUS" => {
                LineHeard::Nothing
            }
            _ => return Err(Ignored::UnknownEvent),
        })
    }

    fn caller_audio<'a>(&self, message: &'a [u8]) -> Result<LineHeard<'a>, Ignored> {
        if !self.started {
            return Ok(LineHeard::Broken("audio came before MEDIA_START".to_owned()));
        }
        if message.is_empty() {
            return Err(Ignored::MediaWithoutPayload);
        }
        if !message.len().is_multiple_of(self.format.encoding.sample_bytes()) {
            return Err(Ignored::Refused);
        }
        Ok(LineHeard::Audio { format: self.format, audio: message })
    }

    fn media_start<'a>(&mut self, heard: Heard<'_>, control: Control) -> LineHeard<'a> {
        let Some(format) = format_named(&heard.format.0) else {
            return LineHeard::Broken(format!(
                "the channel has the format {}: dial with c(ulaw), c(alaw) or c(slin16)",
                heard.format.0
            ));
        };
        self.format = format;
        self.control = control;
        self.started = true;
        self.frame_bytes = usize::try_from(heard.optimal_frame_size).unwrap_or(usize::MAX);
        let text = |(name, value)| match value {
            Value::String(value) => Some((name, value)),
            _ => None,
        };
        LineHeard::Start(LineStart {
            id: heard.connection_id.0.into_owned(),
            channel: heard.channel.0.into_owned(),
            format,
            variables: heard.channel_variables.into_iter().filter_map(text).take(MOST_VARIABLES).collect(),
        })
    }

    pub(in crate::ai::dialect) fn audio(&mut self, audio: &[u8], out: &mut Outbox) {
        // A channel with other frames than ours keeps pieces of them for the next message only then.
        let frames_differ = !self.format.bytes(PTIME).is_multiple_of(self.frame_bytes);
        if !self.buffering && self.frame_bytes > 0 && frames_differ {
            self.buffering = true;
            self.tell(Command::StartMediaBuffering, out);
        }
        out.binary(audio);
    }

    pub(in crate::ai::dialect) fn answer(&self, out: &mut Outbox) {
        self.tell(Command::Answer, out);
    }

    pub(in crate::ai::dialect) fn flush(&mut self, out: &mut Outbox) {
        // A channel that passes frames on keeps none.
        if self.frame_bytes > 0 {
            self.buffering = false;
            self.tell(Command::FlushMedia, out);
        }
    }

    pub(in crate::ai::dialect) fn hang_up(&self, out: &mut Outbox) {
        self.tell(Command::HangUp, out);
    }

    fn tell(&self, command: Command<'_>, out: &mut Outbox) {
        out.text(&command.written(self.control));
    }
}

const MOST_VARIABLES: usize = 32;
