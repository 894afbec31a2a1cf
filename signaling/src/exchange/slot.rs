//! Two parties and the media between them, by media description.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::relay::{RelayFormats, RelayLeg, RelayParameters, RelayTaps, Rewriting, Side};
use engine::stream::{Direction, SourcePolicy};

use super::sdp::Negotiation;
use crate::media::{MediaAddress, MediaRelay};

/// The media between two parties that exchange offers and answers.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// One for each media description, in order.
    pub(crate) slots: Vec<Slot>,
    /// An answer has come.
    pub(crate) is_answered: bool,
}

impl Exchange {
    /// The relays that run.
    pub(crate) fn relays(&mut self) -> impl Iterator<Item = &mut MediaRelay> {
        self.slots.iter_mut().filter_map(|slot| slot.relay.as_mut())
    }
}

/// One media description of a dialogue.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// `None` when it was refused or is not RTP.
    pub(crate) relay: Option<MediaRelay>,
    /// Such as `audio`.
    pub(crate) kind: String,
    /// By [`Side::index`].
    pub(crate) legs: [Leg; 2],
    /// The codecs of the last offer.
    pub(crate) negotiation: Negotiation,
    /// What is told to the offerer about RTCP on the RTP port.
    pub(crate) offerer_mux: OffererMux,
    /// The last offer said `a=rtcp-mux` to its receiver.
    pub(crate) mux_offered: bool,
}

/// What is told to the offerer about RTCP on the RTP port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OffererMux {
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
pub(crate) struct Leg {
    /// Where the party wants its RTP; `None` until it is known, or when it wants none.
    pub(crate) rtp: Option<SocketAddr>,
    /// Where it wants its RTCP when that has a port of its own.
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) rtcp_mux: bool,
    /// From our point of view.
    pub(crate) direction: Direction,
    /// What it may send.
    pub(crate) receive: RelayFormats,
    pub(crate) source_policy: SourcePolicy,
    /// Our address on this side.
    pub(crate) local: Option<MediaAddress>,
    /// As the party wrote it.
    pub(crate) protocol: String,
    /// The party's most preferred codec, for who asks.
    pub(crate) codec: Option<String>,
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
    pub(crate) fn leg(&self, side: Side) -> &Leg {
        let [a, b] = &self.legs;
        if side == Side::A { a } else { b }
    }

    pub(crate) fn leg_mut(&mut self, side: Side) -> &mut Leg {
        let [a, b] = &mut self.legs;
        if side == Side::A { a } else { b }
    }

    /// Where a party finds our RTP.
    pub(crate) fn local(&self, side: Side) -> Option<SocketAddr> {
        let [a, b] = self.relay.as_ref()?.locals();
        Some(if side == Side::A { a } else { b })
    }

    /// The same as it is told in SDP, with an address that may be a router's.
    pub(crate) fn advertised(&self, side: Side) -> Option<SocketAddr> {
        let local = self.local(side)?;
        Some(SocketAddr::new(self.leg(side).local?.advertised, local.port()))
    }

    /// What the relay is to do. Without an answer, or on hold, it may be silent for longer.
    pub(crate) fn parameters(&self, is_answered: bool, patience: Patience) -> RelayParameters {
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
    pub(crate) fn is_ipv6(&self) -> Option<bool> {
        self.local.map(|local| local.bind.is_ipv6())
    }
}

/// How long media may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// In a conversation.
    pub(crate) media: Duration,
    /// On hold, and before an answer.
    pub(crate) hold: Duration,
}

/// Whatever comes goes on.
pub(crate) fn any_format() -> RelayFormats {
    let mut formats = RelayFormats::default();
    formats.others = true;
    formats
}

/// The address to print: ours, or the one that the proxy wants to be told.
pub(crate) fn printed(leg: &Leg, wanted: Option<IpAddr>) -> Option<IpAddr> {
    wanted.or_else(|| leg.local.map(|local| local.advertised))
}
