//! Two parties and the media between them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::relay::{RelayFormats, RelayLeg, RelayParameters, RelayTaps, Rewriting, Side};
use engine::stream::{Direction, SourcePolicy};

use super::super::sdp::Negotiation;
use super::parties::PartyId;
use crate::media::{MediaAddress, MediaRelay};

/// Two parties that exchange offers and answers.
#[derive(Debug)]
pub(super) struct Dialogue {
    /// By [`Side::index`]: who made the first offer, and who got it.
    parties: [PartyId; 2],
    /// One for each media description, in order.
    pub(super) slots: Vec<Slot>,
    /// An answer has come.
    pub(super) is_answered: bool,
    /// An answer was the last word (a final SIP response), so another tag is another party.
    pub(super) is_final: bool,
}

impl Dialogue {
    pub(super) const fn new(parties: [PartyId; 2]) -> Self {
        Self { parties, slots: Vec::new(), is_answered: false, is_final: false }
    }

    pub(super) fn has(&self, party: PartyId) -> bool {
        self.parties.contains(&party)
    }

    /// Which side a party is.
    pub(super) fn side_of(&self, party: PartyId) -> Option<Side> {
        Side::BOTH.into_iter().zip(self.parties).find(|(_, known)| *known == party).map(|(side, _)| side)
    }

    /// The other party.
    pub(super) fn peer_of(&self, party: PartyId) -> Option<PartyId> {
        let [a, b] = self.parties;
        if party == a { Some(b) } else { (party == b).then_some(a) }
    }

    /// The relays that run.
    pub(super) fn relays(&mut self) -> impl Iterator<Item = &mut MediaRelay> {
        self.slots.iter_mut().filter_map(|slot| slot.relay.as_mut())
    }
}

/// One media description of a dialogue.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None` when it was refused or is not RTP.
    pub(super) relay: Option<MediaRelay>,
    /// Such as `audio`.
    pub(super) kind: String,
    /// By [`Side::index`].
    pub(super) legs: [Leg; 2],
    /// The codecs of the last offer.
    pub(super) negotiation: Negotiation,
    /// What is told to the offerer about RTCP on the RTP port.
    pub(super) offerer_mux: OffererMux,
    /// The last offer said `a=rtcp-mux` to its receiver.
    pub(super) mux_offered: bool,
}

/// What is told to the offerer about RTCP on the RTP port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OffererMux {
    /// It is refused, or was not offered.
    #[default]
    No,
    /// What the answerer says.
    AsAnswered,
    /// It is accepted in any case.
    Yes,
}

/// One party's side of a media description.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// Where the party wants its RTP; `None` until it is known, or when it wants none.
    pub(super) rtp: Option<SocketAddr>,
    /// Where it wants its RTCP when that has a port of its own.
    pub(super) rtcp: Option<SocketAddr>,
    pub(super) rtcp_mux: bool,
    /// From our point of view.
    pub(super) direction: Direction,
    /// What it may send.
    pub(super) receive: RelayFormats,
    pub(super) source_policy: SourcePolicy,
    /// Our address on this side.
    pub(super) local: Option<MediaAddress>,
    /// As the party wrote it.
    pub(super) protocol: String,
    /// The party's most preferred codec, for who asks.
    pub(super) codec: Option<String>,
}

impl Default for Leg {
    fn default() -> Self {
        Self {
            rtp: None,
            rtcp: None,
            rtcp_mux: false,
            direction: Direction::SendRecv,
            receive: any_format(),
            source_policy: SourcePolicy::Latch,
            local: None,
            protocol: String::new(),
            codec: None,
        }
    }
}

impl Slot {
    pub(super) fn leg(&self, side: Side) -> &Leg {
        let [a, b] = &self.legs;
        if side == Side::A { a } else { b }
    }

    pub(super) fn leg_mut(&mut self, side: Side) -> &mut Leg {
        let [a, b] = &mut self.legs;
        if side == Side::A { a } else { b }
    }

    /// Where a party finds our RTP.
    pub(super) fn local(&self, side: Side) -> Option<SocketAddr> {
        let [a, b] = self.relay.as_ref()?.locals();
        Some(if side == Side::A { a } else { b })
    }

    /// The same as it is told in SDP, with an address that may be a router's.
    pub(super) fn advertised(&self, side: Side) -> Option<SocketAddr> {
        let local = self.local(side)?;
        Some(SocketAddr::new(self.leg(side).local?.advertised, local.port()))
    }

    /// What the relay is to do. Without an answer, or on hold, it may be silent for longer.
    pub(super) fn parameters(&self, is_answered: bool, patience: Patience) -> RelayParameters {
        let talks = self.legs.iter().all(|leg| leg.direction == Direction::SendRecv && leg.rtp.is_some());
        RelayParameters {
            legs: self.legs.each_ref().map(Leg::parameters),
            taps: RelayTaps::default(),
            in_kernel: true,
            media_timeout: if is_answered && talks { patience.media } else { patience.hold },
        }
    }
}

impl Leg {
    fn parameters(&self) -> RelayLeg {
        RelayLeg {
            remote_rtp: self.rtp,
            remote_rtcp: if self.rtcp_mux { self.rtp } else { self.rtcp },
            rtcp_mux: self.rtcp_mux,
            direction: self.direction,
            receive: self.receive,
            source_policy: self.source_policy,
            rewriting: Rewriting::default(),
        }
    }

    /// Whether our address on this side is of IP6.
    pub(super) fn is_ipv6(&self) -> Option<bool> {
        self.local.map(|local| local.bind.is_ipv6())
    }
}

/// How long media may be silent.
#[derive(Clone, Copy, Debug)]
pub(in crate::ng) struct Patience {
    /// In a conversation.
    pub(in crate::ng) media: Duration,
    /// On hold, and before an answer.
    pub(in crate::ng) hold: Duration,
}

/// Whatever comes goes on.
pub(super) fn any_format() -> RelayFormats {
    let mut formats = RelayFormats::default();
    formats.others = true;
    formats
}

/// The address to print: ours, or the one that the proxy wants to be told.
pub(super) fn printed(leg: &Leg, wanted: Option<IpAddr>) -> Option<IpAddr> {
    wanted.or_else(|| leg.local.map(|local| local.advertised))
}
