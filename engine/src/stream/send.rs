//! The sending half of a stream: one sequence and one timestamp line from a random start.

use std::net::SocketAddr;

use super::source::is_forbidden;
use crate::rtp::{Header, SequenceNumber};
use crate::time::{Duration, Instant};

/// Numbers packets and keeps them until they are taken.
#[derive(Debug)]
pub(super) struct Sender {
    ssrc: u32,
    next_sequence: SequenceNumber,
    timestamp: u32,
    /// The next audio packet begins a talk spurt.
    marker: bool,
    packets: u64,
    bytes: u64,
    pending: [Pending; PENDING],
    first: usize,
    count: usize,
    guard: SilentPeerGuard,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    remote: SocketAddr,
    len: usize,
    bytes: [u8; Header::BYTES + MAX_PAYLOAD_BYTES],
}

impl Sender {
    pub(super) fn new(
        ssrc: u32,
        first_sequence: u16,
        first_timestamp: u32,
        silent_peer_limit: Duration,
    ) -> Self {
        let nowhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
        Self {
            ssrc,
            next_sequence: SequenceNumber(first_sequence),
            timestamp: first_timestamp,
            marker: true,
            packets: 0,
            bytes: 0,
            pending: [Pending { remote: nowhere, len: 0, bytes: [0; Header::BYTES + MAX_PAYLOAD_BYTES] };
                PENDING],
            first: 0,
            count: 0,
            guard: SilentPeerGuard { limit: silent_peer_limit, first_sent: None, heard: false },
        }
    }

    /// Queues a packet with the timestamp of the present frame. A full queue, which the owner has then not
    /// drained, drops it.
    pub(super) fn send_audio(&mut self, now: Instant, remote: SocketAddr, payload_type: u8, payload: &[u8]) {
        let marker = std::mem::take(&mut self.marker);
        self.send(now, remote, marker, payload_type, self.timestamp, payload);
    }

    /// Queues a packet with its own timestamp.
    pub(super) fn send(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
    ) {
        self.guard.handle_sent(now);
        let header =
            Header { marker, payload_type, sequence_number: self.next_sequence, timestamp, ssrc: self.ssrc };
        self.next_sequence = self.next_sequence.next();
        if self.count == PENDING {
            return;
        }
        let pending = &mut self.pending[(self.first + self.count) % PENDING];
        let Some(rest) = header.write(&mut pending.bytes) else { return };
        let len = payload.len().min(rest.len());
        rest[..len].copy_from_slice(&payload[..len]);
        (pending.remote, pending.len) = (remote, Header::BYTES + len);
        self.count += 1;
        self.packets += 1;
        self.bytes += len as u64;
    }

    /// Nothing is sent in this frame, so the next audio begins a talk spurt.
    pub(super) fn pause(&mut self) {
        self.marker = true;
    }

    /// The frame is over.
    pub(super) fn advance(&mut self, samples: u32) {
        self.timestamp = self.timestamp.wrapping_add(samples);
    }

    /// Copies the oldest queued packet out; one that does not fit is dropped.
    pub(super) fn poll(&mut self, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        while self.count > 0 {
            let pending = &self.pending[self.first];
            self.first = (self.first + 1) % PENDING;
            self.count -= 1;
            if let Some(target) = buffer.get_mut(..pending.len) {
                target.copy_from_slice(&pending.bytes[..pending.len]);
                return Some((pending.remote, pending.len));
            }
        }
        None
    }

    /// Something valid came from the peer.
    pub(super) fn handle_heard(&mut self) {
        self.guard.heard = true;
    }

    /// Signalling has named another address.
    pub(super) fn retarget(&mut self) {
        self.guard.first_sent = None;
        self.guard.heard = false;
    }

    /// Whether anything may go to `remote` now.
    pub(super) fn may_send_to(&self, now: Instant, remote: SocketAddr) -> Permission {
        if is_forbidden(remote) {
            Permission::Forbidden
        } else if self.guard.is_open(now) {
            Permission::Granted
        } else {
            Permission::Silent
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The timestamp of the present frame.
    pub(super) fn timestamp(&self) -> u32 {
        self.timestamp
    }

    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Whether media may go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Granted,
    /// It never answered.
    Silent,
    /// It must never get any.
    Forbidden,
}

/// Against reflection: an address from which nothing ever came gets media for a limited time only.
#[derive(Clone, Copy, Debug)]
struct SilentPeerGuard {
    limit: Duration,
    first_sent: Option<Instant>,
    heard: bool,
}

impl SilentPeerGuard {
    fn handle_sent(&mut self, now: Instant) {
        self.first_sent.get_or_insert(now);
    }

    fn is_open(&self, now: Instant) -> bool {
        self.heard || self.first_sent.is_none_or(|first| now.saturating_duration_since(first) < self.limit)
    }
}

/// Two frames are the most that one timeout makes.
const PENDING: usize = 4;
/// 60 ms of G.711.
pub(super) const MAX_PAYLOAD_BYTES: usize = 480;
