//! What signalling asks of a worker. Plain data; memory a worker needs comes with the command, and goes
//! back with an event, so that the worker itself neither allocates nor frees.

use crate::relay::{Relay, RelayStatistics, RelayUpdate};
use crate::stream::StreamParameters;

/// Names a stream for its life: the worker, the worker's slot and a generation against reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// The index of the worker that owns the stream.
    pub worker: u16,
    /// The slot in that worker.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Names a relay for its life, as [`StreamId`] names a stream. Relays have slots of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId {
    /// The index of the worker that owns the relay.
    pub worker: u16,
    /// The slot in that worker.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// A DTMF digit: 0 to 9, `*`, `#`, A to D (RFC 4733 section 3.2, events 0 to 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digit(u8);

impl Digit {
    /// The digit of a telephone-event code, 0 to 15.
    #[must_use]
    pub const fn from_event(event: u8) -> Option<Self> {
        if event < 16 { Some(Self(event)) } else { None }
    }

    /// The digit of a character, upper or lower case.
    #[must_use]
    pub fn from_char(digit: char) -> Option<Self> {
        let digit = digit.to_ascii_uppercase();
        DIGITS.iter().position(|&known| char::from(known) == digit).map(|event| Self(event as u8))
    }

    /// The telephone-event code, 0 to 15.
    #[must_use]
    pub const fn event(self) -> u8 {
        self.0
    }

    /// The character.
    #[must_use]
    pub const fn as_char(self) -> char {
        DIGITS[self.0 as usize] as char
    }
}

const DIGITS: &[u8; 16] = b"0123456789*#ABCD";

/// A call that has listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tapped {
    /// With an app.
    Stream(StreamId),
    /// Of two parties.
    Relay(RelayId),
}

/// One request to a worker. The worker takes a bounded number per loop, in order.
#[derive(Debug)]
pub enum Command {
    /// Opens the sockets of a stream and starts it. Answered by `StreamAdded` or `StreamFailed`.
    AddStream {
        /// The id, chosen by the engine's control side.
        id: StreamId,
        /// The local RTP address; RTCP is on the next port unless it is multiplexed.
        local: std::net::SocketAddr,
        /// The stream itself, made by the control side.
        stream: Box<crate::stream::Stream>,
    },
    /// Applies a new offer/answer outcome.
    UpdateStream {
        /// Which stream.
        id: StreamId,
        /// The new parameters.
        parameters: StreamParameters,
    },
    /// Changes what the caller hears and who hears the caller. The former app goes back by
    /// `Event::AppDetached`.
    Attach {
        /// Which stream.
        id: StreamId,
        /// The app.
        app: crate::stream::App,
    },
    /// Sends DTMF to the peer (RFC 4733), after what is being sent. Digits that do not fit a bounded
    /// queue are counted and dropped.
    SendDtmf {
        /// Which stream.
        id: StreamId,
        /// The digit.
        digit: Digit,
        /// How long the key is down.
        duration: crate::time::Duration,
    },
    /// A digit that the peer pressed but sent by SIP INFO: handed to the app as if it had come in RTP.
    RelayDtmf {
        /// Which stream.
        id: StreamId,
        /// The digit.
        digit: Digit,
        /// How long the key was down.
        duration: crate::time::Duration,
    },
    /// Asks for `Event::StreamReport`.
    QueryStream {
        /// Which stream.
        id: StreamId,
    },
    /// Sends RTCP BYE, closes the sockets and answers with `StreamRemoved`.
    RemoveStream {
        /// Which stream.
        id: StreamId,
    },
    /// Opens the sockets of a relay and starts it. Answered by `RelayAdded` or `RelayFailed`.
    AddRelay {
        /// The id, chosen by the engine's control side.
        id: RelayId,
        /// The local RTP address of each side; RTCP is on the next port unless it is multiplexed.
        locals: [std::net::SocketAddr; 2],
        /// The relay itself, made by the control side.
        relay: Box<Relay>,
    },
    /// Applies a new offer/answer outcome. Answered by `RelayUpdated`, or by `RelayUnknown`.
    UpdateRelay {
        /// Which relay.
        id: RelayId,
        /// The new parameters and the memory for them.
        update: Box<RelayUpdate>,
    },
    /// Asks for `Event::RelayReport`, or `RelayUnknown`.
    QueryRelay {
        /// Which relay.
        id: RelayId,
        /// Where the figures are written to.
        report: Box<RelayStatistics>,
    },
    /// Closes the sockets and answers with `RelayRemoved`.
    RemoveRelay {
        /// Which relay.
        id: RelayId,
    },
    /// Adds a listener to a call. Answered by `TapDetached` if the call is gone or has as many as it may.
    AddTap {
        /// Which call.
        call: Tapped,
        /// The listener's end.
        tap: Box<crate::ai::tap::TapPort>,
    },
    /// Takes a listener out of a call. Answered by `TapDetached` if it was there.
    RemoveTap {
        /// Which call.
        call: Tapped,
        /// Which listener.
        tap: crate::ai::tap::TapId,
    },
    /// Ends the worker's loop; streams and relays still there are removed first.
    Shutdown,
}

impl Command {
    /// The worker that the command is for; `None` for every worker.
    #[must_use]
    pub const fn worker(&self) -> Option<u16> {
        match *self {
            Self::AddStream { id, .. }
            | Self::UpdateStream { id, .. }
            | Self::Attach { id, .. }
            | Self::SendDtmf { id, .. }
            | Self::RelayDtmf { id, .. }
            | Self::QueryStream { id }
            | Self::RemoveStream { id } => Some(id.worker),
            Self::AddRelay { id, .. }
            | Self::UpdateRelay { id, .. }
            | Self::QueryRelay { id, .. }
            | Self::RemoveRelay { id } => Some(id.worker),
            Self::AddTap { call, .. } | Self::RemoveTap { call, .. } => Some(match call {
                Tapped::Stream(id) => id.worker,
                Tapped::Relay(id) => id.worker,
            }),
            Self::Shutdown => None,
        }
    }
}
