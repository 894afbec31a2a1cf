//! An offer or an answer: from the sender's description to relays and to the receiver's description.

use std::net::{IpAddr, SocketAddr};

use engine::relay::Side;
use engine::stream::{Direction, SourcePolicy};

use super::loops::Way;
use super::sdp::{self, Body, Format, MediaChange, Negotiation, RelayedMedia, RtcpAttribute, Section};
use super::slot::{Exchange, Leg, OffererMux, Slot, any_format, printed};
use super::{ExchangeError, Relaying, Transport, Wishes};
use crate::media::{MediaAddress, MediaError, is_local};

/// A description on its way from one party to the other.
#[derive(Debug)]
pub(crate) struct Description<'a> {
    pub(crate) relaying: &'a Relaying,
    pub(crate) wishes: &'a Wishes,
    pub(crate) body: &'a Body,
    pub(crate) sender: Side,
    pub(crate) is_answer: bool,
}

/// What the sender says about one media description, checked before anything is changed.
#[derive(Debug)]
struct Said {
    /// `None` for the zero address.
    rtp: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
    ipv6: bool,
    direction: Option<Direction>,
}

impl Description<'_> {
    /// Checks everything that can be wrong with it, whatever call it belongs to.
    pub(crate) fn check(&self) -> Result<(), ExchangeError> {
        if let Some(what) = self.wishes.unserved {
            return Err(ExchangeError::NotServed(what));
        }
        for section in self.body.media.iter().filter(|section| section.port != 0 && section.is_rtp()) {
            if !section.is_plain_rtp() {
                return Err(ExchangeError::NotServed("SRTP"));
            }
            self.said(section)?;
        }
        Ok(())
    }

    fn said(&self, section: &Section) -> Result<Said, ExchangeError> {
        let wishes = self.wishes;
        let mut address = self.body.address(section)?;
        if wishes.sip_source_address
            && let Some(source) = wishes.received_from
        {
            address = source;
        }
        let direction = self.body.direction(section);
        if address.is_unspecified() {
            return Ok(Said { rtp: None, rtcp: None, ipv6: address.is_ipv6(), direction });
        }
        let rtp = SocketAddr::new(address, section.port);
        let rtcp = section.rtcp(rtp).filter(|rtcp| !self.relaying.is_forbidden(*rtcp));
        if self.relaying.is_forbidden(rtp) {
            self.relaying.counters.forbidden_targets.increment();
            return Err(ExchangeError::ForbiddenTarget(rtp));
        }
        Ok(Said { rtp: Some(rtp), rtcp, ipv6: address.is_ipv6(), direction })
    }

    /// Makes, changes and ends relays, and says what each media description becomes.
    pub(crate) async fn apply(&self, exchange: &mut Exchange) -> Result<Vec<MediaChange>, ExchangeError> {
        let mut changes = Vec::with_capacity(self.body.media.len());
        for (index, section) in self.body.media.iter().enumerate() {
            if exchange.slots.len() <= index {
                if self.is_answer {
                    // An answer has as many as its offer (RFC 3264 section 6).
                    changes.push(MediaChange::Rejected);
                    continue;
                }
                exchange.slots.push(Slot::default());
            }
            let is_answered = self.is_answer || exchange.is_answered;
            let Some(slot) = exchange.slots.get_mut(index) else { continue };
            changes.push(self.apply_one(slot, section, is_answered).await?);
        }
        // What a shorter description no longer has is over.
        exchange.slots.iter_mut().skip(self.body.media.len()).for_each(|slot| self.close(slot));
        exchange.is_answered |= self.is_answer;
        Ok(changes)
    }

    async fn apply_one(
        &self,
        slot: &mut Slot,
        section: &Section,
        is_answered: bool,
    ) -> Result<MediaChange, ExchangeError> {
        if section.port == 0 {
            self.close(slot);
            return Ok(MediaChange::Rejected);
        }
        if !section.is_rtp() {
            self.close(slot);
            return Ok(MediaChange::Untouched);
        }
        if self.is_answer && slot.relay.is_none() {
            return Ok(MediaChange::Rejected);
        }
        let said = self.said(section)?;
        self.note_sender(slot, section, &said);
        let formats = if self.is_answer { self.answer(slot, section) } else { self.offer(slot, section) };
        self.ensure_relay(slot, &said, is_answered).await?;
        self.printed(slot, section, &said, formats)
    }

    /// Ends what there is of a media description.
    fn close(&self, slot: &mut Slot) {
        self.relaying.loops.remove(ports(slot));
        slot.relay = None;
        slot.legs = Default::default();
    }

    /// What the sender says about itself.
    fn note_sender(&self, slot: &mut Slot, section: &Section, said: &Said) {
        let wishes = self.wishes;
        slot.kind.clone_from(&section.kind);
        let leg = slot.leg_mut(self.sender);
        (leg.rtp, leg.rtcp) = (said.rtp, said.rtcp);
        leg.direction = mirrored(said.direction.unwrap_or_default());
        leg.source_policy = if wishes.strict_source || wishes.asymmetric {
            SourcePolicy::Strict
        } else {
            self.relaying.source_policy
        };
        leg.protocol.clone_from(&section.protocol);
    }

    /// The receiver's formats of an offer.
    fn offer(&self, slot: &mut Slot, section: &Section) -> Vec<Format> {
        let (wishes, mux) = (self.wishes, self.wishes.rtcp_mux);
        let offers = section.rtcp_mux();
        let receiver_muxes = slot.leg(self.sender.other()).rtcp_mux;
        slot.mux_offered = receiver_muxes || mux.offer || offers && !mux.demux;
        slot.offerer_mux = match (offers, slot.mux_offered) {
            (false, _) => OffererMux::No,
            (true, _) if mux.reject => OffererMux::No,
            (true, false) => OffererMux::Yes,
            (true, true) if mux.accept => OffererMux::Yes,
            (true, true) => OffererMux::AsAnswered,
        };
        let sender = slot.leg_mut(self.sender);
        sender.rtcp_mux &= offers;
        let received = Format::all(section);
        sender.codec = received.first().map(Format::description);
        if wishes.codec.is_empty() || section.kind != "audio" {
            let (negotiation, sent) = Negotiation::offer(received, &Default::default());
            slot.negotiation = negotiation;
            return sent.formats;
        }
        let (negotiation, sent) = Negotiation::offer(received, &wishes.codec);
        slot.negotiation = negotiation;
        if !sent.refused.is_empty() {
            self.relaying.counters.codecs_refused.add(sent.refused.len() as u64);
            tracing::debug!(codecs = ?sent.refused, "transcoding is not served between these codecs; left out");
        }
        sent.formats
    }

    /// The offerer's formats of an answer; what may be sent is known from now on.
    fn answer(&self, slot: &mut Slot, section: &Section) -> Vec<Format> {
        let answers = section.rtcp_mux() && slot.mux_offered;
        let offerer_muxes = match slot.offerer_mux {
            OffererMux::No => false,
            OffererMux::AsAnswered => answers,
            OffererMux::Yes => true,
        };
        let answered = Format::all(section);
        let sent = slot.negotiation.answer(&answered, &self.wishes.codec);
        let answerer = slot.leg_mut(self.sender);
        (answerer.rtcp_mux, answerer.receive) = (answers, sent.from_answerer);
        answerer.codec = answered.first().map(Format::description);
        let offerer = slot.leg_mut(self.sender.other());
        (offerer.rtcp_mux, offerer.receive) = (offerer_muxes, sent.from_offerer);
        sent.formats
    }

    async fn ensure_relay(
        &self,
        slot: &mut Slot,
        said: &Said,
        is_answered: bool,
    ) -> Result<(), ExchangeError> {
        let receiver = self.sender.other();
        let has_moved = slot.leg(self.sender).is_ipv6().is_some_and(|ipv6| ipv6 != said.ipv6);
        let receiver_moves = !self.is_answer
            && self
                .wishes
                .ipv6
                .is_some_and(|wanted| slot.leg(receiver).is_ipv6().is_some_and(|ipv6| ipv6 != wanted));
        if has_moved || receiver_moves {
            // Ports of one family cannot become ports of the other.
            self.relaying.loops.remove(ports(slot));
            slot.relay = None;
            let moved = if has_moved { self.sender } else { receiver };
            slot.leg_mut(moved).local = None;
        }
        let patience = self.relaying.patience;
        if slot.relay.is_some() {
            // Before the relay knows it: a ring never runs.
            self.note_ways(slot)?;
            if let Some(relay) = &slot.relay {
                relay.update(slot.parameters(is_answered, patience)).await?;
            }
        } else {
            let hint = said.rtp.map(|rtp| rtp.ip()).or(self.wishes.received_from);
            let hint = hint.unwrap_or(self.relaying.hint);
            let mut last = None;
            for (side, ipv6) in [(self.sender, said.ipv6), (receiver, self.wishes.ipv6.unwrap_or(said.ipv6))]
            {
                if slot.leg(side).local.is_none() {
                    // Looking it up may take system calls; both sides are mostly of one family.
                    let known = last.filter(|known: &MediaAddress| known.bind.is_ipv6() == ipv6);
                    let address = known.or_else(|| self.relaying.addresses.toward(ipv6, hint));
                    last = Some(address.ok_or(ExchangeError::NoAddress { ipv6 })?);
                    slot.leg_mut(side).local = last;
                }
            }
            if !self.is_answer {
                // Nothing of an earlier life of this media description is believed.
                for leg in &mut slot.legs {
                    leg.receive = any_format();
                }
            }
            let [a, b] = slot.legs.each_ref().map(|leg| leg.local.map(|local| local.bind));
            let (Some(a), Some(b)) = (a, b) else { return Err(ExchangeError::Media(MediaError::Ended)) };
            let parameters = slot.parameters(is_answered, patience);
            // Its ports are known only afterwards. If it might send to itself, it is told where to when they are.
            let may_ring = self.may_ring(slot);
            let mut first = parameters;
            if may_ring {
                first.legs.iter_mut().for_each(|leg| (leg.remote_rtp, leg.remote_rtcp) = (None, None));
            }
            let added = self.relaying.media.add_relay([a, b], first).await;
            match added {
                Ok(relay) => {
                    self.relaying.counters.relays.increment();
                    slot.relay = Some(relay);
                }
                Err(error) => {
                    self.relaying.counters.relays_failed.increment();
                    return Err(ExchangeError::Media(error));
                }
            }
            self.note_ways(slot)?;
            if let Some(relay) = slot.relay.as_ref().filter(|_| may_ring) {
                relay.update(parameters).await?;
            }
        }
        Ok(())
    }

    /// Notes where our ports send; if that is back to them, the media description ends.
    fn note_ways(&self, slot: &mut Slot) -> Result<(), ExchangeError> {
        if self.relaying.loops.note(&ways(slot)) {
            return Ok(());
        }
        self.relaying.counters.loops_refused.increment();
        self.close(slot);
        Err(ExchangeError::Loop)
    }

    /// Whether a relay that is yet to be made might be a part of a ring: a party is where our ports are.
    fn may_ring(&self, slot: &Slot) -> bool {
        let locals = || slot.legs.iter().filter_map(|leg| leg.local);
        slot.legs.iter().filter_map(|leg| leg.rtp).any(|target| {
            let ip = target.ip();
            self.relaying.loops.know(target)
                || locals().any(|local| ip == local.bind || ip == local.advertised)
                || locals().any(|local| local.bind.is_unspecified()) && is_local(ip)
        })
    }

    /// What the receiver is told.
    fn printed(
        &self,
        slot: &Slot,
        section: &Section,
        said: &Said,
        formats: Vec<Format>,
    ) -> Result<MediaChange, ExchangeError> {
        let wishes = self.wishes;
        let receiver = slot.leg(self.sender.other());
        let ours = slot.advertised(self.sender.other()).ok_or(ExchangeError::Media(MediaError::Ended))?;
        let address = printed(receiver, wishes.media_address).unwrap_or_else(|| ours.ip());
        let is_hold = said.rtp.is_none() && !wishes.replace.zero_address;
        let direction = match said.direction.unwrap_or_default() {
            Direction::SendRecv if is_hold => Direction::SendOnly,
            Direction::RecvOnly if is_hold => Direction::Inactive,
            direction => direction,
        };
        let only_mux = if self.is_answer {
            receiver.rtcp_mux
        } else {
            slot.mux_offered && (wishes.rtcp_mux.require || receiver.rtcp_mux)
        };
        Ok(MediaChange::Relayed(RelayedMedia {
            address: if is_hold { zero(address) } else { address },
            port: ours.port(),
            rtcp_port: if only_mux { ours.port() } else { ours.port().saturating_add(1) },
            rtcp_mux: if self.is_answer { receiver.rtcp_mux } else { slot.mux_offered },
            rtcp: match (wishes.no_rtcp_attribute, wishes.full_rtcp_attribute) {
                (true, _) => RtcpAttribute::None,
                (false, true) => RtcpAttribute::Full,
                (false, false) => RtcpAttribute::Port,
            },
            protocol: self.protocol(receiver, section),
            formats,
            direction: (said.direction.is_some() || !wishes.original_direction).then_some(direction),
            ptime: wishes.ptime.filter(|_| !self.is_answer && section.kind == "audio"),
        }))
    }

    /// The protocol that the receiver reads, if not the sender's.
    fn protocol(&self, receiver: &Leg, section: &Section) -> Option<String> {
        match &self.wishes.transport {
            _ if self.is_answer && self.wishes.transport == Some(Transport::Accept) => None,
            // The offerer reads what it has written.
            _ if self.is_answer => Some(receiver.protocol.clone()).filter(|known| !known.is_empty()),
            Some(Transport::Protocol(protocol)) => Some((*protocol).to_owned()),
            _ => None,
        }
        .filter(|protocol| *protocol != section.protocol)
    }

    /// The whole description for its receiver.
    pub(crate) fn write(&self, changes: &[MediaChange], outgoing: &mut sdp::Outgoing) -> String {
        let has_ice = self.body.media.iter().any(|section| section.attribute("ice-ufrag").is_some());
        if has_ice {
            self.relaying.counters.ice_removed.increment();
        }
        sdp::write(self.body, changes, self.wishes.replace, outgoing)
    }
}

/// Our ports of a media description, as they are bound.
pub(crate) fn ports(slot: &Slot) -> impl Iterator<Item = SocketAddr> {
    Side::BOTH.into_iter().filter_map(|side| slot.local(side))
}

/// Where what arrives at them goes on to.
fn ways(slot: &Slot) -> Vec<Way> {
    let way = |side: Side| {
        let (bound, advertised) = (slot.local(side)?, slot.advertised(side)?);
        Some(Way { bound, advertised, target: slot.leg(side.other()).rtp })
    };
    Side::BOTH.into_iter().filter_map(way).collect()
}

/// What the party says of itself is what we do the other way round.
const fn mirrored(direction: Direction) -> Direction {
    match direction {
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        other => other,
    }
}

/// The zero address of the same family: the hold of RFC 2543.
fn zero(address: IpAddr) -> IpAddr {
    if address.is_ipv6() { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) }
}
