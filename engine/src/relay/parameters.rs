//! What signalling has negotiated for a relay: one side's packets go on to the other side.

use std::net::SocketAddr;
use std::time::Duration;

use super::route::{Action, Known};
use crate::codec::Law;
use crate::source::SourcePolicy;
use crate::stream::Direction;

/// Which of the two parties of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first, as a rule the offerer.
    A,
    /// The second.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its place in arrays of two.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What becomes of the payload on its way to the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conversion {
    /// Nothing.
    #[default]
    Untouched,
    /// G.711 from one law to the other, sample by sample.
    Law {
        /// What comes in.
        from: Law,
        /// What goes out.
        to: Law,
    },
    /// A telephone-event (RFC 4733): untouched, and told if that is wanted.
    TelephoneEvent,
}

/// One payload type of a party and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayFormat {
    /// The payload type that the party sends.
    pub receive: u8,
    /// The payload type that the other party gets.
    pub send: u8,
    /// What becomes of the payload.
    pub conversion: Conversion,
}

/// What a party may send. Fixed size, so that a relay never allocates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayFormats {
    formats: [Option<RelayFormat>; Self::CAPACITY],
    /// Whether payload types that are not listed go on as they are.
    pub others: bool,
}

impl RelayFormats {
    /// How many formats one party may have.
    pub const CAPACITY: usize = 16;

    /// Adds a format; false if there is no room.
    pub fn push(&mut self, format: RelayFormat) -> bool {
        let Some(slot) = self.formats.iter_mut().find(|slot| slot.is_none()) else { return false };
        *slot = Some(format);
        true
    }

    /// All formats, most preferred first.
    pub fn iter(&self) -> impl Iterator<Item = RelayFormat> + '_ {
        self.formats.iter().flatten().copied()
    }

    /// What becomes of a payload type, if it may come at all.
    pub(super) fn find(&self, payload_type: u8) -> Option<Known> {
        let listed = self.iter().find(|format| format.receive == payload_type);
        listed.map(Known::from).or_else(|| self.others.then(|| Known::other(payload_type)))
    }

    /// The set of payload types that go on as they are, bit `n` for payload type `n`.
    pub(super) fn untouched(&self, events: bool) -> u128 {
        let unlisted = if self.others { u128::MAX } else { 0 };
        self.iter().map(Known::from).filter(|known| known.receive < 128).fold(unlisted, |set, known| {
            let is_untouched = known.is_untouched() && (events || known.action != Action::Event);
            let bit = 1 << known.receive;
            if is_untouched { set | bit } else { set & !bit }
        })
    }
}

/// What changes in the RTP header of a packet that goes on, so that a stream which was made otherwise before (decoded
/// and encoded, or of another source) continues as one (RFC 3550 section 5.1). RTCP is translated to match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// The SSRC that it gets; its own if `None`.
    pub ssrc: Option<u32>,
    /// Added to the sequence number, modulo 2^16.
    pub sequence_offset: u16,
    /// Added to the timestamp, modulo 2^32.
    pub timestamp_offset: u32,
}

/// What was negotiated with one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLeg {
    /// Where its RTP goes; `None` until it is known, and nothing is sent until then.
    pub remote_rtp: Option<SocketAddr>,
    /// Where its RTCP goes; `None` sends none.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share a port on this side (RFC 5761).
    pub rtcp_mux: bool,
    /// From our point of view: whether we send to this party, and receive from it.
    pub direction: Direction,
    /// What this party may send.
    pub receive: RelayFormats,
    /// Whose packets to believe on this side.
    pub source_policy: SourcePolicy,
    /// What changes in the header of what this party sends.
    pub rewriting: Rewriting,
}

/// Why a relay has to see every packet in user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayTaps {
    /// Telephone-events are told.
    pub telephone_events: bool,
    /// Keys that are tones in the audio are told.
    pub inband_dtmf: bool,
}

/// Everything about a relay; `Copy`, without heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayParameters {
    /// The parties, by [`Side::index`].
    pub legs: [RelayLeg; 2],
    /// What listens.
    pub taps: RelayTaps,
    /// Whether the kernel may forward what needs no look at its payload.
    pub in_kernel: bool,
    /// Ends the relay's silence with an event: no packet from either party for so long. Zero never does.
    pub media_timeout: Duration,
}
