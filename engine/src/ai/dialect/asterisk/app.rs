//! The side of the application: a channel of an Asterisk is the bot, whatever its dialplan does with the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde_json::Value;

use super::command::Command;
use super::event::Heard;
use super::{Control, format_named};
use crate::ai::dialect::{
    AudioFormat, Codec, Decoded, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart, json,
};

#[derive(Debug)]
pub(in crate::ai::dialect) struct App {
    /// The channel's codec, both ways: what is hoped for until MEDIA_START tells.
    format: AudioFormat,
    /// As MEDIA_START came.
    control: Control,
    started: bool,
    /// For a channel that was dialled with the option not to answer by itself.
    answer: bool,
}

impl App {
    pub(in crate::ai::dialect) fn new(start: StreamStart) -> Self {
        Self {
            format: start.settings.formats.map_or(start.line, |formats| formats.caller),
            control: Control::default(),
            started: false,
            answer: start.settings.session.get("answer") == Some(&Value::Bool(true)),
        }
    }

    fn media_start(&mut self, heard: &Heard<'_>, control: Control, decoded: &mut Decoded) -> Incoming {
        let Some(format) = format_named(&heard.format.0) else {
            return Incoming::Error {
                fatal: true,
                code: "format".into(),
                text: format!(
                    "the Asterisk channel has the format {}: dial it with c(ulaw), c(alaw) or c(slin16)",
                    heard.format.0
                ),
            };
        };
        self.format = format;
        self.control = control;
        self.started = true;
        if self.answer {
            self.tell(Command::Answer, &mut decoded.replies);
        }
        // Pieces of frames are kept then, not dropped; a channel that passes frames through has no queue for it.
        if heard.optimal_frame_size > 0 {
            self.tell(Command::StartMediaBuffering, &mut decoded.replies);
        }
        Incoming::Ready
    }

    fn tell(&self, command: Command<'_>, out: &mut Outbox) {
        out.text(&command.written(self.control));
    }
}

impl Codec for App {
    fn formats(&self) -> Formats {
        Formats { caller: self.format, bot: self.format }
    }

    /// Asterisk speaks first.
    fn open(&mut self, _out: &mut Outbox) {}

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        match event {
            Outgoing::Audio { audio, .. } if self.started => out.binary(audio),
            Outgoing::Stop => self.tell(Command::HangUp, out),
            _ => {}
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            decoded.audio.extend_from_slice(message);
            decoded.events.push(Incoming::Audio { len: message.len(), item: 0 });
            return Ok(());
        }
        let (control, heard) = if message.trim_ascii_start().starts_with(b"{") {
            (Control::Json, json::object(message).ok_or(Ignored::BadJson)?)
        } else {
            let text = std::str::from_utf8(message).map_err(|_| Ignored::UnknownEvent)?;
            (Control::Text, Heard::from_text(text))
        };
        let event = match &*heard.event.0 {
            "MEDIA_START" => self.media_start(&heard, control, decoded),
            "DTMF_END" => Incoming::SendDigits(heard.digit.0.into_owned()),
            // What waits there is our caller's speech, seconds old: fresh speech is worth more.
            "MEDIA_XOFF" => {
                self.tell(Command::FlushMedia, &mut decoded.replies);
                self.tell(Command::StartMediaBuffering, &mut decoded.replies);
                return Ok(());
            }
            "ERROR" => {
                Incoming::Error { fatal: false, code: "ERROR".into(), text: heard.error_text.0.into_owned() }
            }
            "MEDIA_XON"
            | "MEDIA_BUFFERING_COMPLETED"
            | "MEDIA_MARK_PROCESSED"
            | "QUEUE_DRAINED"
            | "STATUS" => {
                return Ok(());
            }
            _ => return Err(Ignored::UnknownEvent),
        };
        decoded.events.push(event);
        Ok(())
    }
}
