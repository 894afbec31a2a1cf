//! RTP and RTCP on the wire (RFC 3550): checked views, small valid values, sequence numbers, jitter, loss.

pub mod packet;
pub mod reception;
pub mod rtcp;
pub mod sequence;

pub use packet::{Header, Packet};
pub use reception::Reception;
pub use sequence::{Sequence, SequenceNumber, SequenceTracker};

/// Samples per second of the RTP clock of every codec so far (RFC 3551).
pub const CLOCK_RATE_HZ: u32 = 8000;

/// Nanoseconds per tick of the RTP clock.
pub const TICK_NANOS: u64 = 1_000_000_000 / CLOCK_RATE_HZ as u64;

/// Why bytes are not an RTP or RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Shorter than the fixed header.
    TooShort,
    /// Not version 2: STUN, DTLS or noise.
    Version,
    /// The CSRC list is longer than the packet.
    CsrcCount,
    /// The header extension is longer than the packet.
    ExtensionLength,
    /// The padding count is zero or larger than the payload.
    Padding,
    /// An RTCP packet type outside 192 to 223 (RFC 5761 section 4).
    RtcpType,
    /// The lengths of a compound RTCP packet do not add up (RFC 3550 appendix A.2).
    RtcpLength,
}

/// Whether a datagram on a port that RTP and RTCP share is RTCP (RFC 5761 section 4): payload types 64 to
/// 95 do not exist in RTP there.
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, second, ..] if first >> 6 == 2 && (192..=223).contains(second))
}
