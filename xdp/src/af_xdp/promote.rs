//! Flows that the kernel forwards by itself, and what keeps them right: when a next hop changes, the flow goes through
//! user space for a moment and on with the new one.

use std::sync::atomic::Ordering;

use super::ways::source;
use super::{Core, Shared};
use crate::next_hop::{NextHop, Way};
use crate::program::KernelFlow;
use crate::{Flow, FlowCounters, PortIndex, Unpromoted};

/// The promoted ports of a worker.
#[derive(Debug)]
pub(super) struct Promoted {
    flows: Vec<Option<PromotedFlow>>,
    /// Of the next hops when the flows were last looked at.
    generation: u64,
    /// What had been forwarded and dropped when it was last compared.
    watched: [u64; 2],
    /// How many times in a row all that was forwarded was dropped.
    in_vain: u8,
}

#[derive(Clone, Copy, Debug)]
struct PromotedFlow {
    flow: Flow,
    /// The next hop that the kernel sends to; `None` while user space forwards.
    hop: Option<NextHop>,
    /// What was counted before the kernel was told another next hop.
    before: Option<FlowCounters>,
}

impl Promoted {
    pub(super) fn new(ports: usize) -> Self {
        Self { flows: Vec::with_capacity(ports), generation: 0, watched: [0; 2], in_vain: 0 }
    }

    /// The port is closed.
    pub(super) fn forget(&mut self, index: PortIndex) {
        if let Some(flow) = self.flows.get_mut(index.0 as usize) {
            *flow = None;
        }
    }

    fn flow(&self, index: PortIndex) -> Option<&PromotedFlow> {
        self.flows.get(index.0 as usize)?.as_ref()
    }
}

impl Core {
    pub(super) fn promote(&mut self, index: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        if self.ways.is_closed() || self.shared.forwards_in_vain.load(Ordering::Relaxed) {
            return Err(Unpromoted::Program);
        }
        let number = self.promotable(index)?;
        let Way::Known(hop) = self.shared.hops.lookup(flow.path.remote.ip()).way else {
            return Err(Unpromoted::Route);
        };
        let kernel_flow = self.kernel_flow(flow, &hop)?;
        self.shared.program.ports().promote(number, &kernel_flow)?;
        let at = index.0 as usize;
        if at >= self.promoted.flows.len() {
            self.promoted.flows.resize(at + 1, None);
        }
        self.promoted.flows[at] = Some(PromotedFlow { flow: *flow, hop: Some(hop), before: None });
        Ok(())
    }

    pub(super) fn demote(&mut self, index: PortIndex) -> Option<FlowCounters> {
        let counters = self.flow_counters(index)?;
        let PromotedFlow { before, .. } = self.promoted.flows.get_mut(index.0 as usize)?.take()?;
        let port = self.ways.port(index)?;
        let ports = self.shared.program.ports();
        let last = ports.demote(port.local.port()).map_or(counters, |last| joined(before, last));
        // The flow had connected it to its source.
        ports.connect(port.local.port(), port.connected);
        Some(last)
    }

    pub(super) fn flow_counters(&self, index: PortIndex) -> Option<FlowCounters> {
        let promoted = self.promoted.flow(index)?;
        let number = self.ways.port(index)?.local.port();
        match self.shared.program.ports().counters(number) {
            Some(counters) => Some(joined(promoted.before, counters)),
            None => Some(promoted.before.unwrap_or_default()),
        }
    }

    /// Tells the kernel of next hops that have changed.
    #[cold]
    pub(super) fn refresh_promoted(&mut self) {
        let hops = &self.shared.hops;
        let generation = hops.generation();
        if generation == self.promoted.generation || self.shared.forwards_in_vain.load(Ordering::Relaxed) {
            return;
        }
        self.promoted.generation = generation;
        for at in 0..self.promoted.flows.len() {
            let Some(promoted) = self.promoted.flows[at] else { continue };
            let hop = match self.shared.hops.lookup(promoted.flow.path.remote.ip()).way {
                Way::Known(hop) => Some(hop),
                Way::Elsewhere => None,
                // What is asked for is most likely what it was.
                Way::Unknown => promoted.hop,
            };
            let index = PortIndex(at as u32);
            let Ok(number) = self.promotable(index) else { continue };
            if hop == promoted.hop {
                continue;
            }
            let ports = self.shared.program.ports();
            let before = match ports.demote(number) {
                Some(last) => Some(joined(promoted.before, last)),
                None => promoted.before,
            };
            let kernel_flow = hop.and_then(|hop| self.kernel_flow(&promoted.flow, &hop).ok());
            let taken = kernel_flow.is_some_and(|flow| ports.promote(number, &flow).is_ok());
            self.promoted.flows[at] = Some(PromotedFlow { hop: hop.filter(|_| taken), before, ..promoted });
        }
    }

    /// Takes back what the kernel forwards if nothing of that leaves: XDP_TX tells nobody. The first worker compares what
    /// was forwarded with what the interface dropped.
    #[cold]
    pub(super) fn watch_forwarding(&mut self) {
        let Shared { hops, program, forwards_in_vain, .. } = &*self.shared;
        if forwards_in_vain.load(Ordering::Relaxed) {
            return self.stop_forwarding();
        }
        if self.worker != 0 {
            return;
        }
        let now = [program.ports().forwarded(), hops.transmit_dropped()];
        let [forwarded, dropped] =
            [0, 1].map(|figure| now[figure].saturating_sub(self.promoted.watched[figure]));
        if forwarded == 0 || forwarded >= ENOUGH_FORWARDED {
            self.promoted.watched = now;
        }
        if forwarded < ENOUGH_FORWARDED {
            return;
        }
        // The figures are not of the same moment, and others may drop, too.
        let all_dropped = dropped >= forwarded - forwarded / 4;
        self.promoted.in_vain = if all_dropped { self.promoted.in_vain + 1 } else { 0 };
        if self.promoted.in_vain >= TIMES_IN_VAIN {
            forwards_in_vain.store(true, Ordering::Relaxed);
            self.counters.forwarding_ended.increment();
            self.stop_forwarding();
        }
    }

    fn stop_forwarding(&mut self) {
        for at in 0..self.promoted.flows.len() {
            let Some(promoted) = self.promoted.flows[at].filter(|promoted| promoted.hop.is_some()) else {
                continue;
            };
            let Ok(number) = self.promotable(PortIndex(at as u32)) else { continue };
            let last = self.shared.program.ports().demote(number);
            let before = last.map(|last| joined(promoted.before, last)).or(promoted.before);
            self.promoted.flows[at] = Some(PromotedFlow { hop: None, before, ..promoted });
        }
    }

    /// The number of a port whose packets come to the program.
    fn promotable(&self, index: PortIndex) -> Result<u16, Unpromoted> {
        let port = self.ways.port(index).ok_or(Unpromoted::Port)?;
        if port.entered { Ok(port.local.port()) } else { Err(Unpromoted::Program) }
    }

    fn kernel_flow(&self, flow: &Flow, hop: &NextHop) -> Result<KernelFlow, Unpromoted> {
        let from = self.ways.port(flow.path.port).ok_or(Unpromoted::Port)?;
        let local = source(from, hop).filter(|local| self.shared.hops.lead_from(local.ip()));
        let local = local.ok_or(Unpromoted::Route)?;
        Ok(KernelFlow {
            source: flow.source,
            local,
            remote: flow.path.remote,
            interface: hop.interface,
            source_mac: hop.hop.source_mac.0,
            next_hop_mac: hop.hop.destination_mac.0,
            vlan: hop.hop.vlan.map(|tag| tag & VLAN_ID),
            payload_types: flow.payload_types,
            rewriting: flow.rewriting,
        })
    }
}

/// Two stretches of one flow.
fn joined(before: Option<FlowCounters>, now: FlowCounters) -> FlowCounters {
    let Some(before) = before.filter(|before| before.packets > 0) else { return now };
    if now.packets == 0 {
        return FlowCounters { strangers: before.strangers + now.strangers, ..before };
    }
    let sums = FlowCounters {
        packets: before.packets + now.packets,
        bytes: before.bytes + now.bytes,
        strangers: before.strangers + now.strangers,
        ..now
    };
    if now.ssrc != before.ssrc {
        return sums;
    }
    // The first packet of the second stretch may have been overtaken: it is not a whole cycle further.
    let ahead = now.first_sequence.wrapping_sub(before.highest_sequence as u16).cast_signed();
    let span = now.highest_sequence.wrapping_sub(u32::from(now.first_sequence));
    let gain = i64::from(ahead) + i64::from(span);
    FlowCounters {
        first_sequence: before.first_sequence,
        highest_sequence: before.highest_sequence.wrapping_add(gain.max(0) as u32),
        ..sums
    }
}

/// Packets that are compared at least.
const ENOUGH_FORWARDED: u64 = 8;

/// Once may be chance.
const TIMES_IN_VAIN: u8 = 3;

/// The identifier in a tag (IEEE 802.1Q section 9.6).
const VLAN_ID: u16 = 0xfff;

#[cfg(test)]
mod tests {
    use super::*;

    fn before() -> FlowCounters {
        FlowCounters {
            packets: 10,
            bytes: 1720,
            strangers: 1,
            ssrc: 7,
            first_sequence: 65_530,
            highest_sequence: 65_535,
            ..FlowCounters::default()
        }
    }

    fn now(ssrc: u32, first_sequence: u16, highest_sequence: u32) -> FlowCounters {
        let (packets, bytes, strangers) = (4, 688, 2);
        FlowCounters {
            packets,
            bytes,
            strangers,
            ssrc,
            first_sequence,
            highest_sequence,
            ..FlowCounters::default()
        }
    }

    #[test]
    fn two_stretches_of_a_flow_are_one() {
        let now = now(7, 1, 4);
        let all = joined(Some(before()), now);
        assert_eq!((all.packets, all.bytes, all.strangers, all.ssrc), (14, 2408, 3, 7));
        assert_eq!((all.first_sequence, all.highest_sequence), (65_530, 0x1_0004));
        assert_eq!(joined(None, now), now);
        assert_eq!(joined(Some(before()), FlowCounters::default()).highest_sequence, 65_535);
    }

    #[test]
    fn a_late_packet_between_two_stretches_is_not_a_cycle() {
        let late = joined(Some(before()), now(7, 65_534, 0x1_0003));
        assert_eq!((late.first_sequence, late.highest_sequence), (65_530, 0x1_0003));
        let only_late = joined(Some(before()), now(7, 65_533, 65_534));
        assert_eq!((only_late.packets, only_late.highest_sequence), (14, 65_535));
    }

    #[test]
    fn the_numbers_of_another_source_are_its_own() {
        let all = joined(Some(before()), now(8, 100, 103));
        assert_eq!((all.packets, all.ssrc, all.first_sequence, all.highest_sequence), (14, 8, 100, 103));
    }
}
