//! The relays of one worker, beside its streams: slots of their own, the same device, wheel and outbox.

use std::io;
use std::net::SocketAddr;

use xdp::{Datagram, Device, Flow, FlowCounters, Outgoing, Path, PayloadTypes, PortIndex, Unpromoted};

use super::demux::Owner;
use super::outbox::Outbox;
use super::streams::{Streams, guard, rtcp_address};
use crate::ai::tap::{TapId, TapPort};
use crate::command::RelayId;
use crate::event::{Event, RelayMemory};
use crate::relay::{
    Direction, FlowChange, KernelCounters, Relay, RelayFlow, RelayStatistics, RelayUpdate, Side,
};
use crate::stream::Component;
use crate::time::{Duration, Instant};
use crate::worker::WorkerCounters;

/// The relays of a worker.
pub(super) struct Relays {
    slots: Box<[Option<Active>]>,
    /// Slots that have to be settled; each at most once.
    touched: Vec<u32>,
    /// Whether the device forwards in the kernel, as far as is known.
    promotes: bool,
}

/// A relay on its ports. The usual packet reads this and nothing else.
struct Active {
    /// Of the relay, whose own are only good inside of [`Active::with_relay`].
    directions: [Direction; 2],
    relay: Box<Relay>,
    /// By side and component.
    ports: [[Option<PortIndex>; 2]; 2],
    generation: u32,
    worker: u16,
    touched: bool,
    panicked: bool,
}

/// What a relay's place in the wheel is: behind those of the streams.
fn wheel_entry(streams: usize, slot: u32) -> u32 {
    streams as u32 + slot
}

impl Active {
    fn id(&self, slot: u32) -> RelayId {
        RelayId { worker: self.worker, slot, generation: self.generation }
    }

    /// Asks something of the relay.
    fn with_relay<T>(&mut self, work: impl FnOnce(&mut Relay) -> T) -> T {
        self.relay.set_directions(self.directions);
        let result = work(&mut self.relay);
        self.directions = self.relay.directions();
        result
    }

    fn rtp(&self, side: Side) -> Option<PortIndex> {
        self.ports[side.index()][Component::Rtp as usize]
    }

    /// What the kernel has forwarded so far.
    fn kernel(&self, device: &dyn Device) -> [Option<KernelCounters>; 2] {
        Side::BOTH.map(|side| {
            let port = self.rtp(side).filter(|_| self.relay.is_promoted(side))?;
            device.flow_counters(port).map(|counters| kernel_counters(&counters))
        })
    }

    /// Takes both directions back from the kernel, before anything changes.
    fn demote(&mut self, device: &mut dyn Device, counters: &WorkerCounters) {
        for side in Side::BOTH {
            if self.relay.is_promoted(side) {
                self.demote_side(side, device, counters);
            }
        }
    }

    fn demote_side(&mut self, side: Side, device: &mut dyn Device, counters: &WorkerCounters) {
        counters.flows_demoted.increment();
        let last = self.rtp(side).and_then(|port| device.demote(port));
        let last = last.map(|counters| kernel_counters(&counters));
        self.with_relay(|relay| relay.handle_demoted(side, last));
    }
}

impl Relays {
    /// Room for `count` relays; `promotes` says whether the kernel may forward for them.
    pub(super) fn new(count: usize, promotes: bool) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(count).collect(),
            touched: Vec::with_capacity(count),
            promotes,
        }
    }

    /// Hands a datagram to its relay; what it makes of it goes on in the frame that arrived.
    #[inline]
    pub(super) fn handle(
        &mut self,
        now: Instant,
        (slot, side, component): (u32, Side, Component),
        datagram: Datagram<'_>,
    ) -> Option<Outgoing> {
        let active = self.slots[slot as usize].as_mut().filter(|active| !active.panicked)?;
        let Datagram { remote, payload, .. } = datagram;
        let relayed = guard(|| {
            let usual = active.directions[side.index()].handle_usual(now, side, component, remote, payload);
            if usual.is_some() {
                return (usual, false);
            }
            active.with_relay(|relay| {
                (relay.handle_packet(now, side, component, remote, payload), relay.take_news(side))
            })
        });
        active.panicked = relayed.is_none();
        let (transmit, has_news) = relayed.unwrap_or((None, true));
        if has_news && !active.touched {
            active.touched = true;
            self.touched.push(slot);
        }
        let transmit = transmit?;
        let port = active.ports[transmit.side.index()][transmit.component as usize]?;
        Some(Outgoing { path: Path { port, remote: transmit.remote }, len: transmit.len })
    }

    fn active(&mut self, id: RelayId) -> Option<&mut Active> {
        let active = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (active.id(id.slot) == id).then_some(active)
    }
}

impl Streams {
    pub(super) fn add_relay(
        &mut self,
        now: Instant,
        id: RelayId,
        locals: [SocketAddr; 2],
        relay: Box<Relay>,
    ) {
        let ports = match self.open_relay(id.slot, locals, &relay) {
            Ok(ports) => ports,
            Err((side, error)) => {
                self.counters.relays_failed.increment();
                self.outbox.answer(Event::RelayFailed { id, side, error: error.kind(), relay });
                return;
            }
        };
        let RelayId { worker, slot, generation } = id;
        let directions = relay.directions();
        let mut active =
            Active { directions, relay, ports, generation, worker, touched: false, panicked: false };
        active.panicked = guard(|| active.with_relay(|relay| relay.start(now))).is_none();
        self.relays.slots[slot as usize] = Some(active);
        self.counters.relays_added.increment();
        self.outbox.answer(Event::RelayAdded { id });
        self.settle_relay(slot);
    }

    pub(super) fn update_relay(&mut self, now: Instant, id: RelayId, mut update: Box<RelayUpdate>) {
        let Self { device, relays, counters, .. } = self;
        let Some(active) = relays.active(id) else {
            counters.commands_unknown_stream.increment();
            return self.outbox.answer(Event::RelayUnknown { id, memory: RelayMemory::Update(update) });
        };
        active.panicked |= guard(|| {
            active.demote(device.as_mut(), counters);
            active.with_relay(|relay| relay.update(now, &mut update));
        })
        .is_none();
        self.open_missing_relay_rtcp(id);
        self.outbox.answer(Event::RelayUpdated { id, update });
        self.settle_relay(id.slot);
    }

    pub(super) fn query_relay(&mut self, now: Instant, id: RelayId, mut report: Box<RelayStatistics>) {
        let Self { device, relays, .. } = self;
        let Some(active) = relays.active(id) else {
            self.counters.commands_unknown_stream.increment();
            return self.outbox.answer(Event::RelayUnknown { id, memory: RelayMemory::Report(report) });
        };
        let kernel = active.kernel(device.as_ref());
        *report = active.with_relay(|relay| relay.statistics(now, kernel));
        self.outbox.answer(Event::RelayReport { id, report });
    }

    /// Adds a listener, or gives it back.
    pub(super) fn add_relay_tap(
        &mut self,
        now: Instant,
        id: RelayId,
        tap: Box<TapPort>,
    ) -> Option<Box<TapPort>> {
        let Some(active) = self.relays.active(id) else {
            self.counters.commands_unknown_stream.increment();
            return Some(tap);
        };
        let mut tap = Some(tap);
        let added = guard(|| {
            active.with_relay(|relay| tap = tap.take().and_then(|tap| relay.add_tap(now, tap)));
        });
        active.panicked |= added.is_none();
        // What the kernel forwards nobody hears: it is taken back.
        self.settle_relay(id.slot);
        tap
    }

    /// Takes a listener out.
    pub(super) fn remove_relay_tap(&mut self, now: Instant, id: RelayId, tap: TapId) -> Option<Box<TapPort>> {
        let Some(active) = self.relays.active(id) else {
            self.counters.commands_unknown_stream.increment();
            return None;
        };
        let removed = guard(|| active.with_relay(|relay| relay.remove_tap(now, tap)));
        active.panicked |= removed.is_none();
        self.settle_relay(id.slot);
        removed.flatten()
    }

    pub(super) fn remove_relay(&mut self, now: Instant, id: RelayId) {
        let Self { device, relays, counters, .. } = self;
        let Some(active) = relays.active(id) else {
            return counters.commands_unknown_stream.increment();
        };
        let closed = guard(|| {
            active.relay.close(now);
            active.demote(device.as_mut(), counters);
        });
        active.panicked |= closed.is_none();
        // What happened before is told before.
        self.settle_relay(id.slot);
        let Some(mut active) = self.relays.slots[id.slot as usize].take() else { return };
        self.release_relay(id.slot, &active);
        active.relay.set_directions(active.directions);
        self.counters.relays_removed.increment();
        self.outbox.answer(Event::RelayRemoved { id, relay: active.relay });
    }

    pub(super) fn remove_all_relays(&mut self, now: Instant) {
        for slot in 0..self.relays.slots.len() as u32 {
            if let Some(active) = &self.relays.slots[slot as usize] {
                let id = active.id(slot);
                self.remove_relay(now, id);
            }
        }
    }

    /// A relay's deadline has come.
    pub(super) fn handle_relay_deadline(&mut self, now: Instant, slot: u32) {
        let Self { device, relays, .. } = self;
        let Some(active) = relays.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let kernel = active.kernel(device.as_ref());
        active.panicked |= guard(|| active.with_relay(|relay| relay.handle_timeout(now, kernel))).is_none();
        self.settle_relay(slot);
    }

    /// Settles every relay in which something happened.
    pub(super) fn settle_touched_relays(&mut self) {
        while let Some(slot) = self.relays.touched.pop() {
            if let Some(active) = &mut self.relays.slots[slot as usize] {
                active.touched = false;
            }
            self.settle_relay(slot);
        }
    }

    /// Takes a relay's news, or ends it if its code panicked.
    fn settle_relay(&mut self, slot: u32) {
        let entry = wheel_entry(self.slots.len(), slot);
        let Self { device, relays, outbox, counters, wheel, .. } = self;
        let Some(active) = &mut relays.slots[slot as usize] else { return };
        let id = active.id(slot);
        let settled = !active.panicked
            && guard(|| {
                tell_events(id, &mut active.relay, outbox, counters);
                for side in Side::BOTH {
                    if let (Some(port), Some(remote)) = (active.rtp(side), active.relay.poll_connect(side)) {
                        device.connect(port, remote);
                    }
                }
                for side in Side::BOTH {
                    match active.relay.poll_flow(side) {
                        Some(FlowChange::Demote) => active.demote_side(side, device.as_mut(), counters),
                        Some(FlowChange::Promote(flow)) if relays.promotes => {
                            relays.promotes = promote(active, side, flow, device.as_mut(), counters);
                        }
                        Some(FlowChange::Promote(_)) | None => {}
                    }
                }
                wheel.schedule(entry, active.with_relay(|relay| relay.poll_timeout()));
            })
            .is_some();
        if !settled {
            self.bury_relay(slot);
        }
    }

    /// Ends a relay whose code panicked; its state is not to be trusted.
    fn bury_relay(&mut self, slot: u32) {
        let Some(active) = self.relays.slots[slot as usize].take() else { return };
        for port in Side::BOTH.into_iter().filter_map(|side| active.rtp(side)) {
            self.device.demote(port);
        }
        self.release_relay(slot, &active);
        let id = active.id(slot);
        // As for a stream: the one place where a worker frees memory.
        let _ = guard(|| drop(active));
        self.counters.relays_panicked.increment();
        self.outbox.answer(Event::RelayPanicked { id });
    }

    fn release_relay(&mut self, slot: u32, active: &Active) {
        self.wheel.schedule(wheel_entry(self.slots.len(), slot), None);
        for port in active.ports.into_iter().flatten().flatten() {
            self.close_port(port);
        }
    }

    /// Opens a relay's ports, all or none.
    fn open_relay(
        &mut self,
        slot: u32,
        locals: [SocketAddr; 2],
        relay: &Relay,
    ) -> Result<[[Option<PortIndex>; 2]; 2], (Side, io::Error)> {
        if !matches!(self.relays.slots.get(slot as usize), Some(None)) {
            return Err((Side::A, io::ErrorKind::AlreadyExists.into()));
        }
        let mut ports = [[None; 2]; 2];
        for side in Side::BOTH {
            let local = locals[side.index()];
            let rtcp = (!relay.rtcp_mux(side)).then(|| (Component::Rtcp, rtcp_address(local)));
            for (component, local) in std::iter::once((Component::Rtp, local)).chain(rtcp) {
                match self.open_port(local, Owner::Relay(slot, side, component)) {
                    Ok(port) => ports[side.index()][component as usize] = Some(port),
                    Err(error) => {
                        ports.into_iter().flatten().flatten().for_each(|port| self.close_port(port));
                        return Err((side, error));
                    }
                }
            }
        }
        Ok(ports)
    }

    /// An offer may end multiplexing; the port for RTCP was left free for that.
    fn open_missing_relay_rtcp(&mut self, id: RelayId) {
        for side in Side::BOTH {
            let Some(active) = self.relays.active(id) else { return };
            let [rtp, rtcp] = active.ports[side.index()];
            if rtcp.is_some() || active.relay.rtcp_mux(side) {
                continue;
            }
            let Some(local) = rtp.and_then(|port| self.device.local_address(port)) else { continue };
            let owner = Owner::Relay(id.slot, side, Component::Rtcp);
            let port = self.open_port(rtcp_address(local), owner);
            if port.is_err() {
                self.counters.rtcp_port_failed.increment();
            }
            if let Some(active) = self.relays.active(id) {
                active.ports[side.index()][Component::Rtcp as usize] = port.ok();
            }
        }
    }
}

/// Has the kernel forward one direction; false if the device has no such thing.
fn promote(
    active: &mut Active,
    side: Side,
    relay_flow: RelayFlow,
    device: &mut dyn Device,
    counters: &WorkerCounters,
) -> bool {
    let (Some(port), Some(out)) = (active.rtp(side), active.rtp(side.other())) else { return true };
    let crate::relay::Rewriting { ssrc, sequence_offset, timestamp_offset } = relay_flow.rewriting;
    let flow = Flow {
        source: relay_flow.source,
        path: Path { port: out, remote: relay_flow.destination },
        payload_types: PayloadTypes(relay_flow.payload_types),
        rewriting: xdp::Rewriting { ssrc, sequence_offset, timestamp_offset },
    };
    match device.promote(port, &flow) {
        Ok(()) => {
            counters.flows_promoted.increment();
            active.with_relay(|relay| relay.handle_promoted(side, relay_flow));
        }
        Err(Unpromoted::Device) => return false,
        Err(Unpromoted::Route) => active.relay.handle_unpromoted(side, NEXT_TRY),
        Err(Unpromoted::Port | Unpromoted::Program) => {
            counters.flows_refused.increment();
            active.relay.handle_unpromoted(side, NEXT_TRY_MUCH_LATER);
        }
    }
    true
}

fn kernel_counters(counters: &FlowCounters) -> KernelCounters {
    let &FlowCounters {
        packets,
        bytes,
        strangers,
        last_seen,
        ssrc,
        highest_sequence,
        first_sequence,
        jitter,
    } = counters;
    // The engine's clock is CLOCK_MONOTONIC, too.
    let last_seen = last_seen.map(|at| Instant::from_nanos(at.as_nanos() as u64));
    KernelCounters {
        packets,
        bytes,
        strangers,
        last_seen,
        ssrc,
        highest_sequence,
        first_sequence,
        jitter_x16: jitter,
    }
}

/// What does not fit the ring stays in the relay until something else happens there.
fn tell_events(id: RelayId, relay: &mut Relay, outbox: &mut Outbox, counters: &WorkerCounters) {
    while outbox.has_room()
        && let Some(event) = relay.poll_event()
    {
        outbox.tell(Event::Relay { id, event }, counters);
    }
}

/// A neighbour answers within milliseconds; a route may come back at any time.
const NEXT_TRY: Duration = Duration::from_secs(1);
const NEXT_TRY_MUCH_LATER: Duration = Duration::from_secs(10);
