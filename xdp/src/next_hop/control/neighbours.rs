//! The neighbours that peers are reached by: asked for, kept fresh, given up.

use std::time::Instant;

use super::Control;
use crate::netlink::NeighbourState;
use crate::next_hop::peers::{NeighbourKey, Tracked};

impl Control {
    /// One more peer is reached by a neighbour.
    pub(super) fn track(&mut self, key: NeighbourKey, now: Instant) {
        if let Some(tracked) = self.neighbours.get_mut(&key) {
            tracked.peers += 1;
            return;
        }
        self.neighbours.insert(key, Tracked::new());
        self.ask_neighbour(key, now);
        self.resolve_if_due(key, now);
    }

    pub(super) fn untrack(&mut self, key: NeighbourKey) {
        let Some(tracked) = self.neighbours.get_mut(&key) else { return };
        tracked.peers -= 1;
        if tracked.peers == 0 {
            self.neighbours.remove(&key);
        }
    }

    /// Asks what the kernel knows; returns whether that changes the way of a peer.
    pub(super) fn ask_neighbour(&mut self, key: NeighbourKey, now: Instant) -> bool {
        let Some(tracked) = self.neighbours.get_mut(&key) else { return false };
        match self.netlink.neighbour(key.0, key.1) {
            Ok(Some(neighbour)) => return tracked.update(&neighbour, now),
            Ok(None) => tracked.state = NeighbourState::Incomplete,
            Err(_) => self.shared.counters.next_hop_errors.increment(),
        }
        false
    }

    pub(super) fn resolve_if_due(&mut self, key: NeighbourKey, now: Instant) {
        let is_due = |tracked: &Tracked| tracked.is_due(now);
        if !self.neighbours.get(&key).is_some_and(is_due) || !self.resolve_limit.take(now) {
            return;
        }
        // It may be known by now, without an event that says so.
        if self.ask_neighbour(key, now) {
            self.publish_neighbour(key);
        }
        let Some(tracked) = self.neighbours.get_mut(&key).filter(|tracked| is_due(tracked)) else { return };
        tracked.asked(now);
        match self.netlink.resolve(key.0, key.1) {
            Ok(()) => self.shared.counters.next_hop_refreshed.increment(),
            // Without the privilege, the kernel's socket finds it when it sends what has no known next hop.
            Err(_) => self.shared.counters.next_hop_errors.increment(),
        }
    }
}
