//! Is a received frame a datagram for us, and for which port? The XDP program has looked already; nothing here relies
//! on that.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use super::Shared;
use super::handover::{Handover, Record};
use super::ports::Owner;
use super::ports::Port;
use super::ways::Ways;
use crate::wire::{Reject, UdpFrame};
use crate::{DeviceCounters, PortIndex};

/// What becomes of a frame.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is a datagram for this port; its payload lies there in the frame.
    Ours { port: PortIndex, source: SocketAddr, payload: Range<usize>, traffic_class: u8 },
    /// It has been dropped and counted, or handed over.
    Done,
}

/// What an examination needs.
pub(super) struct Examination<'a> {
    pub(super) worker: usize,
    pub(super) shared: &'a Shared,
    pub(super) ways: &'a Ways,
    pub(super) handover: &'a mut Handover,
    pub(super) counters: &'a DeviceCounters,
}

impl Examination<'_> {
    #[inline]
    pub(super) fn examine(self, frame: &[u8]) -> Verdict {
        let Self { worker, shared, ways, handover, counters } = self;
        let parsed = match UdpFrame::parse(frame) {
            Ok(parsed) => parsed,
            Err(Reject::BadChecksum) => {
                counters.receive_checksum_errors.increment();
                return Verdict::Done;
            }
            Err(_) => {
                counters.receive_rejected.increment();
                return Verdict::Done;
            }
        };
        // A card that listens to everything, and a veth always, passes on what is for others.
        if parsed.destination_mac != shared.hops.mac() {
            counters.receive_other_mac.increment();
            return Verdict::Done;
        }
        let number = parsed.destination.port();
        let Some(Owner { worker: owner, port }) = shared.owners.owner(number) else {
            counters.receive_closed_port.increment();
            return Verdict::Done;
        };
        if owner != worker {
            let UdpFrame { source, source_mac, traffic_class, .. } = parsed;
            let record = Record::Datagram { port: number, remote: source, mac: source_mac, traffic_class };
            handover.send(owner, record, frame.get(parsed.payload).unwrap_or_default(), counters);
            return Verdict::Done;
        }
        let Some(known) = ways.port(port) else {
            counters.receive_closed_port.increment();
            return Verdict::Done;
        };
        let local = known.local.ip();
        if local != parsed.destination.ip() && !local.is_unspecified() {
            counters.receive_closed_port.increment();
            return Verdict::Done;
        }
        let remote = scoped(parsed.source, shared.hops.interface());
        if !hears(shared, known, remote, counters) {
            return Verdict::Done;
        }
        if known.wants_mac {
            ways.learn(port, remote, parsed.source_mac);
        }
        let UdpFrame { source, payload, traffic_class, .. } = parsed;
        Verdict::Ours { port, source, payload, traffic_class }
    }
}

/// Whether a port hears this sender; counted if not.
#[inline]
pub(super) fn hears(shared: &Shared, port: &Port, remote: SocketAddr, counters: &DeviceCounters) -> bool {
    match port.connected {
        Some(connected) if connected == remote => true,
        Some(_) => {
            counters.receive_strangers.increment();
            false
        }
        // The kernel takes no packet from outside that says it is from here. One that is believed would have us send to
        // ourselves, round and round.
        None if shared.program.ports().is_own(remote.ip()) => {
            counters.receive_rejected.increment();
            false
        }
        None => true,
    }
}

/// A link-local address means something on its interface only.
#[inline]
pub(super) fn scoped(remote: SocketAddr, interface: u32) -> SocketAddr {
    match remote {
        // Part by part: the address was written in parts just now, and reading it back as a whole waits for them
        // (a tenth of our time per packet).
        SocketAddr::V4(remote) => SocketAddrV4::new(*remote.ip(), remote.port()).into(),
        SocketAddr::V6(remote) => {
            let scope = if remote.ip().is_unicast_link_local() { interface } else { 0 };
            SocketAddrV6::new(*remote.ip(), remote.port(), 0, scope).into()
        }
    }
}
