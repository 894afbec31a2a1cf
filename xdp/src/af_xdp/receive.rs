//! Receiving: from the rings, from other workers, from the kernel's sockets.

use super::Core;
use super::examine::{Examination, Verdict, hears, scoped};
use super::handover::Record;
use super::ports::Owner;
use super::transmit::through_kernel;
use super::ways::TRAFFIC_CLASS;
use crate::udp::UdpDevice;
use crate::umem::CHUNK_BYTES;
use crate::{Datagram, Device as _, Handle};

impl Core {
    /// From the rings, at most `budget`.
    pub(super) fn receive_rings(
        &mut self,
        inner: &mut UdpDevice,
        budget: usize,
        handle: &mut Handle<'_>,
    ) -> usize {
        let sockets = self.rings.as_ref().map_or(0, |rings| rings.sockets().len());
        let mut taken = 0;
        for _ in 0..sockets {
            let Some(rings) = &mut self.rings else { break };
            let socket = rings.next_socket();
            let waiting = rings.waiting(socket, budget - taken);
            for _ in 0..waiting {
                self.receive_one(inner, socket, handle);
            }
            taken += waiting;
            if let Some(rings) = &mut self.rings {
                if waiting > 0 || rings.is_starved(socket) {
                    rings.refill(socket);
                } else {
                    // A worker that never sleeps has no other time for it.
                    rings.wake_receiver(socket);
                }
            }
            // The next call begins with the next socket.
            if taken >= budget {
                break;
            }
        }
        taken
    }

    #[inline]
    fn receive_one(&mut self, inner: &mut UdpDevice, socket: usize, handle: &mut Handle<'_>) {
        let Some(rings) = &mut self.rings else { return };
        let Some(mut packet) = rings.pop(socket) else { return };
        let end = (packet.offset + packet.len).min(CHUNK_BYTES);
        let frame = &rings.umem.bytes(&mut packet.frame)[packet.offset.min(end)..end];
        // The fields apart: the frame is borrowed from `rings`.
        let verdict = Examination {
            worker: self.worker,
            shared: &self.shared,
            ways: &self.ways,
            handover: &mut self.handover,
            counters: &self.counters,
        }
        .examine(frame);
        let Verdict::Ours { port, source, payload, traffic_class } = verdict else {
            return rings.give(packet.frame);
        };
        self.tally.received += 1;
        self.tally.received_bytes += payload.len() as u64;
        let payload = packet.offset + payload.start..packet.offset + payload.end;
        let bytes = &mut rings.umem.bytes(&mut packet.frame)[payload.clone()];
        let remote = scoped(source, self.shared.hops.interface());
        match handle(Datagram { port, remote, payload: bytes }) {
            None => rings.give(packet.frame),
            Some(outgoing) => self.send_on(inner, packet, payload, (outgoing, traffic_class)),
        }
    }

    /// From other workers, at most `budget`.
    pub(super) fn receive_handed_over(
        &mut self,
        inner: &mut UdpDevice,
        budget: usize,
        handle: &mut Handle<'_>,
    ) -> usize {
        let mut taken = 0;
        let Some(mut letter) = self.letter.take() else { return 0 };
        while taken < budget
            && let Some((record, len)) = self.handover.take(&mut letter[..])
        {
            taken += 1;
            let bytes = &mut letter[..len];
            match record {
                Record::Frame => self.send_frame(bytes),
                datagram => self.handle_handed_over(inner, datagram, bytes, handle),
            }
        }
        self.letter = Some(letter);
        taken
    }

    fn handle_handed_over(
        &mut self,
        inner: &mut UdpDevice,
        record: Record,
        payload: &mut [u8],
        handle: &mut Handle<'_>,
    ) {
        let Record::Datagram { port: number, remote, mac, traffic_class } = record else { return };
        let owner = self.shared.owners.owner(number).filter(|owner| owner.worker == self.worker);
        let Some(Owner { port, .. }) = owner else {
            self.counters.receive_closed_port.increment();
            return;
        };
        let remote = scoped(remote, self.shared.hops.interface());
        let Some(known) = self.ways.port(port) else {
            self.counters.receive_closed_port.increment();
            return;
        };
        if !hears(&self.shared, known, remote, &self.counters) {
            return;
        }
        if known.wants_mac {
            self.ways.learn(port, remote, mac);
        }
        self.tally.received += 1;
        self.tally.received_bytes += payload.len() as u64;
        let Some(outgoing) = handle(Datagram { port, remote, payload: &mut *payload }) else { return };
        if !self.send_copy(payload, outgoing, traffic_class) {
            let len = outgoing.len.min(payload.len());
            through_kernel(inner, &payload[..len], outgoing.path, &self.counters);
        }
    }

    /// From the kernel's sockets, at most `budget`.
    pub(super) fn receive_inner(
        &mut self,
        inner: &mut UdpDevice,
        budget: usize,
        handle: &mut Handle<'_>,
    ) -> usize {
        let count = inner.receive(budget, &mut |datagram| {
            let Datagram { port, remote, payload } = datagram;
            let outgoing = handle(Datagram { port, remote, payload: &mut *payload })?;
            // The kernel does not say what the field was.
            (!self.send_copy(payload, outgoing, TRAFFIC_CLASS)).then_some(outgoing)
        });
        self.counters.receive_fallback.add(count as u64);
        count
    }

    /// Has the kernel poll the driver's queues, where that is wanted.
    pub(super) fn poll_drivers(&self) {
        if let Some(rings) = &self.rings {
            rings.poll_drivers();
        }
    }
}
