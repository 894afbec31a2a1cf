//! The streams of one worker, and what drives them and its relays: ports, deadlines and commands.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rtrb::Producer;
use xdp::{Device, Doorbell, MAX_DATAGRAM_BYTES, Outgoing, Path, PortIndex};

use super::clock;
use super::counters::WorkerCounters;
use super::demux::{Demux, Owner};
use super::outbox::Outbox;
use super::relays::Relays;
use super::wheel::Wheel;
use crate::command::{Command, StreamId, Tapped};
use crate::event::Event;
use crate::stream::{Component, Stream, StreamEvent};
use crate::time::{Duration, Instant};

/// What [`Streams`] is made of.
pub(super) struct Parts {
    pub(super) device: Box<dyn Device>,
    pub(super) events: Producer<Event>,
    pub(super) event_doorbell: Doorbell,
    pub(super) ai_doorbells: Arc<[Doorbell]>,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) streams: usize,
    pub(super) relays: usize,
    pub(super) kernel_relay: bool,
    pub(super) now: Instant,
}

/// See the module's documentation.
pub(super) struct Streams {
    pub(super) device: Box<dyn Device>,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) slots: Box<[Option<Active>]>,
    pub(super) relays: Relays,
    demux: Demux,
    /// The deadlines of the streams' slots, and behind them of the relays'.
    pub(super) wheel: Wheel,
    pub(super) outbox: Outbox,
    /// Slots whose output has not been taken yet; each at most once.
    touched: Vec<u32>,
    ai_doorbells: Arc<[Doorbell]>,
    /// Which AI threads have something to read, by doorbell.
    ai_news: Box<[bool]>,
    /// Where packets go that the device does not take.
    discard: Box<[u8; MAX_DATAGRAM_BYTES]>,
}

/// A stream on its ports.
pub(super) struct Active {
    id: StreamId,
    stream: Box<Stream>,
    local: SocketAddr,
    rtp: PortIndex,
    rtcp: Option<PortIndex>,
    /// What the device has been told about the RTP port.
    connected: Option<SocketAddr>,
    touched: bool,
    panicked: bool,
}

impl Streams {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            device,
            events,
            event_doorbell,
            ai_doorbells,
            counters,
            streams,
            relays,
            kernel_relay,
            now,
        } = parts;
        Self {
            device,
            counters,
            slots: std::iter::repeat_with(|| None).take(streams).collect(),
            relays: Relays::new(relays, kernel_relay),
            demux: Demux::new(2 * streams + 4 * relays),
            wheel: Wheel::new(streams + relays, now),
            outbox: Outbox::new(events, event_doorbell, streams + relays),
            touched: Vec::with_capacity(2 * streams),
            ai_news: vec![false; ai_doorbells.len()].into(),
            ai_doorbells,
            discard: Box::new([0; MAX_DATAGRAM_BYTES]),
        }
    }

    /// Does one command; false if it was the last.
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) -> bool {
        match command {
            Command::AddStream { id, local, stream } => self.add(now, id, local, stream),
            Command::UpdateStream { id, parameters } => {
                self.with_stream(id, |stream| stream.update(now, parameters));
                self.open_missing_rtcp(id);
            }
            Command::Attach { id, app } => {
                // The memory of an app goes back whatever happens to it here.
                let mut app = Some(app);
                let former =
                    self.with_stream(id, |stream| stream.attach(now, app.take().unwrap_or_default()));
                if let Some(app) = former.or(app) {
                    self.outbox.answer(Event::AppDetached { id, app });
                }
            }
            Command::SendDtmf { id, digit, duration } => {
                if self.with_stream(id, |stream| stream.send_dtmf(digit, duration)) == Some(false) {
                    self.counters.digits_unsent.increment();
                }
            }
            Command::RelayDtmf { id, digit, duration } => {
                self.with_stream(id, |stream| stream.relay_dtmf(digit, duration));
            }
            Command::QueryStream { id } => {
                if let Some(statistics) = self.with_stream(id, |stream| stream.statistics()) {
                    self.outbox.answer(Event::StreamReport { id, statistics });
                }
            }
            Command::RemoveStream { id } => {
                if self.with_stream(id, |stream| stream.close(now)).is_some() {
                    self.remove(id.slot);
                }
            }
            Command::AddRelay { id, locals, relay } => self.add_relay(now, id, locals, relay),
            Command::UpdateRelay { id, update } => self.update_relay(now, id, update),
            Command::QueryRelay { id, report } => self.query_relay(now, id, report),
            Command::RemoveRelay { id } => self.remove_relay(now, id),
            Command::AddTap { call, tap } => {
                // Its memory goes back whatever happens to it here.
                let mut tap = Some(tap);
                match call {
                    Tapped::Stream(id) => {
                        self.with_stream(id, |stream| tap = tap.take().and_then(|tap| stream.add_tap(tap)));
                    }
                    Tapped::Relay(id) => tap = tap.and_then(|tap| self.add_relay_tap(now, id, tap)),
                }
                if let Some(tap) = tap {
                    self.outbox.answer(Event::TapDetached { call, tap });
                }
            }
            Command::RemoveTap { call, tap } => {
                let tap = match call {
                    Tapped::Stream(id) => self.with_stream(id, |stream| stream.remove_tap(tap)).flatten(),
                    Tapped::Relay(id) => self.remove_relay_tap(now, id, tap),
                };
                if let Some(tap) = tap {
                    self.outbox.answer(Event::TapDetached { call, tap });
                }
            }
            Command::Shutdown => return false,
        }
        true
    }

    /// Hands at most `budget` datagrams to their streams and relays.
    pub(super) fn receive(&mut self, now: Instant, budget: usize) -> usize {
        let Self { device, slots, relays, demux, outbox, counters, touched, .. } = self;
        let (mut to_streams, mut to_relays) = (0, 0);
        let mut handle = |datagram: xdp::Datagram<'_>| {
            let (slot, component) = match demux.owner(datagram.port) {
                Some(Owner::Relay(slot, side, component)) => {
                    to_relays += 1;
                    return relays.handle(now, (slot, side, component), datagram);
                }
                Some(Owner::Stream(slot, component)) => (slot, component),
                None => {
                    counters.packets_unknown_port.increment();
                    return None;
                }
            };
            let active = slots[slot as usize].as_mut()?;
            if active.panicked {
                return None;
            }
            to_streams += 1;
            active.panicked = guard(|| {
                active.stream.handle_packet(now, component, datagram.remote, datagram.payload);
                // Its packets have to wait until the device is free again.
                tell_events(active.id, &mut active.stream, outbox, counters);
            })
            .is_none();
            if !active.touched {
                active.touched = true;
                touched.push(slot);
            }
            None
        };
        let received = device.receive(budget, &mut handle);
        counters.packets.add(to_streams);
        counters.packets_relays.add(to_relays);
        received
    }

    /// Meets at most `limit` deadlines.
    pub(super) fn handle_deadlines(&mut self, now: Instant, limit: usize) -> usize {
        for met in 0..limit {
            let Some((slot, deadline)) = self.wheel.pop_expired(now) else { return met };
            if let Some(relay) = slot.checked_sub(self.slots.len() as u32) {
                self.handle_relay_deadline(now, relay);
                continue;
            }
            self.counters.deadline(now - deadline);
            let Some(active) = &mut self.slots[slot as usize] else { continue };
            active.panicked |= guard(|| active.stream.handle_timeout(now)).is_none();
            self.settle(slot);
        }
        limit
    }

    /// Takes the output of every stream that had datagrams, and of every relay that has news.
    pub(super) fn settle_touched(&mut self) {
        self.settle_touched_relays();
        let touched = self.touched.len();
        for index in 0..touched {
            let slot = self.touched[index];
            if let Some(active) = &mut self.slots[slot as usize] {
                active.touched = false;
                // A stream that has more to send than a turn may take is touched again, for the next turn.
                self.settle(slot);
            }
        }
        self.touched.drain(..touched);
    }

    /// Sends what is queued and wakes those who have news; returns how many answers still wait.
    pub(super) fn flush(&mut self) -> usize {
        self.device.flush();
        for (news, doorbell) in self.ai_news.iter_mut().zip(self.ai_doorbells.iter()) {
            if std::mem::take(news) {
                doorbell.ring();
            }
        }
        self.outbox.flush();
        self.outbox.kept()
    }

    /// Ends all streams and relays.
    pub(super) fn remove_all(&mut self, now: Instant) {
        self.remove_all_relays(now);
        for slot in 0..self.slots.len() as u32 {
            let Some(active) = &self.slots[slot as usize] else { continue };
            let id = active.id;
            if self.with_stream(id, |stream| stream.close(now)).is_some() {
                self.remove(slot);
            }
        }
    }

    pub(super) fn kept_answers(&self) -> usize {
        self.outbox.kept()
    }

    /// Whether a deadline is overdue by more than a turn takes.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.wheel.next_deadline().is_some_and(|deadline| now - deadline > LATE)
    }

    pub(super) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    fn add(&mut self, now: Instant, id: StreamId, local: SocketAddr, stream: Box<Stream>) {
        let (rtp, rtcp) = match self.open(id.slot, local, stream.rtcp_mux()) {
            Ok(ports) => ports,
            Err(error) => {
                self.counters.streams_failed.increment();
                self.outbox.answer(Event::StreamFailed { id, error: error.kind(), stream });
                return;
            }
        };
        let active =
            Active { id, stream, local, rtp, rtcp, connected: None, touched: false, panicked: false };
        self.slots[id.slot as usize] = Some(active);
        self.counters.streams_added.increment();
        self.outbox.answer(Event::StreamAdded { id });
        self.with_stream(id, |stream| stream.start(now, clock::wall(now)));
    }

    /// Opens a stream's ports, both or none.
    fn open(
        &mut self,
        slot: u32,
        local: SocketAddr,
        rtcp_mux: bool,
    ) -> io::Result<(PortIndex, Option<PortIndex>)> {
        if !matches!(self.slots.get(slot as usize), Some(None)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let rtp = self.open_port(local, Owner::Stream(slot, Component::Rtp))?;
        if rtcp_mux {
            return Ok((rtp, None));
        }
        match self.open_port(rtcp_address(local), Owner::Stream(slot, Component::Rtcp)) {
            Ok(rtcp) => Ok((rtp, Some(rtcp))),
            Err(error) => {
                self.close_port(rtp);
                Err(error)
            }
        }
    }

    pub(super) fn open_port(&mut self, local: SocketAddr, owner: Owner) -> io::Result<PortIndex> {
        let port = self.device.open(local)?;
        if self.demux.insert(port, owner) {
            return Ok(port);
        }
        self.device.close(port);
        Err(io::ErrorKind::QuotaExceeded.into())
    }

    pub(super) fn close_port(&mut self, port: PortIndex) {
        self.demux.remove(port);
        self.device.close(port);
    }

    /// An offer may end multiplexing; the port for RTCP was left free for that.
    fn open_missing_rtcp(&mut self, id: StreamId) {
        let Some(active) = self.active(id) else { return };
        if active.rtcp.is_some() || active.stream.rtcp_mux() {
            return;
        }
        let local = rtcp_address(active.local);
        let rtcp = self.open_port(local, Owner::Stream(id.slot, Component::Rtcp));
        if rtcp.is_err() {
            self.counters.rtcp_port_failed.increment();
        }
        if let Some(active) = self.active(id) {
            active.rtcp = rtcp.ok();
        }
    }

    /// The stream of an id, if it is still there.
    fn active(&mut self, id: StreamId) -> Option<&mut Active> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|active| active.id == id)
    }

    /// Does something to a stream and takes its output; `None` if it is gone, before or by that.
    fn with_stream<T>(&mut self, id: StreamId, work: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        let Some(active) = self.active(id) else {
            self.counters.commands_unknown_stream.increment();
            return None;
        };
        let result = guard(|| work(&mut active.stream));
        active.panicked |= result.is_none();
        self.settle(id.slot);
        self.active(id).and(result)
    }

    /// Takes a stream's output, or ends it if its code panicked.
    fn settle(&mut self, slot: u32) {
        let Some(active) = &mut self.slots[slot as usize] else { return };
        let Self { device, outbox, counters, discard, wheel, .. } = self;
        let settled = !active.panicked
            && guard(|| {
                tell_events(active.id, &mut active.stream, outbox, counters);
                let more = transmit(active, device.as_mut(), counters, &mut discard[..]);
                wheel.schedule(slot, active.stream.poll_timeout());
                let latched = active.stream.settled();
                if latched != active.connected {
                    active.connected = latched;
                    device.connect(active.rtp, latched);
                }
                if let Some(news) = active
                    .stream
                    .take_ai_wakeup()
                    .and_then(|thread| self.ai_news.get_mut(usize::from(thread)))
                {
                    *news = true;
                }
                if more && !active.touched {
                    active.touched = true;
                    self.touched.push(slot);
                }
            })
            .is_some();
        if !settled {
            self.bury(slot);
        }
    }

    /// Ends a stream that has been closed.
    fn remove(&mut self, slot: u32) {
        let Some(active) = self.slots[slot as usize].take() else { return };
        self.release(slot, &active);
        let Active { id, stream, .. } = active;
        match guard(|| stream.statistics()) {
            Some(statistics) => {
                self.counters.streams_removed.increment();
                self.outbox.answer(Event::StreamRemoved { id, statistics, stream });
            }
            None => self.discard(id, stream),
        }
    }

    /// Ends a stream whose code panicked; its state is not to be trusted.
    fn bury(&mut self, slot: u32) {
        let Some(active) = self.slots[slot as usize].take() else { return };
        self.release(slot, &active);
        self.discard(active.id, active.stream);
    }

    fn release(&mut self, slot: u32, active: &Active) {
        self.wheel.schedule(slot, None);
        self.close_port(active.rtp);
        if let Some(rtcp) = active.rtcp {
            self.close_port(rtcp);
        }
    }

    fn discard(&mut self, id: StreamId, stream: Box<Stream>) {
        // The one place where a worker frees memory.
        let _ = guard(|| drop(stream));
        self.counters.streams_panicked.increment();
        self.outbox.answer(Event::StreamPanicked { id });
    }
}

/// Hands a stream's packets to the device, at most [`PACKETS_PER_SETTLE`]; whether there may be more.
fn transmit(
    active: &mut Active,
    device: &mut dyn Device,
    counters: &WorkerCounters,
    discard: &mut [u8],
) -> bool {
    let Active { stream, rtp, rtcp, .. } = active;
    let mut write = |buffer: &mut [u8]| {
        let transmit = stream.poll_transmit(buffer)?;
        let port = match transmit.component {
            Component::Rtp => *rtp,
            Component::Rtcp => rtcp.unwrap_or(*rtp),
        };
        Some(Outgoing { path: Path { port, remote: transmit.remote }, len: transmit.len })
    };
    for _ in 0..PACKETS_PER_SETTLE {
        match device.transmit(&mut write) {
            Ok(true) => {}
            Ok(false) => return false,
            // Media that cannot leave now is worth nothing later.
            Err(xdp::Full) if write(discard).is_some() => counters.packets_unsent.increment(),
            Err(xdp::Full) => return false,
        }
    }
    true
}

/// What does not fit the ring stays in the stream, which keeps a place for what a call may wait for, until
/// its next frame.
fn tell_events(id: StreamId, stream: &mut Stream, outbox: &mut Outbox, counters: &WorkerCounters) {
    while outbox.has_room()
        && let Some(event) = stream.poll_event()
    {
        let event = match event {
            StreamEvent::Latched(remote) => Event::Latched { id, remote },
            StreamEvent::Dtmf { digit, duration, inband } => Event::Dtmf { id, digit, duration, inband },
            StreamEvent::PlayFinished(report) => Event::PlayFinished { id, report },
            StreamEvent::MediaTimeout => Event::MediaTimeout { id },
            StreamEvent::RemoteBye => Event::RemoteBye { id },
        };
        outbox.tell(event, counters);
    }
}

/// Runs a stream's or a relay's code; `None` if it panicked. What it leaves half done is thrown away with it.
pub(super) fn guard<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// RTCP is on the next port (RFC 3550 section 11).
pub(super) fn rtcp_address(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1))
}

/// Packets that a stream may send per turn: far more than it has due, unless it is broken.
const PACKETS_PER_SETTLE: usize = 64;

const LATE: Duration = Duration::from_millis(5);
