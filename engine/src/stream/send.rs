//! The sending half of a stream: one sequence and one timestamp line from a random start.

use std::net::SocketAddr;

use crate::rtp::{Header, SequenceNumber};
use crate::source::{Permission, SilentPeerGuard};
use crate::time::Instant;

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
    pub(super) fn new(ssrc: u32, first_sequence: u16, first_timestamp: u32, guard: SilentPeerGuard) -> Self {
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
            guard,
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

    /// Something valid came from `remote`, which media goes to or is going to.
    pub(super) fn handle_heard(&mut self, remote: SocketAddr) {
        self.guard.handle_heard(remote.ip());
    }

    /// Signalling has named another address.
    pub(super) fn retarget(&mut self, signalled: Option<SocketAddr>) {
        self.guard.retarget(signalled.map(|signalled| signalled.ip()));
    }

    /// Whether anything may go to `remote` now.
    pub(super) fn may_send_to(&self, now: Instant, remote: SocketAddr) -> Permission {
        self.guard.may_send_to(now, remote)
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

/// Two frames are the most that one timeout makes.
const PENDING: usize = 4;
/// 60 ms of G.711.
pub(super) const MAX_PAYLOAD_BYTES: usize = 480;
