//! A stream: one RTP session with one remote party (RFC 3550), its codec, its clock and the app that
//! hears and feeds it. Sans-IO.
//!
//! After any input or mutator the owner drains [`Stream::poll_transmit`] and [`Stream::poll_event`] and
//! reads [`Stream::poll_timeout`].

mod parameters;

use std::net::SocketAddr;

use crate::ai::AiPort;
use crate::command::Digit;
use crate::player::Player;
use crate::time::{Duration, Instant, WallClock};

pub use parameters::{
    Codec, Direction, Format, Formats, SourcePolicy, StreamParameters, TelephoneEventFormat,
};

/// Which of a stream's two local ports a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Media, and with `rtcp_mux` RTCP too.
    Rtp,
    /// RTCP on its own port.
    Rtcp,
}

/// One packet to send, already written to the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which local port.
    pub component: Component,
    /// To whom.
    pub remote: SocketAddr,
    /// How many bytes of the buffer.
    pub len: usize,
}

/// What the caller hears, and who hears the caller.
#[derive(Debug, Default)]
pub enum App {
    /// Silence, and nobody listens.
    #[default]
    Silence,
    /// The caller hears themselves.
    Echo,
    /// Recorded audio.
    Player(Box<Player>),
    /// An AI backend.
    Ai(Box<AiPort>),
}

/// What was really played of something queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayoutReport {
    /// Samples handed to RTP.
    pub played_samples: u64,
    /// The RTP timestamp after the last of them.
    pub rtp_timestamp: u32,
    /// Whether everything was played.
    pub complete: bool,
}

/// A stream's figures. Cumulative since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamStatistics {
    /// RTP packets accepted.
    pub received_packets: u64,
    /// Their payload bytes.
    pub received_bytes: u64,
    /// Packets that never came (RFC 3550 appendix A.3).
    pub lost_packets: i64,
    /// Packets that came twice.
    pub duplicate_packets: u64,
    /// Packets that came after a later one.
    pub reordered_packets: u64,
    /// Packets that came after their turn to be played.
    pub late_packets: u64,
    /// Packets refused, by any reason.
    pub refused_packets: u64,
    /// Packets from strangers.
    pub stranger_packets: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter: Duration,
    /// Round-trip time from the last receiver report, if any.
    pub round_trip: Option<Duration>,
    /// RTP packets sent.
    pub sent_packets: u64,
    /// Their payload bytes.
    pub sent_bytes: u64,
    /// What the peer's last receiver report says it lost.
    pub remote_lost_packets: i64,
    /// The peer's interarrival jitter.
    pub remote_jitter: Duration,
    /// Frames that concealment made up.
    pub concealed_frames: u64,
    /// Audio in the jitter buffer now.
    pub jitter_buffer: Duration,
    /// DTMF digits received.
    pub digits_received: u64,
}

/// What happened in a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// The source of the media is locked.
    Latched(SocketAddr),
    /// The peer pressed and released a key.
    Dtmf {
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
    },
    /// The player is done.
    PlayFinished(PlayoutReport),
    /// No packet for too long.
    MediaTimeout,
    /// RTCP BYE arrived.
    RemoteBye,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Stream {
    parameters: StreamParameters,
}

impl Stream {
    /// Makes a stream with all the memory it will ever need.
    #[must_use]
    pub fn new(parameters: StreamParameters) -> Box<Self> {
        Box::new(Self { parameters })
    }

    /// Starts the clocks. Called once by the worker when the sockets are open.
    pub fn start(&mut self, _now: Instant, _wall: WallClock) {}

    /// A packet came from `remote`.
    pub fn handle_packet(&mut self, _now: Instant, _on: Component, _remote: SocketAddr, _packet: &mut [u8]) {}

    /// The deadline of [`Stream::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Applies a new offer/answer outcome.
    pub fn update(&mut self, _now: Instant, parameters: StreamParameters) {
        self.parameters = parameters;
    }

    /// Replaces the app and returns the former one.
    pub fn attach(&mut self, _now: Instant, app: App) -> App {
        app
    }

    /// Queues a digit to send; false if the queue is full.
    pub fn send_dtmf(&mut self, _digit: Digit, _duration: Duration) -> bool {
        false
    }

    /// Hands a digit that came by signalling to the app.
    pub fn relay_dtmf(&mut self, _digit: Digit, _duration: Duration) {}

    /// Ends the stream: queues RTCP BYE for the last `poll_transmit`.
    pub fn close(&mut self, _now: Instant) {}

    /// Writes the next packet to send to `buffer` (at least [`xdp::MAX_DATAGRAM_BYTES`]).
    #[must_use]
    pub fn poll_transmit(&mut self, _buffer: &mut [u8]) -> Option<Transmit> {
        None
    }

    /// The next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        None
    }

    /// When to call [`Stream::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The index of the AI thread to wake because its stream has something to read, once.
    #[must_use]
    pub fn take_ai_wakeup(&mut self) -> Option<u8> {
        None
    }

    /// The locked source of media, for [`xdp::Device::connect`].
    #[must_use]
    pub fn latched(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether RTCP shares the RTP port, so that no second port is opened.
    #[must_use]
    pub fn rtcp_mux(&self) -> bool {
        self.parameters.rtcp_mux
    }

    /// The figures now.
    #[must_use]
    pub fn statistics(&self) -> StreamStatistics {
        StreamStatistics::default()
    }
}
