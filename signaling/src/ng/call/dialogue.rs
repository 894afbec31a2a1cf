//! Two parties and the media between them.

use engine::relay::Side;

use super::parties::PartyId;
use crate::exchange::Exchange;
use crate::media::MediaRelay;

/// Two parties that exchange offers and answers.
#[derive(Debug)]
pub(super) struct Dialogue {
    /// By [`Side::index`]: who made the first offer, and who got it.
    parties: [PartyId; 2],
    /// What is between them.
    pub(super) exchange: Exchange,
    /// An answer was the last word (a final SIP response), so another tag is another party.
    pub(super) is_final: bool,
}

impl Dialogue {
    pub(super) fn new(parties: [PartyId; 2]) -> Self {
        Self { parties, exchange: Exchange::default(), is_final: false }
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
        self.exchange.relays()
    }
}
