//! Who dials us with a call, by a socket: Asterisk, or what speaks like it. The other end of the dialects in which we act
//! as Asterisk.

use super::{AudioFormat, Ignored, Kind, Outbox, asterisk, audiosocket};
use crate::command::Digit;

/// What a call comes by when it comes by a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineProtocol {
    /// Asterisk's AudioSocket: TCP with frames of type, length and payload.
    AudioSocket,
    /// Asterisk's `chan_websocket`: audio in binary messages, control in text.
    ChanWebSocket,
}

impl LineProtocol {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::AudioSocket, Self::ChanWebSocket];

    /// The name used in logs, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AudioSocket => "audiosocket",
            Self::ChanWebSocket => "chan_websocket",
        }
    }

    /// How many bytes a message may have: what the length of a frame can tell, or a message of Asterisk.
    #[must_use]
    pub const fn largest_message(self) -> usize {
        match self {
            Self::AudioSocket => 3 + 65_535,
            Self::ChanWebSocket => 65_536,
        }
    }

    /// A codec for one new call.
    #[must_use]
    pub fn codec(self) -> LineCodec {
        LineCodec(match self {
            Self::AudioSocket => Wire::AudioSocket(audiosocket::Line::default()),
            Self::ChanWebSocket => Wire::ChanWebSocket(asterisk::Line::default()),
        })
    }
}

/// How a call introduces itself. All strings come from the peer and are not to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineStart {
    /// The UUID in its usual form, or the connection's id.
    pub id: String,
    /// The channel's name; empty if the protocol has none.
    pub channel: String,
    /// The caller's audio. AudioSocket tells it with the audio only; this is what it begins with then.
    pub format: AudioFormat,
    /// The channel's variables that are text.
    pub variables: Vec<(String, String)>,
}

/// What came from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum LineHeard<'a> {
    /// The call begins. Always the first.
    Start(LineStart),
    /// The caller's audio.
    Audio {
        /// Its format; that of what we send, too.
        format: AudioFormat,
        /// Whole samples.
        audio: &'a [u8],
    },
    /// A key of the caller.
    Digit(Digit),
    /// The peer has so much of our audio that it wants no more, or again wants it.
    Pressure {
        /// No more, or more.
        high: bool,
    },
    /// The caller has hung up.
    HangUp,
    /// The peer reports an error, which the call survives.
    Error(String),
    /// Nothing that we need to know.
    Nothing,
    /// The call cannot go on.
    Broken(String),
}

/// Turns one call's messages into [`LineHeard`], and what it is to be told into messages. Pure.
#[derive(Debug)]
pub struct LineCodec(Wire);

#[derive(Debug)]
enum Wire {
    AudioSocket(audiosocket::Line),
    ChanWebSocket(asterisk::Line),
}

impl LineCodec {
    /// Reads one message; an AudioSocket frame is a binary message with its header.
    ///
    /// # Errors
    /// [`Ignored`], if it means nothing.
    pub fn decode<'a>(&mut self, kind: Kind, message: &'a [u8]) -> Result<LineHeard<'a>, Ignored> {
        match &mut self.0 {
            Wire::AudioSocket(line) => line.decode(kind, message),
            Wire::ChanWebSocket(line) => line.decode(kind, message),
        }
    }

    /// Adds audio in the format of the call: 20 ms of it.
    pub fn audio(&mut self, audio: &[u8], out: &mut Outbox) {
        match &mut self.0 {
            Wire::AudioSocket(line) => line.audio(audio, out),
            Wire::ChanWebSocket(line) => line.audio(audio, out),
        }
    }

    /// Takes the call, where the protocol has a word for it.
    pub fn answer(&self, out: &mut Outbox) {
        if let Wire::ChanWebSocket(line) = &self.0 {
            line.answer(out);
        }
    }

    /// Has the peer drop our audio that it has not played yet, where it keeps any.
    pub fn flush(&mut self, out: &mut Outbox) {
        if let Wire::ChanWebSocket(line) = &mut self.0 {
            line.flush(out);
        }
    }

    /// Ends the call.
    pub fn hang_up(&self, out: &mut Outbox) {
        match &self.0 {
            Wire::AudioSocket(_) => audiosocket::Line::hang_up(out),
            Wire::ChanWebSocket(line) => line.hang_up(out),
        }
    }

    /// Whether the peer plays what comes from a queue of its own, rather than at once.
    #[must_use]
    pub const fn has_queue(&self) -> bool {
        matches!(self.0, Wire::ChanWebSocket(_))
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
