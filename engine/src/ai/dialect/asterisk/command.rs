//! What an application tells Asterisk.

use serde::Deserialize;
use serde_json::json;

use super::Control;
use crate::ai::dialect::Ignored;
use crate::ai::dialect::json::{self, Text};

/// One command. Case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Answer,
    HangUp,
    StartMediaBuffering,
    StopMediaBuffering(&'a str),
    MarkMedia(&'a str),
    FlushMedia,
    PauseMedia,
    ContinueMedia,
    ReportQueueDrained,
    GetStatus,
    SetMediaDirection(Direction),
}

/// Which way audio goes, as the application sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Direction {
    #[default]
    Both,
    /// The application only hears.
    In,
    /// The application only speaks.
    Out,
}

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    command: Text<'a>,
    #[serde(borrow, default)]
    correlation_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    direction: Option<Text<'a>>,
}

impl<'a> Message<'a> {
    pub(super) fn parse(control: Control, message: &'a [u8]) -> Result<Self, Ignored> {
        match control {
            Control::Json => json::object(message).ok_or(Ignored::BadJson),
            Control::Text => {
                let text = std::str::from_utf8(message).map_err(|_| Ignored::UnknownEvent)?.trim();
                let (command, id) =
                    text.split_once(' ').map_or((text, None), |(command, id)| (command, Some(id)));
                Ok(Self {
                    command: Text(command.into()),
                    correlation_id: id.map(|id| Text(id.into())),
                    direction: None,
                })
            }
        }
    }

    pub(super) fn command(&self) -> Result<Command<'_>, Ignored> {
        let id = self.correlation_id.as_ref().map_or("", |id| &*id.0);
        Ok(match &*self.command.0 {
            "ANSWER" => Command::Answer,
            "HANGUP" => Command::HangUp,
            "START_MEDIA_BUFFERING" => Command::StartMediaBuffering,
            "STOP_MEDIA_BUFFERING" => Command::StopMediaBuffering(id),
            "MARK_MEDIA" => Command::MarkMedia(id),
            "FLUSH_MEDIA" => Command::FlushMedia,
            "PAUSE_MEDIA" => Command::PauseMedia,
            "CONTINUE_MEDIA" => Command::ContinueMedia,
            "REPORT_QUEUE_DRAINED" => Command::ReportQueueDrained,
            "GET_STATUS" => Command::GetStatus,
            "SET_MEDIA_DIRECTION" => match self.direction.as_ref().map(|direction| &*direction.0) {
                Some("both") => Command::SetMediaDirection(Direction::Both),
                Some("in") => Command::SetMediaDirection(Direction::In),
                Some("out") => Command::SetMediaDirection(Direction::Out),
                _ => return Err(Ignored::UnknownEvent),
            },
            _ => return Err(Ignored::UnknownEvent),
        })
    }
}

impl Command<'_> {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answer => "ANSWER",
            Self::HangUp => "HANGUP",
            Self::StartMediaBuffering => "START_MEDIA_BUFFERING",
            Self::StopMediaBuffering(_) => "STOP_MEDIA_BUFFERING",
            Self::MarkMedia(_) => "MARK_MEDIA",
            Self::FlushMedia => "FLUSH_MEDIA",
            Self::PauseMedia => "PAUSE_MEDIA",
            Self::ContinueMedia => "CONTINUE_MEDIA",
            Self::ReportQueueDrained => "REPORT_QUEUE_DRAINED",
            Self::GetStatus => "GET_STATUS",
            Self::SetMediaDirection(_) => "SET_MEDIA_DIRECTION",
        }
    }

    /// The message. A direction has no words in plain text, and is not sent there.
    pub(super) fn written(self, control: Control) -> String {
        let id = match self {
            Self::StopMediaBuffering(id) | Self::MarkMedia(id) => Some(id).filter(|id| !id.is_empty()),
            _ => None,
        };
        match (control, id) {
            (Control::Text, None) => self.name().into(),
            (Control::Text, Some(id)) => format!("{} {id}", self.name()),
            (Control::Json, None) => json!({ "command": self.name() }).to_string(),
            (Control::Json, Some(id)) => json!({ "command": self.name(), "correlation_id": id }).to_string(),
        }
    }

    /// Whether it is about the audio that an application may not send in direction [`Direction::In`].
    pub(super) fn is_about_media(self) -> bool {
        matches!(
            self,
            Self::StartMediaBuffering
                | Self::StopMediaBuffering(_)
                | Self::MarkMedia(_)
                | Self::PauseMedia
                | Self::ContinueMedia
        )
    }
}
