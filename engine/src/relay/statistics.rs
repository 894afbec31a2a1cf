//! The figures of a relay.

use std::net::SocketAddr;

use crate::stream::Refusals;
use crate::time::Duration;

/// A relay's figures. Cumulative since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RelayStatistics {
    /// By [`super::Side::index`].
    pub sides: [RelaySideStatistics; 2],
}

/// What was received from a party, and sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RelaySideStatistics {
    /// RTP packets accepted from this party, by whomever they were relayed.
    pub received_packets: u64,
    /// Their UDP payload bytes, RTP header included.
    pub received_bytes: u64,
    /// RTP packets sent to this party. What the device had no room for is in its own counters.
    pub sent_packets: u64,
    /// Their UDP payload bytes.
    pub sent_bytes: u64,
    /// Packets that never came (RFC 3550 appendix A.3); duplicates make it smaller.
    pub lost_packets: i64,
    /// Packets that came twice; both were relayed. Not known of what the kernel forwards.
    pub duplicate_packets: u64,
    /// Packets that came after a later one. Not known of what the kernel forwards.
    pub reordered_packets: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter: Duration,
    /// Packets refused, by any reason.
    pub refused_packets: u64,
    /// Packets from strangers, those that the kernel dropped included.
    pub stranger_packets: u64,
    /// Why packets of this party were refused, or not sent on.
    pub refusals: Refusals,
    /// The locked source of this party's media.
    pub latched: Option<SocketAddr>,
    /// Whether the kernel forwards this party's packets at the moment.
    pub in_kernel: bool,
    /// How many of the received packets the kernel has forwarded.
    pub in_kernel_packets: u64,
    /// How long ago this party's last packet came, RTP or RTCP; `None` before the first.
    pub last_packet_age: Option<Duration>,
    /// RTCP packets accepted from this party.
    pub received_rtcp_packets: u64,
    /// RTCP packets sent to this party.
    pub sent_rtcp_packets: u64,
    /// The SSRC of this party, as it arrives.
    pub ssrc: Option<u32>,
    /// The highest sequence number, as it arrives.
    pub last_sequence: Option<u16>,
    /// The last timestamp seen in user space, as it arrives.
    pub last_timestamp: Option<u32>,
    /// Keys told, as telephone-events or as tones.
    pub digits: u64,
    /// Those of them that were tones.
    pub digits_inband: u64,
}
