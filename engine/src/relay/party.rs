//! What a relay knows of one party, apart from what every packet needs; and its RTCP.

use std::net::SocketAddr;

use super::reception::History;
use super::rtcp::Translation;
use super::taps::Keys;
use super::{Relay, RelayFlow, RelayLeg, RelayTransmit, Side, permission};
use crate::rtp::rtcp::Compound;
use crate::source::{SilentPeerGuard, SourceFilter};
use crate::stream::{Component, Refusal, Refusals};
use crate::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Party {
    pub(super) history: History,
    pub(super) filter: SourceFilter,
    pub(super) guard: SilentPeerGuard,
    /// Where valid RTCP came from last, and when.
    rtcp_source: Option<SocketAddr>,
    pub(super) rtcp_seen: Instant,
    pub(super) received_rtcp: u64,
    pub(super) sent_rtcp: u64,
    pub(super) keys: Keys,
    pub(super) refusals: Refusals,
    pub(super) latched_news: bool,
    /// What the device has been told about the RTP port.
    pub(super) connected: Option<SocketAddr>,
    /// What the kernel forwards.
    pub(super) flow: Option<RelayFlow>,
    /// The payload type that comes up although the kernel forwards, and how often in a row.
    pub(super) beside_type: (u8, u8),
    /// Packets that came up although they are of those that the kernel forwards.
    pub(super) beside: u16,
    /// No try to promote before.
    pub(super) promote_after: Option<Instant>,
}

impl Party {
    /// From so many on the kernel is not doing what it was told to, and is told anew.
    pub(super) const MOST_BESIDE: u16 = 500;

    pub(super) fn new(leg: &RelayLeg, silent_peer_limit: Duration) -> Self {
        Self {
            history: History::default(),
            filter: SourceFilter::new(leg.source_policy, leg.remote_rtp),
            guard: SilentPeerGuard::new(silent_peer_limit, leg.remote_rtp),
            rtcp_source: None,
            rtcp_seen: Instant::ZERO,
            received_rtcp: 0,
            sent_rtcp: 0,
            keys: Keys::default(),
            refusals: Refusals::default(),
            latched_news: false,
            connected: None,
            flow: None,
            beside_type: (0, 0),
            beside: 0,
            promote_after: None,
        }
    }

    pub(super) fn update(&mut self, leg: &RelayLeg) {
        if self.filter.retarget(leg.source_policy, leg.remote_rtp) {
            self.guard.retarget(leg.remote_rtp.map(|remote| remote.ip()));
            self.rtcp_source = None;
            self.latched_news = false;
        }
        self.promote_after = None;
    }

    /// Whether the party now sends this payload type, other than before. If the kernel forwards, that takes some
    /// packets to tell.
    pub(super) fn changes_payload_type(&mut self, payload_type: u8) -> bool {
        let Some(flow) = &self.flow else { return true };
        if flow.payload_types >> payload_type & 1 == 1 {
            // A few were on their way when the kernel took over, or had to change its way.
            self.beside = self.beside.saturating_add(1);
            return self.beside == Self::MOST_BESIDE;
        }
        let (before, times) = self.beside_type;
        let times = if before == payload_type { times.saturating_add(1) } else { 1 };
        self.beside_type = (payload_type, times);
        times >= BESIDE_BEFORE_CHANGE
    }

    /// Symmetric RTP (RFC 4961): back to the source once it is known.
    pub(super) fn rtp_destination(&self, leg: &RelayLeg) -> Option<SocketAddr> {
        leg.remote_rtp.map(|signalled| self.filter.locked().unwrap_or(signalled))
    }

    fn rtcp_destination(&self, leg: &RelayLeg) -> Option<SocketAddr> {
        let signalled = leg.remote_rtcp?;
        if leg.rtcp_mux {
            return self.rtp_destination(leg);
        }
        let locked = self.filter.locked();
        let behind_nat = match (locked, leg.remote_rtp) {
            (Some(locked), Some(rtp)) => locked.ip() != rtp.ip().to_canonical(),
            _ => false,
        };
        let port = locked.and_then(|locked| locked.port().checked_add(1));
        match (self.rtcp_source, locked, port) {
            (Some(source), ..) => Some(source),
            (None, Some(locked), Some(port)) if behind_nat => Some(SocketAddr::new(locked.ip(), port)),
            // Another host than that of the media has to speak first.
            _ => leg.remote_rtp.filter(|rtp| rtp.ip() == signalled.ip()).and(Some(signalled)),
        }
    }
}

impl Relay {
    /// RTCP of one party goes on to the other, however each has its ports. It flows on hold, too.
    pub(super) fn handle_rtcp(
        &mut self,
        now: Instant,
        side: Side,
        remote: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<RelayTransmit, Refusal> {
        let (own, other) = (side.index(), side.other().index());
        let leg = &self.parameters.legs[own];
        let party = &mut self.parties[own];
        if !party.filter.believes_rtcp(remote, leg.remote_rtcp) {
            return Err(Refusal::RtcpStranger);
        }
        Compound::parse(datagram)?;
        party.rtcp_source = Some(remote);
        (party.received_rtcp, party.rtcp_seen) = (party.received_rtcp + 1, now);
        // As in a stream: a report proves that somebody is there, but only at the host that it comes from.
        let media = party.rtp_destination(leg).map(|media| media.ip().to_canonical());
        if media.is_none_or(|media| media == remote.ip().to_canonical()) {
            self.handle_heard(side, now, remote);
        }
        let leg = &self.parameters.legs[other];
        let party = &self.parties[other];
        let rtp = party.rtp_destination(leg).ok_or(Refusal::NoDestination)?;
        let remote = party.rtcp_destination(leg).ok_or(Refusal::NoDestination)?;
        permission(party.guard.may_send_to(now, rtp))?;
        permission(party.guard.may_send_to(now, remote))?;
        let translation = Translation {
            sent: self.parameters.legs[own].rewriting,
            heard: leg.rewriting,
            heard_ssrc: self.directions[other].route.ssrc,
        };
        if !translation.is_identity() {
            translation.apply(datagram);
        }
        let component = if leg.rtcp_mux { Component::Rtp } else { Component::Rtcp };
        let party = &mut self.parties[other];
        party.guard.handle_sent(now);
        party.sent_rtcp += 1;
        Ok(RelayTransmit { side: side.other(), component, remote, len: datagram.len() })
    }
}

/// Packets of another payload type that end the kernel's work.
const BESIDE_BEFORE_CHANGE: u8 = 10;
