//! A flow that the kernel forwards by itself: RTP of one sender that goes on to one receiver
//! with nothing changed but addresses and, where wanted, numbers of the header.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Path;

/// What the kernel does with the RTP that arrives on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends it. Packets of anyone else are dropped and counted.
    pub source: SocketAddr,
    /// Where it goes on to.
    pub path: Path,
    /// Payload types that are forwarded; others, and RTCP (RFC 5761 section 4), come to user space.
    pub payload_types: PayloadTypes,
    /// What changes in the RTP header.
    pub rewriting: Rewriting,
}

/// A set of RTP payload types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadTypes(pub u128);

impl PayloadTypes {
    /// Adds a payload type, 0 to 127; greater ones are ignored.
    pub const fn insert(&mut self, payload_type: u8) {
        if payload_type < 128 {
            self.0 |= 1 << payload_type;
        }
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, payload_type: u8) -> bool {
        payload_type < 128 && self.0 >> payload_type & 1 == 1
    }
}

/// What changes in the RTP header (RFC 3550 section 5.1) of a forwarded packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// The SSRC that it gets; its own if `None`.
    pub ssrc: Option<u32>,
    /// Added to the sequence number, modulo 2^16.
    pub sequence_offset: u16,
    /// Added to the timestamp, modulo 2^32.
    pub timestamp_offset: u32,
}

/// What the kernel has done for one flow since [`crate::Device::promote`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Packets forwarded.
    pub packets: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Packets dropped because they came from somebody else.
    pub strangers: u64,
    /// When the last one was forwarded, on the monotonic clock (CLOCK_MONOTONIC); `None` before the first.
    pub last_seen: Option<Duration>,
    /// The last packet's SSRC, as it arrived.
    pub ssrc: u32,
    /// The highest sequence number as it arrived, with its cycles counted above 16 bits from the first packet's on
    /// (RFC 3550 appendix A.1).
    pub highest_sequence: u32,
    /// The first packet's sequence number; of the present SSRC, should it have changed.
    pub first_sequence: u16,
    /// Interarrival jitter in units of 1/16 sample at 8 kHz (RFC 3550 appendix A.8).
    pub jitter: u32,
}

/// Why the kernel does not forward a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpromoted {
    /// The device has no such thing.
    #[error("this device does not forward in the kernel")]
    Device,
    /// One of the two ports is not open.
    #[error("no such port")]
    Port,
    /// The next hop is not known yet, or not through the device's interface. It may be tried again.
    #[error("no way to the receiver through this interface is known yet")]
    Route,
    /// The program is gone, its table is full, or what it forwards does not leave.
    #[error("the program does not take it")]
    Program,
}
