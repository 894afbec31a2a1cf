//! The languages AI backends speak, each a codec between its messages and one small model. Pure: no sockets, no
//! clock.

mod audiosocket;
mod base64;
mod deepgram;
mod details;
mod elevenlabs;
mod format;
mod gemini;
mod json;
mod keypad;
mod message;
mod overlay;
mod settings;
mod twilio;

pub use format::{AudioFormat, Encoding, Formats};
pub use message::{
    Decoded, Ignored, Incoming, ItemPlayed, Kind, Outbox, Outgoing, Recording, Sender, ToolCall, ToolResult,
};
pub use settings::{AgentSettings, Carrier, Handshake, StreamStart, Tool};

/// The language of an AI backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Twilio Media Streams, bidirectional; we act as Twilio.
    #[default]
    Twilio,
    /// Deepgram Voice Agent.
    Deepgram,
    /// ElevenLabs Agents.
    ElevenLabs,
    /// Gemini Live.
    Gemini,
    /// Asterisk's AudioSocket over TCP; we act as Asterisk.
    AudioSocket,
}

impl Dialect {
    /// How a connection begins, besides what the configuration says.
    #[must_use]
    pub fn handshake(self, settings: &AgentSettings) -> Handshake {
        match self {
            Self::Twilio => Handshake::default(),
            Self::Deepgram => deepgram::Deepgram::handshake(),
            Self::ElevenLabs => elevenlabs::ElevenLabs::handshake(settings),
            Self::Gemini => gemini::Gemini::handshake(settings),
            Self::AudioSocket => audiosocket::AudioSocket::handshake(),
        }
    }

    /// A codec for one new stream.
    #[must_use]
    pub fn codec(self, start: StreamStart) -> Box<dyn Codec> {
        match self {
            Self::Twilio => Box::new(twilio::Twilio::new(start)),
            Self::Deepgram => Box::new(deepgram::Deepgram::new(&start)),
            Self::ElevenLabs => Box::new(elevenlabs::ElevenLabs::new(start)),
            Self::Gemini => Box::new(gemini::Gemini::new(start)),
            Self::AudioSocket => Box::new(audiosocket::AudioSocket::new(&start)),
        }
    }
}

/// Turns one stream's messages into the model and back.
pub trait Codec: std::fmt::Debug + Send {
    /// What audio goes each way. Fixed once [`Incoming::Ready`] was decoded; a backend may announce it before.
    fn formats(&self) -> Formats;

    /// The messages that open the stream, in order.
    fn open(&mut self, out: &mut Outbox);

    /// Adds the messages for one event to `out`: none, if the dialect has no word for it, one or several.
    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox);

    /// Reads one message. What it means, and what it must be answered with, is added to `decoded`.
    ///
    /// # Errors
    /// [`Ignored`], if it means nothing; never a reason to end the stream.
    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored>;
}
