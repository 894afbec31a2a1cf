//! A relay: the packets of two parties go on to each other without being decoded. Sans-IO.
//!
//! ```text
//!  party A  -> source filter -> payload type, law, numbers of the header, in the frame that arrived -> party B
//!           <-                                                                                      <-
//!              statistics, keys, silence                    settled and untouched: the kernel does it alone
//! ```
//!
//! Everything that comes from a believed source goes on once and in the order of arrival, repeated and late
//! packets too: it is for the receiver to judge. After any input the owner settles the relay if
//! [`Relay::has_news`] says so: [`Relay::poll_event`], [`Relay::poll_connect`], [`Relay::poll_flow`],
//! [`Relay::poll_timeout`].
//!
//! A direction is two cache lines, which is all that the usual packet touches; the rest of a relay is apart.
//! Nothing allocates after construction.

mod flows;
mod kernel;
mod parameters;
mod party;
mod reception;
mod route;
mod rtcp;
mod statistics;
mod taps;

use std::net::SocketAddr;

use crate::ai::tap::Taps;
use crate::command::Digit;
use crate::rtp::{self, Header, Packet};
use crate::source::{Address, Permission, Verdict};
use crate::stream::{Component, Refusal};
use crate::time::{Duration, Instant};
use party::Party;
use reception::Reception;
use route::{Action, Known, NO_PAYLOAD_TYPE, Route};
use taps::Events;

pub use kernel::{FlowChange, KernelCounters, RelayFlow};
pub use parameters::{
    Conversion, RelayFormat, RelayFormats, RelayLeg, RelayParameters, RelayTaps, Rewriting, Side,
};
pub use statistics::{RelaySideStatistics, RelayStatistics};
pub use taps::RelayEars;

/// A packet to send on: the first bytes of the datagram that came, already changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayTransmit {
    /// To which party, and so from whose two ports.
    pub side: Side,
    /// From which of them.
    pub component: Component,
    /// To which address.
    pub remote: SocketAddr,
    /// How many bytes.
    pub len: usize,
}

/// What happened in a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// The source of a party's media is locked.
    Latched {
        /// Whose.
        side: Side,
        /// The source.
        remote: SocketAddr,
    },
    /// A party pressed and released a key.
    Dtmf {
        /// Who.
        side: Side,
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
        /// It came as tones in the audio.
        inband: bool,
    },
    /// No packet from either party for too long.
    MediaTimeout,
}

/// What a relay needs to know beside what was negotiated.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// How long media may go to an address from which nothing ever came.
    pub silent_peer_limit: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { silent_peer_limit: Duration::from_secs(10) }
    }
}

/// Parameters on their way to a relay, with the memory that they need; on its way back, with what is left over.
#[derive(Debug)]
pub struct RelayUpdate {
    /// The new outcome of offer and answer.
    pub parameters: RelayParameters,
    /// For [`RelayTaps::inband_dtmf`].
    pub ears: Option<Box<RelayEars>>,
}

impl RelayUpdate {
    /// With all memory that these parameters need.
    #[must_use]
    pub fn new(parameters: RelayParameters) -> Box<Self> {
        let ears = parameters.taps.inband_dtmf.then(RelayEars::new);
        Box::new(Self { parameters, ears })
    }
}

/// See the module's documentation.
#[derive(Debug)]
#[repr(C)]
pub struct Relay {
    /// What the packets of each party meet, by [`Side::index`].
    directions: [Direction; 2],
    parameters: RelayParameters,
    parties: [Party; 2],
    ears: Option<Box<RelayEars>>,
    listeners: Taps,
    events: Events,
    now: Instant,
    /// When somebody was heard last, as far as packets on the short way have not moved it on.
    heard: Instant,
    silence_reported: bool,
}

/// All that the usual packet of one party needs, in two cache lines. The worker keeps these of all its relays side by
/// side, because ten thousand relays are as many pages of memory, and a page that the processor does not know costs
/// more than the packet.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Direction {
    route: Route,
    reception: Reception,
}

impl Direction {
    /// As [`Relay::handle_packet`], but only for the usual packet: nothing is done, and `None` returned, for any
    /// other.
    #[inline]
    pub(crate) fn handle_usual(
        &mut self,
        now: Instant,
        side: Side,
        component: Component,
        remote: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<RelayTransmit> {
        let Self { route, reception } = self;
        let (header, payload) = route.pass(component, remote, datagram)?;
        if !reception.take_next(now, &header, datagram.len()) {
            return None;
        }
        route.convert((route.send, route.action), &header, payload, datagram);
        Some(route.transmit(side, datagram.len()))
    }
}

impl Relay {
    /// Makes a relay with all the memory it will ever need, about 3 kB, and as much again with ears for tones.
    #[must_use]
    pub fn new(parameters: RelayParameters) -> Box<Self> {
        Self::with_options(parameters, RelayOptions::default())
    }

    /// The same with options.
    #[must_use]
    pub fn with_options(parameters: RelayParameters, options: RelayOptions) -> Box<Self> {
        let direction =
            |leg: &RelayLeg| Direction { route: Route::new(leg.rewriting), reception: Reception::default() };
        let [a, b] = &parameters.legs;
        let mut relay = Box::new(Self {
            directions: [direction(a), direction(b)],
            parties: [Party::new(a, options.silent_peer_limit), Party::new(b, options.silent_peer_limit)],
            ears: parameters.taps.inband_dtmf.then(RelayEars::new),
            listeners: Taps::default(),
            parameters,
            events: Events::default(),
            now: Instant::ZERO,
            heard: Instant::ZERO,
            silence_reported: false,
        });
        relay.refresh();
        relay
    }

    /// Starts the clocks. Called once by the worker when the sockets are open.
    pub fn start(&mut self, now: Instant) {
        (self.now, self.heard) = (now, now);
    }

    /// A packet came from `remote` to a port of `side`. What is returned is to be sent on from `datagram`.
    #[inline]
    #[must_use]
    pub fn handle_packet(
        &mut self,
        now: Instant,
        side: Side,
        component: Component,
        remote: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<RelayTransmit> {
        self.directions[side.index()]
            .handle_usual(now, side, component, remote, datagram)
            .or_else(|| self.handle_unusual(now, side, component, remote, datagram))
    }

    /// What the usual packets need, for an owner that keeps it elsewhere.
    pub(crate) fn directions(&self) -> [Direction; 2] {
        self.directions
    }

    /// What has become of [`Relay::directions`], before anything else is asked of the relay.
    pub(crate) fn set_directions(&mut self, directions: [Direction; 2]) {
        self.directions = directions;
    }

    /// The deadline of [`Relay::poll_timeout`] has come. `kernel` has the present figures of promoted directions.
    pub fn handle_timeout(&mut self, now: Instant, kernel: [Option<KernelCounters>; 2]) {
        self.now = now;
        for side in Side::BOTH {
            self.parties[side.index()].keys.handle_timeout(now, side, &mut self.events);
        }
        let seen = kernel.iter().flatten().filter_map(|kernel| kernel.last_seen).max();
        let last = self.last_heard().max(seen.unwrap_or(Instant::ZERO));
        self.heard = last;
        let limit = self.parameters.media_timeout;
        if !limit.is_zero() && now.saturating_duration_since(last) >= limit {
            self.silence_reported = true;
        }
        self.refresh();
    }

    /// Applies a new outcome of offer and answer. The owner has demoted both directions before. What is no longer
    /// needed is left in `update`.
    pub fn update(&mut self, now: Instant, update: &mut RelayUpdate) {
        self.now = now;
        let before = std::mem::replace(&mut self.parameters, update.parameters);
        for side in Side::BOTH {
            let index = side.index();
            let (leg, old) = (&self.parameters.legs[index], &before.legs[index]);
            self.parties[index].update(leg);
            let route = &mut self.directions[index].route;
            route.rewrite(leg.rewriting);
            if leg.receive != old.receive {
                route.receive = NO_PAYLOAD_TYPE;
            }
            if leg.direction.receives() != old.direction.receives() {
                (self.heard, self.silence_reported) = (now, false);
            }
        }
        if before.media_timeout != self.parameters.media_timeout {
            (self.heard, self.silence_reported) = (now, false);
        }
        if !self.parameters.taps.inband_dtmf || self.ears.is_none() {
            std::mem::swap(&mut self.ears, &mut update.ears);
        }
        self.refresh();
    }

    /// The relay ends: the kernel is to give back what it forwards, and is asked no more.
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        self.parameters.in_kernel = false;
    }

    /// The figures of a relay that has ended.
    #[must_use]
    pub fn last_statistics(&self) -> RelayStatistics {
        self.statistics(self.now, [None; 2])
    }

    /// The next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        for side in Side::BOTH {
            let party = &mut self.parties[side.index()];
            if std::mem::take(&mut party.latched_news)
                && let Some(remote) = party.filter.locked()
            {
                return Some(RelayEvent::Latched { side, remote });
            }
        }
        if self.silence_reported && !std::mem::replace(&mut self.events.silence_told, true) {
            return Some(RelayEvent::MediaTimeout);
        }
        self.events.pop()
    }

    /// When to call [`Relay::handle_timeout`] next: silence, a key that nobody ends, a source that settles,
    /// another try to promote, or to tell what there was no room for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let limit = self.parameters.media_timeout;
        let silence = (!limit.is_zero() && !self.silence_reported).then(|| self.last_heard() + limit);
        self.parties
            .iter()
            .flat_map(|party| [party.keys.deadline, party.filter.settles_at(), party.promote_after])
            .flatten()
            .filter(|&at| at > self.now)
            .chain(silence)
            .chain(self.has_events().then(|| self.now + TOLD_LATER))
            .min()
    }

    /// Whether the owner has to settle the relay after a packet of `side`, asked once.
    #[inline]
    #[must_use]
    pub fn take_news(&mut self, side: Side) -> bool {
        std::mem::take(&mut self.directions[side.index()].route.has_news)
    }

    /// Where a party said that it receives RTP, which is as a rule where it sends from.
    pub(crate) fn remote_rtp(&self, side: Side) -> Option<SocketAddr> {
        self.parameters.legs[side.index()].remote_rtp
    }

    /// Whether RTCP of a party shares its RTP port, so that no second port is opened.
    #[must_use]
    pub fn rtcp_mux(&self, side: Side) -> bool {
        self.parameters.legs[side.index()].rtcp_mux
    }

    /// The figures now. `kernel` has those of promoted directions.
    #[must_use]
    pub fn statistics(&self, now: Instant, kernel: [Option<KernelCounters>; 2]) -> RelayStatistics {
        let mut statistics = RelayStatistics::default();
        for side in Side::BOTH {
            let index = side.index();
            let (party, mut direction) = (&self.parties[index], self.directions[index]);
            let (mut history, mut refusals) = (party.history, party.refusals);
            if let Some(kernel) = &kernel[index] {
                direction.reception.absorb(kernel, &mut direction.route.ssrc, &mut history);
                refusals.add_many(Refusal::Stranger, kernel.strangers);
            }
            let Direction { route, reception } = direction;
            let last_packet = reception.last_seen.max(party.rtcp_seen);
            let is_known = reception.last_sequence().is_some();
            let own = &mut statistics.sides[index];
            own.received_packets = reception.packets;
            own.received_bytes = reception.bytes;
            own.lost_packets = reception.lost(&history);
            own.duplicate_packets = history.duplicates;
            own.reordered_packets = history.reordered;
            own.jitter = reception.jitter();
            own.refused_packets = refusals.packets();
            own.stranger_packets = refusals.count(Refusal::Stranger);
            own.refusals = refusals;
            own.latched = party.filter.locked();
            own.in_kernel = party.flow.is_some();
            own.in_kernel_packets = history.in_kernel_packets;
            own.last_packet_age =
                (last_packet != Instant::ZERO).then(|| now.saturating_duration_since(last_packet));
            own.received_rtcp_packets = party.received_rtcp;
            own.sent_rtcp_packets = party.sent_rtcp;
            own.ssrc = is_known.then_some(route.ssrc);
            own.last_sequence = reception.last_sequence();
            own.last_timestamp = is_known.then_some(reception.timestamp);
            own.digits = party.keys.told;
            own.digits_inband = party.keys.told_inband;
            let other = &mut statistics.sides[side.other().index()];
            other.sent_packets = reception.packets - history.withheld_packets;
            other.sent_bytes = reception.bytes - history.withheld_bytes;
        }
        let dropped = self.events.dropped;
        statistics.sides[0].refusals.add_many(Refusal::QueueFull, dropped);
        statistics
    }

    /// Everything but the usual packet: first ones, strangers, RTCP, keys, changes, garbage.
    fn handle_unusual(
        &mut self,
        now: Instant,
        side: Side,
        component: Component,
        remote: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<RelayTransmit> {
        self.now = now;
        let is_rtcp = component == Component::Rtcp
            || self.parameters.legs[side.index()].rtcp_mux && rtp::is_rtcp(datagram);
        let result = if is_rtcp {
            self.handle_rtcp(now, side, remote, datagram)
        } else {
            self.handle_rtp(now, side, remote, datagram)
        };
        self.refresh();
        match result {
            Ok(transmit) => Some(transmit),
            Err(refusal) => {
                self.parties[side.index()].refusals.add(refusal);
                None
            }
        }
    }

    fn handle_rtp(
        &mut self,
        now: Instant,
        side: Side,
        remote: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<RelayTransmit, Refusal> {
        let packet = Packet::parse(datagram)?;
        let (header, payload) = (packet.header(), packet.payload_range());
        let leg = &self.parameters.legs[side.index()];
        let is_source = self.parties[side.index()].filter.is_source(remote);
        let known = if rtp::is_rtcp(datagram) { None } else { leg.receive.find(header.payload_type) };
        let Some(known) = known else {
            if is_source {
                self.pass_over(side, &header);
            }
            return Err(Refusal::PayloadType);
        };
        if !leg.direction.receives() {
            if !is_source {
                return Err(Refusal::Stranger);
            }
            self.handle_heard(side, now, remote);
            self.pass_over(side, &header);
            return Err(Refusal::NotReceiving);
        }
        let party = &mut self.parties[side.index()];
        let is_new = match party.filter.judge(now, remote, &header) {
            Verdict::Believed => false,
            Verdict::Locked => {
                party.latched_news = true;
                true
            }
            Verdict::Learning => return Err(Refusal::Learning),
            Verdict::Stranger => return Err(Refusal::Stranger),
        };
        self.account(now, side, &header, datagram.len(), is_new);
        self.handle_heard(side, now, remote);
        self.listen(now, side, &header, known, &datagram[payload.clone()]);
        let route = &mut self.directions[side.index()].route;
        let party = &mut self.parties[side.index()];
        let is_other =
            known.action != Action::Event && (route.receive != known.receive || party.flow.is_some());
        // A single packet that the kernel leaves to us, such as comfort noise, does not end its work.
        if is_other && party.changes_payload_type(known.receive) {
            (route.receive, route.send, route.action) = (known.receive, known.send, known.action);
            route.has_news = true;
        }
        let withheld = self.destination(now, side.other());
        let remote = withheld.inspect_err(|_| {
            let history = &mut self.parties[side.index()].history;
            history.withheld_packets += 1;
            history.withheld_bytes += datagram.len() as u64;
        })?;
        self.parties[side.other().index()].guard.handle_sent(now);
        let route = &self.directions[side.index()].route;
        route.convert((known.send, known.action), &header, payload, datagram);
        let len = datagram.len();
        Ok(RelayTransmit { side: side.other(), component: Component::Rtp, remote, len })
    }

    /// Counts a packet of the source.
    fn account(&mut self, now: Instant, side: Side, header: &Header, len: usize, is_new: bool) {
        let Direction { route, reception } = &mut self.directions[side.index()];
        let party = &mut self.parties[side.index()];
        let history = &mut party.history;
        if party.flow.is_some() {
            reception.take_beside(now, header, len, history);
        } else if !is_new && reception.last_sequence().is_some() && route.ssrc == header.ssrc {
            reception.take(now, header, len, history);
        } else if reception.take_other(now, header, len, is_new, history) {
            route.ssrc = header.ssrc;
        }
    }

    /// Counts a packet of the source that was refused, so that it does not count as lost.
    fn pass_over(&mut self, side: Side, header: &Header) {
        let Direction { route, reception } = &mut self.directions[side.index()];
        let party = &mut self.parties[side.index()];
        if route.ssrc == header.ssrc && party.flow.is_none() {
            reception.pass_over(header.sequence_number.0, &mut party.history);
        }
    }

    /// A believed packet of a party.
    fn handle_heard(&mut self, side: Side, now: Instant, remote: SocketAddr) {
        self.parties[side.index()].guard.handle_heard(remote.ip());
        self.heard = now;
        self.silence_reported = false;
        self.events.silence_told = false;
    }

    /// Lets the taps hear a packet.
    fn listen(&mut self, now: Instant, side: Side, header: &Header, known: Known, payload: &[u8]) {
        let Self { parties, events, ears, parameters, directions, listeners, .. } = self;
        if let Some(law) = known.law {
            listeners.hear_packet(side.track(), now, law, header.timestamp, payload);
        }
        let keys = &mut parties[side.index()].keys;
        if known.action == Action::Event {
            if parameters.taps.telephone_events {
                keys.handle_event(now, side, header, payload, events);
                directions[side.index()].route.has_news = true;
            }
        } else if parameters.taps.inband_dtmf
            && let (Some(ears), Some(law)) = (ears, known.law)
        {
            ears.hear(side, header, law, payload, |digit| keys.tell(now, side, digit, true, events));
        }
    }

    /// Where media for a party goes now.
    fn destination(&self, now: Instant, side: Side) -> Result<SocketAddr, Refusal> {
        let (leg, party) = (&self.parameters.legs[side.index()], &self.parties[side.index()]);
        if !leg.direction.sends() {
            return Err(Refusal::NotSending);
        }
        let remote = party.rtp_destination(leg).ok_or(Refusal::NoDestination)?;
        permission(party.guard.may_send_to(now, remote))?;
        Ok(remote)
    }

    /// Copies what the usual packet needs to where it looks.
    fn refresh(&mut self) {
        let is_quiet = !self.silence_reported && !self.hears_audio();
        for side in Side::BOTH {
            let (leg, party) = (&self.parameters.legs[side.index()], &self.parties[side.index()]);
            let destination = self.destination(self.now, side.other()).ok();
            let is_plain = is_quiet
                && leg.direction.receives()
                && party.filter.locked().is_some()
                && party.flow.is_none()
                && self.parties.iter().all(|party| party.guard.is_heard())
                && destination.is_some();
            let has_events = self.has_events();
            let route = &mut self.directions[side.index()].route;
            route.is_plain = is_plain;
            route.source = party.filter.locked().map_or(Address::NOWHERE, Address::from);
            route.destination = destination.map_or(Address::NOWHERE, Address::from);
            route.has_news |= has_events;
        }
    }

    /// Whether [`Relay::poll_event`] has something.
    fn has_events(&self) -> bool {
        self.parties.iter().any(|party| party.latched_news)
            || !self.events.is_empty()
            || self.silence_reported != self.events.silence_told
    }

    /// When a packet of either party came last.
    fn last_heard(&self) -> Instant {
        self.directions.iter().map(|direction| direction.reception.last_seen).fold(self.heard, Instant::max)
    }
}

fn permission(permission: Permission) -> Result<(), Refusal> {
    match permission {
        Permission::Granted => Ok(()),
        Permission::Silent => Err(Refusal::SilentPeer),
        Permission::Forbidden => Err(Refusal::ForbiddenDestination),
    }
}

/// What the event ring had no room for is offered again after so long.
const TOLD_LATER: Duration = Duration::from_millis(20);
