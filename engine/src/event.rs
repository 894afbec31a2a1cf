//! What a worker tells signalling. A full event ring is counted, and the events that answer a command are
//! kept until they fit.

use std::net::SocketAddr;

use crate::command::{Digit, RelayId, StreamId};
use crate::relay::{Relay, RelayEvent, RelayStatistics, RelayUpdate, Side};
use crate::stream::{App, PlayoutReport, Stream, StreamStatistics};
use crate::time::Duration;

/// One report from a worker.
#[derive(Debug)]
pub enum Event {
    /// The stream's sockets are open.
    StreamAdded {
        /// Which stream.
        id: StreamId,
    },
    /// The stream could not be started.
    StreamFailed {
        /// Which stream.
        id: StreamId,
        /// The operating system's error, such as `AddrInUse`.
        error: std::io::ErrorKind,
        /// The memory that came with the command.
        stream: Box<Stream>,
    },
    /// The stream has locked on to the source of its media.
    Latched {
        /// Which stream.
        id: StreamId,
        /// The source.
        remote: SocketAddr,
    },
    /// The peer pressed and released a key.
    Dtmf {
        /// Which stream.
        id: StreamId,
        /// The digit.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
        /// It came as tones in the audio.
        inband: bool,
    },
    /// A player reached the end of its audio, or was replaced before (the report tells how far it got).
    PlayFinished {
        /// Which stream.
        id: StreamId,
        /// How much was really sent.
        report: PlayoutReport,
    },
    /// No packet for the negotiated time.
    MediaTimeout {
        /// Which stream.
        id: StreamId,
    },
    /// The peer sent RTCP BYE.
    RemoteBye {
        /// Which stream.
        id: StreamId,
    },
    /// The answer to `QueryStream`.
    StreamReport {
        /// Which stream.
        id: StreamId,
        /// The figures now.
        statistics: StreamStatistics,
    },
    /// An app that another one has replaced, for its owner to free.
    AppDetached {
        /// Which stream.
        id: StreamId,
        /// The former app.
        app: App,
    },
    /// The stream has ended; these are its last figures and its memory.
    StreamRemoved {
        /// Which stream.
        id: StreamId,
        /// The last figures.
        statistics: StreamStatistics,
        /// The memory.
        stream: Box<Stream>,
    },
    /// The stream's code panicked. Only this stream ended; a bug to report.
    StreamPanicked {
        /// Which stream.
        id: StreamId,
    },
    /// The relay's sockets are open.
    RelayAdded {
        /// Which relay.
        id: RelayId,
    },
    /// The relay could not be started.
    RelayFailed {
        /// Which relay.
        id: RelayId,
        /// The side whose ports could not be opened.
        side: Side,
        /// The operating system's error, such as `AddrInUse`.
        error: std::io::ErrorKind,
        /// The memory that came with the command.
        relay: Box<Relay>,
    },
    /// Something happened in a relay.
    Relay {
        /// Which relay.
        id: RelayId,
        /// What.
        event: RelayEvent,
    },
    /// New parameters are applied.
    RelayUpdated {
        /// Which relay.
        id: RelayId,
        /// The memory that is left over.
        update: Box<RelayUpdate>,
    },
    /// The answer to `QueryRelay`.
    RelayReport {
        /// Which relay.
        id: RelayId,
        /// The figures now.
        report: Box<RelayStatistics>,
    },
    /// A command came for a relay that is gone.
    RelayUnknown {
        /// Which relay.
        id: RelayId,
        /// The memory that came with the command.
        memory: RelayMemory,
    },
    /// The relay has ended; it has its last figures.
    RelayRemoved {
        /// Which relay.
        id: RelayId,
        /// The memory.
        relay: Box<Relay>,
    },
    /// A listener that is no part of the call any more, or never became one, for its owner to free.
    TapDetached {
        /// Which call.
        call: crate::command::Tapped,
        /// The listener's end.
        tap: Box<crate::ai::tap::TapPort>,
    },
    /// The relay's code panicked. Only this relay ended; a bug to report.
    RelayPanicked {
        /// Which relay.
        id: RelayId,
    },
}

/// Memory of a command that goes back unused.
#[derive(Debug)]
pub enum RelayMemory {
    /// Of `Command::UpdateRelay`.
    Update(Box<RelayUpdate>),
    /// Of `Command::QueryRelay`.
    Report(Box<RelayStatistics>),
}
