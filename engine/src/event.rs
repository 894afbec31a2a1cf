//! What a worker tells signalling. A full event ring is counted, and the events that answer a command are
//! kept until they fit.

use std::net::SocketAddr;

use crate::command::{Digit, StreamId};
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
}
