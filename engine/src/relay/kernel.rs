//! What the kernel may forward by itself, and what it says about it. The worker carries both to and from the device.

use std::net::SocketAddr;

use super::Rewriting;
use crate::time::Instant;

/// One direction that needs no look at its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayFlow {
    /// Who sends it.
    pub source: SocketAddr,
    /// Who gets it.
    pub destination: SocketAddr,
    /// Bit `n` says that payload type `n` goes on untouched.
    pub payload_types: u128,
    /// What changes in the header.
    pub rewriting: Rewriting,
}

/// What has to be said to the device about one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// The kernel may forward it.
    Promote(RelayFlow),
    /// It may no longer.
    Demote,
}

/// What the kernel has forwarded of one direction since it was promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Packets.
    pub packets: u64,
    /// Their bytes, RTP header included.
    pub bytes: u64,
    /// Packets of others, dropped.
    pub strangers: u64,
    /// When the last one was forwarded.
    pub last_seen: Option<Instant>,
    /// The last packet's SSRC, as it arrived.
    pub ssrc: u32,
    /// The highest sequence number as it arrived, its cycles counted above 16 bits from the first packet's on.
    pub highest_sequence: u32,
    /// The first packet's sequence number.
    pub first_sequence: u16,
    /// Interarrival jitter in sixteenths of a timestamp unit.
    pub jitter_x16: u32,
}
