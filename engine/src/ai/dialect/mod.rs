//! The languages AI backends speak, each a codec between its messages and one small model. Pure: no sockets, no
//! clock.

mod asterisk;
mod audio_stream;
mod audiosocket;
mod base64;
mod clip;
mod deepgram;
mod details;
mod elevenlabs;
mod exotel;
mod format;
mod gemini;
mod jambonz;
mod json;
mod keypad;
mod line;
mod message;
mod overlay;
mod plivo;
mod raw;
mod realtime;
mod scan;
mod settings;
mod tap;
mod telephony;
mod telnyx;
mod twilio;
mod vonage;

pub use audiosocket::AudioSocketFrames;
pub use format::{AudioFormat, Encoding, Formats};
pub use line::{LineCodec, LineHeard, LineProtocol, LineStart};
pub use message::{
    Decoded, Ignored, Incoming, ItemPlayed, Kind, Outbox, Outgoing, QueueStatus, Recording, Sender, ToolCall,
    ToolResult,
};
pub use settings::{AgentSettings, Carrier, Handshake, StreamStart, Tool};
pub(in crate::ai) use tap::TapWire;
pub use tap::{TapDialect, TapTracks};

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
    /// Telnyx media streaming; we act as Telnyx.
    Telnyx,
    /// Plivo audio streaming and its clones; we act as Plivo.
    Plivo,
    /// The WebSocket endpoint of Vonage's Voice API; we act as Vonage.
    Vonage,
    /// Exotel's voice streaming; we act as Exotel.
    Exotel,
    /// Asterisk's `chan_websocket`; we act as Asterisk.
    Asterisk,
    /// Asterisk's `chan_websocket`; we act as the application.
    AsteriskApp,
    /// The verbs `listen` and `stream` of jambonz; we act as jambonz.
    Jambonz,
    /// FreeSWITCH's `mod_audio_fork`; we act as the module.
    AudioFork,
    /// FreeSWITCH's `mod_audio_stream`; we act as the module.
    AudioStream,
    /// Audio in binary messages and nothing else.
    Raw,
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
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Twilio,
        Self::OpenAi,
        Self::VoiceLive,
        Self::Telnyx,
        Self::Plivo,
        Self::Vonage,
        Self::Exotel,
        Self::Asterisk,
        Self::AsteriskApp,
        Self::Jambonz,
        Self::AudioFork,
        Self::AudioStream,
        Self::Raw,
        Self::Deepgram,
        Self::ElevenLabs,
        Self::Gemini,
        Self::AudioSocket,
    ];

    /// How a connection begins, besides what the configuration says.
    #[must_use]
    pub fn handshake(self, settings: &AgentSettings) -> Handshake {
        match self {
            Self::OpenAi => realtime::Vendor::OpenAi.handshake(settings),
            Self::VoiceLive => realtime::Vendor::VoiceLive.handshake(settings),
            Self::Twilio
            | Self::Telnyx
            | Self::Plivo
            | Self::Vonage
            | Self::Exotel
            | Self::AudioStream
            | Self::Raw => Handshake::default(),
            Self::Asterisk | Self::AsteriskApp => Handshake::of_subprotocol("media"),
            Self::Jambonz => Handshake::of_subprotocol("audio.jambonz.org"),
            Self::AudioFork => Handshake::of_subprotocol("audio.drachtio.org"),
            Self::Deepgram => deepgram::Deepgram::handshake(),
            Self::ElevenLabs => elevenlabs::ElevenLabs::handshake(settings),
            Self::Gemini => gemini::Gemini::handshake(settings),
            Self::AudioSocket => audiosocket::AudioSocket::handshake(),
        }
    }

    /// How many bytes a message of a well-behaved backend may have: models send seconds of audio in one.
    #[must_use]
    pub const fn largest_message(self) -> usize {
        match self {
            Self::OpenAi | Self::VoiceLive | Self::Deepgram | Self::ElevenLabs | Self::Gemini => 16 << 20,
            _ => 1 << 20,
        }
    }

    /// A codec for one new stream.
    #[must_use]
    pub fn codec(self, start: StreamStart) -> Box<dyn Codec> {
        match self {
            Self::Twilio => Box::new(twilio::Twilio::new(start)),
            Self::OpenAi => Box::new(realtime::Realtime::new(realtime::Vendor::OpenAi, start)),
            Self::VoiceLive => Box::new(realtime::Realtime::new(realtime::Vendor::VoiceLive, start)),
            Self::Telnyx => Box::new(telnyx::Telnyx::new(start)),
            Self::Plivo => Box::new(plivo::Plivo::new(start)),
            Self::Vonage => Box::new(vonage::Vonage::new(start)),
            Self::Exotel => Box::new(exotel::Exotel::new(start)),
            Self::Asterisk => Box::new(asterisk::Asterisk::new(start)),
            Self::AsteriskApp => Box::new(asterisk::App::new(start)),
            Self::Jambonz => Box::new(jambonz::Listen::jambonz(start)),
            Self::AudioFork => Box::new(jambonz::Listen::audio_fork(start)),
            Self::AudioStream => Box::new(audio_stream::AudioStream::new(start)),
            Self::Raw => Box::new(raw::Raw::new(start)),
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
