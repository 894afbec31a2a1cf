//! Sending: headers in front of a payload in a frame, by the rings, by another worker's, or by the kernel.

use std::ops::Range;

use super::Core;
use super::handover::Record;
use super::rings::Packet;
use crate::udp::UdpDevice;
use crate::umem::CHUNK_BYTES;
use crate::wire::MAX_HEADER_BYTES;
use crate::{Device as _, Full, MAX_DATAGRAM_BYTES, Outgoing};

impl Core {
    pub(super) fn transmit(
        &mut self,
        inner: &mut UdpDevice,
        write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>,
    ) -> Result<bool, Full> {
        if !self.sends_frames() {
            return inner.transmit(write);
        }
        let Self { rings, ways, scratch, handover, sender, counters, tally, .. } = self;
        let Some(rings) = rings else {
            let Some(Outgoing { path, len }) = write(&mut scratch[HEADROOM..HEADROOM + MAX_DATAGRAM_BYTES])
            else {
                return Ok(false);
            };
            let len = len.min(MAX_DATAGRAM_BYTES);
            let payload = HEADROOM..HEADROOM + len;
            match ways.headers(path, len) {
                Some(headers) => {
                    let start = HEADROOM - headers.len();
                    let total = headers.write(&mut scratch[start..], payload.len()).unwrap_or(0);
                    if handover.send(*sender, Record::Frame, &scratch[start..start + total], counters) {
                        tally.transmitted += 1;
                        tally.transmitted_bytes += payload.len() as u64;
                    }
                }
                None => through_kernel(inner, &scratch[payload], path, counters),
            }
            return Ok(true);
        };
        let Some(mut frame) = rings.take() else {
            counters.transmit_full.increment();
            return Err(Full);
        };
        let chunk = rings.umem.bytes(&mut frame);
        let Some(Outgoing { path, len }) = write(&mut chunk[HEADROOM..HEADROOM + MAX_DATAGRAM_BYTES]) else {
            rings.give(frame);
            return Ok(false);
        };
        let len = len.min(MAX_DATAGRAM_BYTES);
        match ways.headers(path, len) {
            Some(headers) => {
                let start = HEADROOM - headers.len();
                let total = headers.write(&mut chunk[start..], len).unwrap_or(0);
                rings.queue(frame, start, total);
                tally.transmitted += 1;
                tally.transmitted_bytes += len as u64;
            }
            None => {
                through_kernel(inner, &chunk[HEADROOM..HEADROOM + len], path, counters);
                rings.give(frame);
            }
        }
        Ok(true)
    }

    /// Sends the payload of a received packet on from where it lies, with the differentiated services that it had.
    #[inline]
    pub(super) fn send_on(
        &mut self,
        inner: &mut UdpDevice,
        packet: Packet,
        payload: Range<usize>,
        (outgoing, traffic_class): (Outgoing, u8),
    ) {
        let Self { rings: Some(rings), ways, counters, tally, .. } = self else { return };
        let Packet { mut frame, .. } = packet;
        let len = outgoing.len.min(payload.len());
        let Some(headers) = ways.headers(outgoing.path, len) else {
            let chunk = rings.umem.bytes(&mut frame);
            through_kernel(inner, &chunk[payload.start..payload.start + len], outgoing.path, counters);
            rings.give(frame);
            return;
        };
        // The kernel leaves 256 bytes in front of a packet, more than any headers.
        if let Some(start) = payload.start.checked_sub(headers.len())
            && rings.may_queue()
            && let Some(total) =
                headers.write_as(&mut rings.umem.bytes(&mut frame)[start..], len, traffic_class)
        {
            rings.queue(frame, start, total);
            tally.transmitted += 1;
            tally.transmitted_bytes += len as u64;
        } else {
            counters.transmit_full.increment();
            rings.give(frame);
        }
    }

    /// Sends a payload that lies elsewhere; false, and nothing done, if it is the kernel's to send.
    pub(super) fn send_copy(&mut self, payload: &[u8], outgoing: Outgoing, traffic_class: u8) -> bool {
        if !self.sends_frames() {
            return false;
        }
        let Self { rings, ways, scratch, handover, sender, counters, tally, .. } = self;
        let len = outgoing.len.min(payload.len()).min(MAX_DATAGRAM_BYTES);
        let Some(headers) = ways.headers(outgoing.path, len) else { return false };
        let start = HEADROOM - headers.len();
        let write = |chunk: &mut [u8; CHUNK_BYTES]| {
            chunk[HEADROOM..HEADROOM + len].copy_from_slice(&payload[..len]);
            headers.write_as(&mut chunk[start..], len, traffic_class).unwrap_or(0)
        };
        if let Some(rings) = rings {
            let Some(mut frame) = rings.take() else {
                counters.transmit_full.increment();
                return true;
            };
            let total = write(rings.umem.bytes(&mut frame));
            rings.queue(frame, start, total);
        } else {
            let total = write(scratch);
            if !handover.send(*sender, Record::Frame, &scratch[start..start + total], counters) {
                return true;
            }
        }
        tally.transmitted += 1;
        tally.transmitted_bytes += len as u64;
        true
    }

    /// Sends a whole frame of a worker that has no rings.
    pub(super) fn send_frame(&mut self, bytes: &[u8]) {
        let frame = self.rings.as_mut().and_then(|rings| Some((rings.take()?, rings)));
        let Some((mut frame, rings)) = frame else {
            self.counters.transmit_full.increment();
            return;
        };
        let len = bytes.len().min(CHUNK_BYTES - HEADROOM);
        rings.umem.bytes(&mut frame)[HEADROOM..HEADROOM + len].copy_from_slice(&bytes[..len]);
        rings.queue(frame, HEADROOM, len);
    }

    pub(super) fn flush(&mut self) {
        self.handover.ring();
        self.tally.settle(&self.counters);
        if self.rings.as_mut().is_some_and(|rings| !rings.flush()) {
            self.fall_back();
        }
    }

    /// Whether there are rings to send by, this worker's or another's.
    fn sends_frames(&self) -> bool {
        self.rings.is_some() || (self.sender != self.worker && !self.ways.is_closed())
    }
}

/// Queues a payload on the kernel's socket of the port.
pub(super) fn through_kernel(
    inner: &mut UdpDevice,
    payload: &[u8],
    path: crate::Path,
    counters: &crate::DeviceCounters,
) {
    counters.transmit_no_route.increment();
    // If its queue is full that is counted there.
    let _ = inner.transmit(&mut |buffer| {
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some(Outgoing { path, len })
    });
}

/// Where the payload of what we write begins in its chunk: behind the longest headers, at a cache line.
pub(super) const HEADROOM: usize = 128;

const _: () = assert!(HEADROOM >= MAX_HEADER_BYTES);
