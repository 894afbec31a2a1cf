//! The languages AI backends speak over a WebSocket, each a codec between its messages and one small
//! model. Pure: no sockets, no clock.

mod twilio;

use std::collections::BTreeMap;

use crate::command::Digit;

/// The language of an AI backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Twilio Media Streams, bidirectional; we act as Twilio.
    #[default]
    Twilio,
}

/// What a backend learns about a call when its stream starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStart {
    /// `MZ` and 32 hexadecimal digits.
    pub stream_sid: String,
    /// `CA` and 32 hexadecimal digits.
    pub call_sid: String,
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Names and values for the backend's application.
    pub custom_parameters: BTreeMap<String, String>,
}

/// From us to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// Caller audio, PCMU. `timestamp` is its first sample, counted from the stream's start.
    Audio {
        /// Samples since the stream's start.
        timestamp: u64,
        /// PCMU.
        audio: &'a [u8],
    },
    /// A key of the caller's phone.
    Digit(Digit),
    /// The audio before this mark was played or cleared.
    MarkPlayed(&'a str),
    /// The call has ended.
    Stop,
}

/// From the backend to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Bot audio, PCMU, was appended to the buffer given to the decoder.
    Audio,
    /// Tell when the audio so far has been played.
    Mark(String),
    /// Drop all queued audio.
    Clear,
}

/// Why a message was ignored. Never a reason to end the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// An event this dialect does not have.
    UnknownEvent,
    /// Not JSON, or not of the expected shape.
    BadJson,
    /// `media` without a payload.
    MediaWithoutPayload,
    /// A payload that is not base64.
    BadBase64,
    /// `mark` without a name.
    MarkWithoutName,
    /// A binary message where the dialect has only text.
    BinaryFrame,
}

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it means.
    pub message: Result<Incoming, Ignored>,
    /// Whether it names another stream than ours, which is obeyed all the same.
    pub wrong_stream: bool,
}

/// Turns one stream's messages into text and back.
#[derive(Debug)]
pub struct Codec(Language);

#[derive(Debug)]
enum Language {
    Twilio(twilio::Twilio),
}

impl Codec {
    /// A codec for one new stream.
    #[must_use]
    pub fn new(dialect: Dialect, start: StreamStart) -> Self {
        match dialect {
            Dialect::Twilio => Self(Language::Twilio(twilio::Twilio::new(start))),
        }
    }

    /// The messages that open the stream, in order.
    pub fn opening(&mut self) -> Vec<String> {
        match &mut self.0 {
            Language::Twilio(twilio) => twilio.opening(),
        }
    }

    /// Replaces the contents of `text` by one message.
    pub fn encode(&mut self, message: Outgoing<'_>, text: &mut String) {
        text.clear();
        match &mut self.0 {
            Language::Twilio(twilio) => twilio.encode(message, text),
        }
    }

    /// Reads one text message. Audio is appended to `audio`.
    pub fn decode_text(&mut self, text: &str, audio: &mut Vec<u8>) -> Decoded {
        match &mut self.0 {
            Language::Twilio(twilio) => twilio.decode(text, audio),
        }
    }

    /// Reads one binary message.
    pub fn decode_binary(&mut self, _message: &[u8], _audio: &mut Vec<u8>) -> Decoded {
        match &self.0 {
            Language::Twilio(_) => Decoded { message: Err(Ignored::BinaryFrame), wrong_stream: false },
        }
    }
}
