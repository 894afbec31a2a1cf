//! What Asterisk tells an application.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Control, PTIME_MS};
use crate::ai::dialect::json::Text;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event<'a> {
    MediaStart(&'a MediaStart),
    DtmfEnd(char),
    MediaXoff,
    MediaXon,
    MediaBufferingCompleted(&'a str),
    MediaMarkProcessed(&'a str),
    QueueDrained,
    Status(Status),
    Error(&'a str),
}

/// What the application learns first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MediaStart {
    pub(super) connection_id: String,
    pub(super) channel: String,
    pub(super) format: String,
    pub(super) optimal_frame_size: usize,
    pub(super) channel_variables: Map<String, Value>,
}

/// Lengths in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) queue_length: u64,
    pub(super) xon_level: u64,
    pub(super) xoff_level: u64,
    pub(super) queue_full: bool,
    pub(super) bulk_media: bool,
    pub(super) media_paused: bool,
}

impl Event<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::MediaStart(_) => "MEDIA_START",
            Self::DtmfEnd(_) => "DTMF_END",
            Self::MediaXoff => "MEDIA_XOFF",
            Self::MediaXon => "MEDIA_XON",
            Self::MediaBufferingCompleted(_) => "MEDIA_BUFFERING_COMPLETED",
            Self::MediaMarkProcessed(_) => "MEDIA_MARK_PROCESSED",
            Self::QueueDrained => "QUEUE_DRAINED",
            Self::Status(_) => "STATUS",
            Self::Error(_) => "ERROR",
        }
    }

    /// The message.
    pub(super) fn written(self, control: Control, channel_id: &str) -> String {
        match control {
            Control::Json => self.json(channel_id).to_string(),
            Control::Text => self.text(channel_id),
        }
    }

    fn json(self, channel_id: &str) -> Value {
        let mut message = json!({ "event": self.name(), "channel_id": channel_id });
        let details = match self {
            Self::MediaStart(start) => json!({
                "connection_id": start.connection_id,
                "channel": start.channel,
                "format": start.format,
                "optimal_frame_size": start.optimal_frame_size,
                "ptime": PTIME_MS,
                "channel_variables": start.channel_variables,
            }),
            Self::DtmfEnd(digit) => json!({ "digit": digit }),
            Self::MediaXoff | Self::MediaXon | Self::QueueDrained => Value::Null,
            Self::MediaBufferingCompleted(id) | Self::MediaMarkProcessed(id) => {
                json!({ "correlation_id": id })
            }
            Self::Status(status) => json!({
                "queue_length": status.queue_length,
                "xon_level": status.xon_level,
                "xoff_level": status.xoff_level,
                "queue_full": status.queue_full,
                "bulk_media": status.bulk_media,
                "media_paused": status.media_paused,
            }),
            Self::Error(text) => json!({ "error_text": text }),
        };
        if let (Value::Object(message), Value::Object(details)) = (&mut message, details) {
            message.extend(details);
        }
        message
    }

    fn text(self, channel_id: &str) -> String {
        let mut text = self.name().to_owned();
        // Writing to memory does not fail.
        let _ = match self {
            Self::MediaStart(start) => write!(
                text,
                " connection_id:{} channel:{} channel_id:{channel_id} format:{} optimal_frame_size:{} ptime:{PTIME_MS}",
                start.connection_id, start.channel, start.format, start.optimal_frame_size
            ),
            Self::DtmfEnd(digit) => write!(text, " digit:{digit} channel_id:{channel_id}"),
            Self::MediaXoff | Self::MediaXon | Self::QueueDrained => Ok(()),
            Self::MediaBufferingCompleted("") | Self::MediaMarkProcessed("") => Ok(()),
            Self::MediaBufferingCompleted(id) | Self::MediaMarkProcessed(id) => write!(text, " {id}"),
            Self::Status(status) => write!(
                text,
                " channel_id:{channel_id} queue_length:{} xon_level:{} xoff_level:{} queue_full:{} bulk_media:{} media_paused:{}",
                status.queue_length,
                status.xon_level,
                status.xoff_level,
                status.queue_full,
                status.bulk_media,
                status.media_paused
            ),
            Self::Error(error) => write!(text, " channel_id:{channel_id} error_text:{error}"),
        };
        text
    }
}

/// An event as the application reads it: what it may act on.
#[derive(Default, Deserialize)]
pub(super) struct Heard<'a> {
    #[serde(borrow, default)]
    pub(super) event: Text<'a>,
    #[serde(borrow, default)]
    pub(super) connection_id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) channel: Text<'a>,
    #[serde(borrow, default)]
    pub(super) format: Text<'a>,
    #[serde(default)]
    pub(super) optimal_frame_size: u64,
    #[serde(borrow, default)]
    pub(super) digit: Text<'a>,
    #[serde(borrow, default)]
    pub(super) error_text: Text<'a>,
    /// Only JSON has them.
    #[serde(default)]
    pub(super) channel_variables: Map<String, Value>,
}

impl<'a> Heard<'a> {
    /// Reads the plain text form, `NAME key:value key:value`. An error's text is the rest of the message.
    pub(super) fn from_text(text: &'a str) -> Self {
        let text = text.trim();
        let (name, details) = text.split_once(' ').unwrap_or((text, ""));
        let mut heard = Self { event: Text(name.into()), ..Self::default() };
        if let Some((_, error)) = details.split_once("error_text:") {
            heard.error_text = Text(error.into());
        }
        for (key, value) in details.split(' ').filter_map(|detail| detail.split_once(':')) {
            match key {
                "connection_id" => heard.connection_id = Text(value.into()),
                "channel" => heard.channel = Text(value.into()),
                "format" => heard.format = Text(value.into()),
                "digit" => heard.digit = Text(value.into()),
                "optimal_frame_size" => heard.optimal_frame_size = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        heard
    }
}
