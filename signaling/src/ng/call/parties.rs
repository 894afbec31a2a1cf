//! Who is in a call and who talks with whom: parties by their tags and branches, and their dialogues.

use std::time::SystemTime;

use super::dialogue::Dialogue;
use crate::exchange::sdp::Outgoing;

/// Names a party for the life of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartyId(u32);

/// One side of a dialogue.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) id: PartyId,
    /// `None` until it has answered.
    pub(super) tag: Option<String>,
    /// Tags that its answers came with, too.
    pub(super) aliases: Vec<String>,
    pub(super) via_branch: Option<String>,
    pub(super) created: SystemTime,
    /// What it has been told in `o=` and `s=`.
    pub(super) outgoing: Outgoing,
}

impl Party {
    fn has_tag(&self, tag: &str) -> bool {
        self.tag.as_deref() == Some(tag) || self.aliases.iter().any(|alias| alias == tag)
    }

    fn has_branch(&self, via_branch: Option<&str>) -> bool {
        via_branch.is_some() && self.via_branch.as_deref() == via_branch
    }
}

/// Everybody in a call.
#[derive(Debug, Default)]
pub(super) struct Parties {
    pub(super) parties: Vec<Party>,
    /// Oldest first.
    pub(super) dialogues: Vec<Dialogue>,
    last_id: u32,
}

/// Who sends a description to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) sender: PartyId,
    pub(super) receiver: PartyId,
}

/// How the parties of a description are named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Naming<'a> {
    /// The tag of who sends it.
    pub(super) sender: &'a str,
    /// The tag of who gets it, if known.
    pub(super) receiver: Option<&'a str>,
    pub(super) via_branch: Option<&'a str>,
    /// It is an answer, and another tag in it may be the same party's.
    pub(super) may_alias: bool,
}

/// Why nobody could be found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::ng) enum PartyError {
    #[error("Invalid dialogue association")]
    SameParty,
    #[error("Too many branches in one call")]
    TooMany,
}

impl Parties {
    /// The parties of a description, made where they are new (forks, answers, re-pairing after transfers).
    pub(super) fn associate(&mut self, naming: Naming<'_>, now: SystemTime) -> Result<Pair, PartyError> {
        let sender = self.by_tag(naming.sender);
        let receiver = naming.receiver.and_then(|tag| self.by_tag(tag));
        let (sender, receiver) = match (sender, receiver) {
            (Some(sender), Some(receiver)) if sender == receiver => return Err(PartyError::SameParty),
            (Some(sender), Some(receiver)) => (sender, receiver),
            (None, Some(receiver)) => (self.answering(naming, receiver, now)?, receiver),
            (None, None) => {
                (self.make(Some(naming.sender), None, now)?, self.make(None, naming.via_branch, now)?)
            }
            (Some(sender), None) => {
                let known = if naming.receiver.is_some() {
                    None
                } else if naming.via_branch.is_some() {
                    self.by_branch(naming.via_branch, sender)
                } else {
                    self.peer(sender)
                };
                let receiver = match known {
                    Some(known) => known,
                    None => self.make(None, naming.via_branch, now)?,
                };
                (sender, receiver)
            }
        };
        if self.dialogue_index(sender, receiver).is_none() {
            self.dialogues.push(Dialogue::new([sender, receiver]));
        }
        Ok(Pair { sender, receiver })
    }

    /// Whom an unknown tag belongs to that talks to `receiver`.
    fn answering(
        &mut self,
        naming: Naming<'_>,
        receiver: PartyId,
        now: SystemTime,
    ) -> Result<PartyId, PartyError> {
        let found = self.by_branch(naming.via_branch, receiver).or_else(|| self.first_peer(receiver));
        let is_final = found
            .and_then(|found| self.dialogue_index(found, receiver))
            .and_then(|index| self.dialogues.get(index))
            .is_some_and(|dialogue| dialogue.is_final);
        if let Some(party) = self.parties.iter_mut().find(|party| Some(party.id) == found) {
            if party.tag.is_none() {
                party.tag = Some(naming.sender.to_owned());
                return Ok(party.id);
            }
            // An early answer of another phone behind the same branch.
            if naming.may_alias && !is_final && party.aliases.len() < MAX_ALIASES {
                party.aliases.push(naming.sender.to_owned());
                return Ok(party.id);
            }
        }
        self.make(Some(naming.sender), naming.via_branch, now)
    }

    fn make(
        &mut self,
        tag: Option<&str>,
        via_branch: Option<&str>,
        now: SystemTime,
    ) -> Result<PartyId, PartyError> {
        if self.parties.len() >= MAX_PARTIES {
            return Err(PartyError::TooMany);
        }
        self.last_id += 1;
        let id = PartyId(self.last_id);
        self.parties.push(Party {
            id,
            tag: tag.map(str::to_owned),
            aliases: Vec::new(),
            via_branch: via_branch.map(str::to_owned),
            created: now,
            outgoing: Outgoing::default(),
        });
        Ok(id)
    }

    pub(super) fn party(&self, id: PartyId) -> Option<&Party> {
        self.parties.iter().find(|party| party.id == id)
    }

    pub(super) fn party_mut(&mut self, id: PartyId) -> Option<&mut Party> {
        self.parties.iter_mut().find(|party| party.id == id)
    }

    pub(super) fn by_tag(&self, tag: &str) -> Option<PartyId> {
        self.parties.iter().find(|party| party.has_tag(tag)).map(|party| party.id)
    }

    /// The party of a branch, other than `besides`.
    fn by_branch(&self, via_branch: Option<&str>, besides: PartyId) -> Option<PartyId> {
        self.parties
            .iter()
            .find(|party| party.id != besides && party.has_branch(via_branch))
            .map(|party| party.id)
    }

    /// Whom a party talks with now: the latest.
    fn peer(&self, party: PartyId) -> Option<PartyId> {
        self.dialogues.iter().rev().find_map(|dialogue| dialogue.peer_of(party))
    }

    /// Whom a party began to talk with; of those the first that has no tag yet.
    fn first_peer(&self, party: PartyId) -> Option<PartyId> {
        let peers = || self.dialogues.iter().filter_map(move |dialogue| dialogue.peer_of(party));
        let untagged = peers().find(|&peer| self.party(peer).is_some_and(|peer| peer.tag.is_none()));
        untagged.or_else(|| peers().next())
    }

    /// All whom a party talks with.
    pub(super) fn peers(&self, party: PartyId) -> impl Iterator<Item = PartyId> {
        self.dialogues.iter().filter_map(move |dialogue| dialogue.peer_of(party))
    }

    /// The place of a dialogue in the list.
    pub(super) fn dialogue_index(&self, one: PartyId, other: PartyId) -> Option<usize> {
        self.dialogues.iter().position(|dialogue| dialogue.peer_of(one) == Some(other))
    }

    /// The party that a delete means; `None` when nobody fits. The to-tag comes only if it counts.
    pub(super) fn to_delete(
        &self,
        from_tag: &str,
        to_tag: Option<&str>,
        via_branch: Option<&str>,
    ) -> Option<PartyId> {
        let by_branch =
            || self.parties.iter().find(|party| party.has_branch(via_branch)).map(|party| party.id);
        if to_tag.is_none()
            && let Some(party) = by_branch()
        {
            return Some(party);
        }
        if let Some(party) = self.by_tag(to_tag.unwrap_or(from_tag)) {
            return Some(party);
        }
        by_branch().or_else(|| {
            // The callee's tag is unknown because it never answered, so it is the caller who gives up.
            let from = self.by_tag(from_tag).filter(|_| to_tag.is_some())?;
            let mut peers = self.peers(from);
            let only = peers.next().filter(|_| peers.next().is_none())?;
            self.party(only)?.tag.is_none().then_some(from)
        })
    }

    /// Takes a party out with its dialogues, and everybody who then talks with nobody. The dialogues come back.
    pub(super) fn remove(&mut self, party: PartyId) -> Vec<Dialogue> {
        let (removed, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dialogues).into_iter().partition(|dialogue| dialogue.has(party));
        self.dialogues = kept;
        let dialogues = &self.dialogues;
        self.parties
            .retain(|known| known.id != party && dialogues.iter().any(|dialogue| dialogue.has(known.id)));
        removed
    }
}

/// Parties in one call: a ring group and its forks.
const MAX_PARTIES: usize = 32;
const MAX_ALIASES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn offer<'a>(sender: &'a str, receiver: Option<&'a str>, via_branch: Option<&'a str>) -> Naming<'a> {
        Naming { sender, receiver, via_branch, may_alias: false }
    }

    /// As an answer is named: its sender is the to-tag.
    fn answer<'a>(from: &'a str, to: &'a str, via_branch: Option<&'a str>) -> Naming<'a> {
        Naming { sender: to, receiver: Some(from), via_branch, may_alias: true }
    }

    fn associate(parties: &mut Parties, naming: Naming<'_>) -> Pair {
        parties.associate(naming, SystemTime::UNIX_EPOCH).expect("an association")
    }

    #[test]
    fn an_answer_names_the_peer_that_the_offer_made() {
        let mut parties = Parties::default();
        let offered = associate(&mut parties, offer("a", None, None));
        let answered = associate(&mut parties, answer("a", "b", None));
        assert_eq!((answered.sender, answered.receiver), (offered.receiver, offered.sender));
        assert_eq!(associate(&mut parties, offer("a", Some("b"), None)), offered);
        assert_eq!(associate(&mut parties, offer("b", Some("a"), None)), answered);
        assert_eq!(associate(&mut parties, offer("a", None, None)), offered, "a re-offer without a to-tag");
        assert_eq!((parties.parties.len(), parties.dialogues.len()), (2, 1));
    }

    #[test]
    fn each_branch_has_its_own_peer() {
        let mut parties = Parties::default();
        let one = associate(&mut parties, offer("a", None, Some("v1")));
        let two = associate(&mut parties, offer("a", None, Some("v2")));
        assert_eq!(one.sender, two.sender);
        assert_ne!(one.receiver, two.receiver);
        assert_eq!(associate(&mut parties, answer("a", "b2", Some("v2"))).sender, two.receiver);
        assert_eq!(associate(&mut parties, answer("a", "b1", Some("v1"))).sender, one.receiver);
        assert_eq!(associate(&mut parties, offer("a", None, Some("v1"))), one, "the same branch again");
    }

    #[test]
    fn another_tag_in_an_early_answer_is_the_same_peers() {
        let mut parties = Parties::default();
        let offered = associate(&mut parties, offer("a", None, None));
        associate(&mut parties, answer("a", "b1", None));
        assert_eq!(associate(&mut parties, answer("a", "b2", None)).sender, offered.receiver);
        assert_eq!(parties.by_tag("b1"), parties.by_tag("b2"));
        let index = parties.dialogue_index(offered.sender, offered.receiver).expect("a dialogue");
        parties.dialogues[index].is_final = true;
        assert_ne!(associate(&mut parties, answer("a", "b3", None)).sender, offered.receiver);
    }

    #[test]
    fn nobody_talks_with_themselves() {
        let mut parties = Parties::default();
        associate(&mut parties, offer("a", None, None));
        let error = parties.associate(offer("a", Some("a"), None), SystemTime::UNIX_EPOCH);
        assert_eq!(error, Err(PartyError::SameParty));
    }

    #[test]
    fn branches_are_bounded() {
        let mut parties = Parties::default();
        let branches: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        let made = branches.iter().take_while(|branch| {
            parties.associate(offer("a", None, Some(branch)), SystemTime::UNIX_EPOCH).is_ok()
        });
        assert_eq!(made.count(), MAX_PARTIES - 1);
    }

    #[test]
    fn deleting_a_fork_leaves_the_others_and_deleting_the_caller_ends_all() {
        let mut parties = Parties::default();
        associate(&mut parties, offer("a", None, Some("v1")));
        associate(&mut parties, offer("a", None, Some("v2")));
        let fork = parties.to_delete("a", None, Some("v2")).expect("the fork");
        assert_eq!(parties.remove(fork).len(), 1);
        assert_eq!((parties.parties.len(), parties.dialogues.len()), (2, 1));
        let caller = parties.to_delete("a", None, None).expect("the caller");
        assert_eq!(parties.remove(caller).len(), 1);
        assert!(parties.parties.is_empty() && parties.dialogues.is_empty());
    }

    #[test]
    fn a_delete_finds_its_party_by_the_tag_that_counts() {
        let mut parties = Parties::default();
        let pair = associate(&mut parties, offer("a", None, None));
        assert_eq!(parties.to_delete("a", Some("b"), None), Some(pair.sender), "never answered");
        associate(&mut parties, answer("a", "b", None));
        assert_eq!(parties.to_delete("a", Some("b"), None), Some(pair.receiver));
        assert_eq!(parties.to_delete("a", Some("c"), None), None);
        assert_eq!(parties.to_delete("x", None, None), None);
        assert_eq!(parties.to_delete("b", None, None), Some(pair.receiver));
    }
}
