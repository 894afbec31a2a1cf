//! What the thread keeps: the peers that were asked for, and the neighbours that they are reached by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::table::SlotIndex;
use super::{NextHop, Way};
use crate::netlink::{Link, Neighbour, NeighbourState, Route};
use crate::wire::{Hop, MacAddress};

/// A neighbour: the interface's index, and the address on its link.
pub(super) type NeighbourKey = (u32, IpAddr);

/// A remote address that a worker has asked for.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) slot: SlotIndex,
    pub(super) route: PeerRoute,
    /// The MAC that a frame of it came from, and when that was told.
    pub(super) learned: Option<(MacAddress, Instant)>,
    /// What the table says.
    pub(super) way: Way,
    /// Whether its route is to be asked for again.
    pub(super) queued: bool,
}

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerRoute {
    /// Not through our interface.
    Elsewhere,
    /// Through our interface, or a VLAN of it.
    Through { neighbour: NeighbourKey, source: Option<IpAddr> },
}

impl PeerRoute {
    pub(super) fn new(remote: IpAddr, route: Route, links: &Links) -> Self {
        match route {
            Route::Through { interface, gateway, source } if links.carrier(interface).is_some() => {
                Self::Through { neighbour: (interface, gateway.unwrap_or(remote)), source }
            }
            _ => Self::Elsewhere,
        }
    }

    pub(super) const fn neighbour(&self) -> Option<NeighbourKey> {
        match self {
            Self::Elsewhere => None,
            Self::Through { neighbour, .. } => Some(*neighbour),
        }
    }
}

impl Peer {
    /// What the table should say.
    pub(super) fn current(&self, links: &Links, neighbours: &HashMap<NeighbourKey, Tracked>) -> Way {
        let PeerRoute::Through { neighbour, source } = self.route else { return Way::Elsewhere };
        let Some(carrier) = links.carrier(neighbour.0) else { return Way::Elsewhere };
        if !carrier.up {
            return Way::Elsewhere;
        }
        let Some(tracked) = neighbours.get(&neighbour) else { return Way::Unknown };
        let learned = self.learned.map(|(mac, _)| mac);
        let Some(destination_mac) = tracked.mac.or(learned) else {
            return if tracked.is_hopeless() { Way::Elsewhere } else { Way::Unknown };
        };
        let hop = Hop { source_mac: carrier.mac, destination_mac, vlan: carrier.vlan };
        Way::Known(NextHop { hop, interface: links.interface, source })
    }
}

/// The interfaces of this namespace.
#[derive(Debug)]
pub(super) struct Links {
    /// Ours.
    pub(super) interface: u32,
    pub(super) by_index: HashMap<u32, Link>,
}

/// An interface whose packets leave through ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) mac: MacAddress,
    pub(super) vlan: Option<u16>,
    pub(super) up: bool,
}

impl Links {
    /// `None` for other interfaces.
    pub(super) fn carrier(&self, index: u32) -> Option<Carrier> {
        let link = self.by_index.get(&index)?;
        let vlan = match link.vlan {
            _ if index == self.interface => None,
            Some(vlan) if vlan.parent == self.interface => Some(vlan.id),
            _ => return None,
        };
        Some(Carrier { mac: link.mac?, vlan, up: link.up })
    }

    /// Takes a link as it is now; returns whether the way of any packet may have changed.
    pub(super) fn update(&mut self, link: Link) -> bool {
        let facts = |link: &Link| (link.up, link.mac, link.vlan, link.mtu);
        let now = facts(&link);
        self.by_index.insert(link.index, link).is_none_or(|former| facts(&former) != now)
    }
}

/// A neighbour that peers are reached by.
#[derive(Debug)]
pub(super) struct Tracked {
    /// The last MAC that the kernel knew.
    pub(super) mac: Option<MacAddress>,
    pub(super) state: NeighbourState,
    /// How many peers are reached by it.
    pub(super) peers: usize,
    /// Whether any of them was looked up in the last rounds.
    pub(super) in_use: bool,
    /// When the kernel was last asked to find it.
    asked: Option<Instant>,
    /// Since when it does not answer.
    failed: Option<Instant>,
    /// How often it was asked for since.
    attempts: u32,
}

impl Tracked {
    /// One that a first peer is reached by.
    pub(super) const fn new() -> Self {
        Self {
            mac: None,
            state: NeighbourState::Incomplete,
            peers: 1,
            in_use: true,
            asked: None,
            failed: None,
            attempts: 0,
        }
    }

    /// Takes what the kernel says; returns whether its peers' ways may have changed.
    pub(super) fn update(&mut self, heard: &Neighbour, now: Instant) -> bool {
        let former = (self.mac, self.is_hopeless());
        self.state = heard.state;
        if heard.mac.is_some() {
            self.mac = heard.mac;
            self.failed = None;
            self.attempts = 0;
            if heard.state == NeighbourState::Reachable {
                // Once it goes stale, it is verified again.
                self.asked = None;
            }
        } else if heard.state == NeighbourState::Failed && self.failed.is_none() {
            self.failed = Some(now);
            // Its MAC may have changed: that is found by asking everyone, at once.
            self.asked = None;
        }
        former != (self.mac, self.is_hopeless())
    }

    /// The kernel has forgotten it, or the link was down.
    pub(super) fn forgotten(&mut self) {
        self.state = NeighbourState::Incomplete;
        self.asked = None;
    }

    /// Gives up the MAC of a neighbour that has not answered for [`KEPT`]; returns whether it did.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        let over = self.failed.is_some_and(|since| now.duration_since(since) >= KEPT);
        over && self.mac.take().is_some()
    }

    /// Whether the kernel should be asked to find or verify it now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let again = match self.state {
            NeighbourState::Reachable | NeighbourState::Fixed => return false,
            // It is verified five seconds after it was asked for (delay_first_probe_time).
            NeighbourState::Stale | NeighbourState::Verifying => Duration::from_secs(10),
            NeighbourState::Incomplete | NeighbourState::Failed => {
                Duration::from_secs(1 << self.attempts.min(5))
            }
        };
        self.in_use && self.asked.is_none_or(|asked| now.duration_since(asked) >= again)
    }

    pub(super) const fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Whether no MAC is to be expected.
    const fn is_hopeless(&self) -> bool {
        self.mac.is_none() && (self.failed.is_some() || matches!(self.state, NeighbourState::Fixed))
    }
}

/// How long the MAC of a neighbour is used that has stopped to answer: as long as the kernel takes to ask everyone
/// three times.
const KEPT: Duration = Duration::from_secs(4);
