//! The side of Asterisk: we carry the call, an application written for `chan_websocket` is the bot.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use serde_json::{Map, Value};

use super::command::{Command, Direction, Message};
use super::event::{Event, MediaStart, Status};
use super::{Control, MAX_TEXT_BYTES, PTIME, PTIME_MS, format_name};
use crate::ai::dialect::overlay::merge;
use crate::ai::dialect::{
    AudioFormat, Codec, Decoded, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, QueueStatus, StreamStart,
};

#[derive(Debug)]
pub(in crate::ai::dialect) struct Asterisk {
    start: StreamStart,
    control: Control,
    /// The channel's codec, both ways.
    format: AudioFormat,
    channel_id: String,
    /// Between START and STOP_MEDIA_BUFFERING audio need not come in whole frames.
    buffering: bool,
    direction: Direction,
    /// How often the application may still be answered with an error.
    complaints: u8,
}

impl Asterisk {
    pub(in crate::ai::dialect) fn new(start: StreamStart) -> Self {
        let control = match start.settings.session.get(CONTROL) {
            Some(Value::String(control)) if control == "text" => Control::Text,
            _ => Control::Json,
        };
        let format = start.settings.formats.map_or(start.line, |formats| formats.caller);
        let channel_id = format!("{}.{}", start.unix_ms / 1000, number_of(&start.stream_sid));
        Self {
            start,
            control,
            format,
            channel_id,
            buffering: false,
            direction: Direction::Both,
            complaints: COMPLAINTS,
        }
    }

    fn frame_bytes(&self) -> usize {
        self.format.bytes(PTIME)
    }

    fn media_start(&self) -> MediaStart {
        let connection_id = self.start.stream_sid.trim_start_matches("MZ").to_owned();
        let mut variables = Map::new();
        variables.insert(FRAME_SIZE_VARIABLE.into(), self.frame_bytes().to_string().into());
        variables.insert(CONNECTION_VARIABLE.into(), connection_id.as_str().into());
        for (name, value) in &self.start.custom_parameters {
            variables.insert(name.clone(), value.as_str().into());
        }
        if let Some(Value::Object(over)) = self.start.settings.session.get("channel_variables") {
            merge(&mut variables, over);
        }
        MediaStart {
            channel: format!("WebSocket/INCOMING/0x{:x}", number_of(&self.start.stream_sid)),
            connection_id,
            format: format_name(self.format),
            optimal_frame_size: self.frame_bytes(),
            channel_variables: variables,
        }
    }

    fn say(&self, event: Event<'_>, out: &mut Outbox) {
        out.text(&event.written(self.control, &self.channel_id));
    }

    /// Answers with an error, a bounded number of times.
    fn complain(&mut self, error: &str, out: &mut Outbox) {
        if let Some(left) = self.complaints.checked_sub(1) {
            self.complaints = left;
            self.say(Event::Error(error), out);
        }
    }

    fn status(&self, status: QueueStatus) -> Status {
        let frames = |duration: crate::time::Duration| duration.as_millis() as u64 / PTIME_MS;
        Status {
            queue_length: frames(status.queued),
            xon_level: frames(status.low_at),
            xoff_level: frames(status.high_at),
            queue_full: status.high,
            bulk_media: self.buffering,
            media_paused: status.paused,
        }
    }

    fn obey(&mut self, command: Command<'_>, decoded: &mut Decoded) -> Result<(), Ignored> {
        if self.direction == Direction::In && command.is_about_media() {
            let error = format!("{} not supported when direction is in", command.name());
            self.complain(&error, &mut decoded.replies);
            return Err(Ignored::Refused);
        }
        let events = &mut decoded.events;
        match command {
            // The call is answered already.
            Command::Answer => {}
            Command::HangUp => events.push(Incoming::HangUp { reason: "HANGUP".into() }),
            Command::StartMediaBuffering => self.buffering = true,
            Command::StopMediaBuffering(id) => {
                self.buffering = false;
                events.push(Incoming::AudioEnd);
                events.push(Incoming::Mark(format!("{BUFFERING}{id}")));
            }
            Command::MarkMedia(id) => events.push(Incoming::Mark(format!("{MARK}{id}"))),
            Command::FlushMedia => {
                self.buffering = false;
                events.push(Incoming::Clear);
            }
            Command::PauseMedia => events.push(Incoming::Pause),
            Command::ContinueMedia => events.push(Incoming::Continue),
            Command::ReportQueueDrained => events.push(Incoming::ReportDrained),
            Command::GetStatus => events.push(Incoming::ReportStatus),
            Command::SetMediaDirection(direction) => {
                let was = std::mem::replace(&mut self.direction, direction);
                if (was == Direction::Out) != (direction == Direction::Out) {
                    events.push(Incoming::Mute(direction == Direction::Out));
                }
            }
        }
        Ok(())
    }

    /// Without buffering only whole frames count, and the tail is dropped.
    fn take_audio(&self, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if self.direction == Direction::In {
            return Err(Ignored::Refused);
        }
        let whole = if self.buffering {
            message.len()
        } else {
            message.len() - message.len() % self.frame_bytes().max(1)
        };
        decoded.audio.extend_from_slice(message.get(..whole).unwrap_or_default());
        decoded.events.push(Incoming::Audio { len: whole, item: 0 });
        if whole == message.len() { Ok(()) } else { Err(Ignored::Refused) }
    }
}

impl Codec for Asterisk {
    fn formats(&self) -> Formats {
        Formats { caller: self.format, bot: self.format }
    }

    fn open(&mut self, out: &mut Outbox) {
        self.say(Event::MediaStart(&self.media_start()), out);
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        let event = match event {
            Outgoing::Audio { audio, .. } => {
                // Direction `out` holds from the command on, whatever is on its way from the caller.
                if self.direction != Direction::Out {
                    out.binary(audio);
                }
                return;
            }
            Outgoing::Digit { digit, .. } => Event::DtmfEnd(digit.as_char()),
            // What a flush has overtaken is never told.
            Outgoing::MarkPlayed { name, complete: true } => {
                if let Some(id) = name.strip_prefix(BUFFERING) {
                    Event::MediaBufferingCompleted(id)
                } else {
                    Event::MediaMarkProcessed(name.strip_prefix(MARK).unwrap_or(name))
                }
            }
            Outgoing::Drained => Event::QueueDrained,
            Outgoing::Pressure { high: true } => Event::MediaXoff,
            Outgoing::Pressure { high: false } => Event::MediaXon,
            Outgoing::Status(status) => Event::Status(self.status(status)),
            _ => return,
        };
        self.say(event, out);
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            return self.take_audio(message, decoded);
        }
        if message.len() > MAX_TEXT_BYTES {
            return Err(Ignored::TextFrame);
        }
        match Message::parse(self.control, message) {
            Ok(message) => self.obey(message.command()?, decoded),
            Err(ignored) => {
                self.complain("Unable to parse JSON command", &mut decoded.replies);
                Err(ignored)
            }
        }
    }
}

/// A number for a stream, from its random id.
fn number_of(stream_sid: &str) -> u32 {
    let digits = stream_sid.get(stream_sid.len().saturating_sub(8)..).unwrap_or_default();
    u32::from_str_radix(digits, 16).unwrap_or_default()
}

/// The session's key for the form of control messages: `json` or `text`.
const CONTROL: &str = "control";
/// What the names of marks begin with.
const BUFFERING: char = 'b';
const MARK: char = 'm';
const FRAME_SIZE_VARIABLE: &str = "MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE";
const CONNECTION_VARIABLE: &str = "MEDIA_WEBSOCKET_CONNECTION_ID";
/// An application that gets everything wrong is not answered for ever.
const COMPLAINTS: u8 = 16;
