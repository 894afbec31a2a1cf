//! The languages AI backends speak, each a codec between its messages and one small model. Pure: no sockets, no
//! clock.

mod base64;
mod format;
mod json;
mod message;
mod realtime;
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
    /// OpenAI Realtime as it is generally available, and servers compatible with it.
    OpenAi,
    /// Azure AI Voice Live.
    VoiceLive,
}

impl Dialect {
    /// How a connection begins, besides what the configuration says.
    #[must_use]
    pub fn handshake(self, settings: &AgentSettings) -> Handshake {
        match self {
            Self::Twilio => Handshake::default(),
            Self::OpenAi => realtime::Vendor::OpenAi.handshake(settings),
            Self::VoiceLive => realtime::Vendor::VoiceLive.handshake(settings),
        }
    }

    /// A codec for one new stream.
    #[must_use]
    pub fn codec(self, start: StreamStart) -> Box<dyn Codec> {
        match self {
            Self::Twilio => Box::new(twilio::Twilio::new(start)),
            Self::OpenAi => Box::new(realtime::Realtime::new(realtime::Vendor::OpenAi, start)),
            Self::VoiceLive => Box::new(realtime::Realtime::new(realtime::Vendor::VoiceLive, start)),
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
