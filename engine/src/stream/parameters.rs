//! What signalling has negotiated for a stream: the outcome of one offer/answer exchange (RFC 3264).

use std::net::SocketAddr;
use std::time::Duration;

use crate::codec::Codec;
use crate::source::SourcePolicy;

/// A media direction (RFC 8866 section 6.7), from our point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We send and receive.
    #[default]
    SendRecv,
    /// We only send; what arrives is counted and discarded.
    SendOnly,
    /// We only receive.
    RecvOnly,
    /// Neither; RTCP still flows.
    Inactive,
}

impl Direction {
    /// Whether we send media.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether we receive media.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// One payload type and the codec it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// What it carries.
    pub codec: Codec,
}

/// The payload types that we told the peer it may send. Fixed size, so that a stream never allocates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    formats: [Option<Format>; Self::CAPACITY],
}

impl Formats {
    /// How many formats one stream may have.
    pub const CAPACITY: usize = 8;

    /// Adds a format; returns false if there is no room.
    pub fn push(&mut self, format: Format) -> bool {
        let Some(slot) = self.formats.iter_mut().find(|slot| slot.is_none()) else { return false };
        *slot = Some(format);
        true
    }

    /// The codec of a payload type.
    #[must_use]
    pub fn codec(&self, payload_type: u8) -> Option<Codec> {
        self.iter().find(|format| format.payload_type == payload_type).map(|format| format.codec)
    }

    /// All formats, most preferred first.
    pub fn iter(&self) -> impl Iterator<Item = Format> + '_ {
        self.formats.iter().flatten().copied()
    }
}

/// telephone-event (RFC 4733) as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEventFormat {
    /// The payload type that we receive.
    pub receive: u8,
    /// The payload type that we send.
    pub send: u8,
}

/// The outcome of one offer/answer exchange for one audio stream; `Copy`, without heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamParameters {
    /// Where our RTP goes; `None` until the peer has said it (a late offer), and nothing is sent until then.
    pub remote_rtp: Option<SocketAddr>,
    /// Where our RTCP goes; `None` sends no RTCP (RFC 3605, or RTP port + 1; equal to `remote_rtp` with
    /// `rtcp_mux`).
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share a port (RFC 5761).
    pub rtcp_mux: bool,
    /// From our point of view.
    pub direction: Direction,
    /// What the peer may send to us.
    pub receive: Formats,
    /// What we send.
    pub send: Format,
    /// Audio per packet that we send, 10 to 60 ms.
    pub ptime: Duration,
    /// telephone-event, if both sides have it.
    pub telephone_event: Option<TelephoneEventFormat>,
    /// The payload type of comfort noise (RFC 3389), 13 if both sides have it.
    pub comfort_noise: Option<u8>,
    /// Whose packets to believe.
    pub source_policy: SourcePolicy,
    /// Ends the stream's silence with [`crate::event::Event::MediaTimeout`]: no packet for so long while we
    /// receive. Zero never does.
    pub media_timeout: Duration,
    /// The same while on hold (we do not receive).
    pub hold_timeout: Duration,
}
