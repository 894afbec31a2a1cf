//! What the device is told about a relay: whom each port talks to, and what the kernel may forward by itself.

use std::net::SocketAddr;

use super::party::Party;
use super::route::NO_PAYLOAD_TYPE;
use super::{Direction, FlowChange, KernelCounters, Relay, RelayFlow, Side};
use crate::stream::Refusal;
use crate::time::Duration;

impl Relay {
    /// What to tell the device about a party's RTP port, if that is new: its only remote address once that can no
    /// longer be disputed, or anybody.
    #[must_use]
    pub fn poll_connect(&mut self, side: Side) -> Option<Option<SocketAddr>> {
        let party = &mut self.parties[side.index()];
        let settled = party.filter.locked().filter(|_| party.filter.is_settled(self.now));
        (settled != party.connected).then(|| {
            party.connected = settled;
            settled
        })
    }

    /// What to tell the device about a party's packets, if that is new. It is answered with
    /// [`Relay::handle_promoted`], [`Relay::handle_unpromoted`] or [`Relay::handle_demoted`].
    #[must_use]
    pub fn poll_flow(&self, side: Side) -> Option<FlowChange> {
        let party = &self.parties[side.index()];
        let wanted = self.flow(side);
        match party.flow {
            Some(flow) if wanted != Some(flow) => Some(FlowChange::Demote),
            None if party.promote_after.is_none_or(|after| after <= self.now) => {
                wanted.map(FlowChange::Promote)
            }
            _ => None,
        }
    }

    /// The kernel forwards `side`'s packets from now on.
    pub fn handle_promoted(&mut self, side: Side, flow: RelayFlow) {
        let party = &mut self.parties[side.index()];
        (party.flow, party.beside_type, party.beside) = (Some(flow), (0, 0), 0);
        self.refresh();
    }

    /// The kernel does not, but may be asked again `after` some time.
    pub fn handle_unpromoted(&mut self, side: Side, after: Duration) {
        self.parties[side.index()].promote_after = Some(self.now + after);
    }

    /// The kernel no longer forwards `side`'s packets; its last figures.
    pub fn handle_demoted(&mut self, side: Side, kernel: Option<KernelCounters>) {
        let party = &mut self.parties[side.index()];
        (party.flow, party.beside) = (None, 0);
        let Direction { route, reception } = &mut self.directions[side.index()];
        reception.absorb(&kernel.unwrap_or_default(), &mut route.ssrc, &mut party.history);
        if let Some(kernel) = kernel {
            party.refusals.add_many(Refusal::Stranger, kernel.strangers);
        }
        // A party that changes to and fro is not followed with every packet.
        party.promote_after = Some(self.now + DEMOTED_FOR);
        self.refresh();
    }

    /// Whether the kernel forwards `side`'s packets.
    #[must_use]
    pub fn is_promoted(&self, side: Side) -> bool {
        self.parties[side.index()].flow.is_some()
    }

    /// What the kernel may do for `side`: nothing before both parties are settled, have answered, and what
    /// comes needs no look.
    fn flow(&self, side: Side) -> Option<RelayFlow> {
        let parameters = &self.parameters;
        let is_settled = |side: Side| {
            let (leg, party) = (&parameters.legs[side.index()], &self.parties[side.index()]);
            party.filter.is_settled(self.now) && party.guard.is_heard() && leg.direction.receives()
        };
        // One that has fallen silent is watched until it is heard again.
        if !parameters.in_kernel
            || self.silence_reported
            || self.parties[side.index()].beside >= Party::MOST_BESIDE
            || self.hears_audio()
            || !Side::BOTH.into_iter().all(is_settled)
            || !Side::BOTH.into_iter().all(|side| parameters.legs[side.index()].direction.sends())
        {
            return None;
        }
        let leg = &parameters.legs[side.index()];
        let payload_types = leg.receive.untouched(!parameters.taps.telephone_events);
        let current = self.directions[side.index()].route.receive;
        if current == NO_PAYLOAD_TYPE || payload_types >> current & 1 == 0 {
            return None;
        }
        Some(RelayFlow {
            source: self.parties[side.index()].filter.locked()?,
            destination: self.destination(self.now, side.other()).ok()?,
            payload_types,
            rewriting: leg.rewriting,
        })
    }
}

/// How long a direction stays in user space after the kernel had to give it back by itself.
const DEMOTED_FOR: Duration = Duration::from_secs(1);
