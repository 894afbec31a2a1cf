//! Which way each peer is, asked for when it is new and again when routes may have changed.

use std::net::IpAddr;
use std::time::Instant;

use super::{Control, RECHECKS_PER_TURN};
use crate::netlink::Route;
use crate::next_hop::peers::PeerRoute;
use crate::next_hop::sources::MAX_SOURCES;

impl Control {
    pub(super) fn route(&mut self, ip: IpAddr) -> PeerRoute {
        let route = self.route_from(None, ip);
        let Some(sources) = &self.sources else { return route };
        // Rules choose by the source: it is one way only if it is the same from each address of the interface.
        let sources: Vec<_> = sources.iter().copied().filter(|it| it.is_ipv4() == ip.is_ipv4()).collect();
        if sources.len() > MAX_SOURCES {
            return PeerRoute::Elsewhere;
        }
        let mut ways = sources.into_iter().map(|source| self.route_from(Some(source), ip));
        let Some(first) = ways.next() else { return route };
        if !ways.all(|way| way.neighbour() == first.neighbour()) {
            return PeerRoute::Elsewhere;
        }
        // The kernel's own choice of a source, if it leads the same way.
        if route.neighbour() == first.neighbour() { route } else { first }
    }

    pub(super) fn route_from(&mut self, source: Option<IpAddr>, ip: IpAddr) -> PeerRoute {
        let route = self.netlink.route_from(source, ip, self.links.interface).unwrap_or_else(|_| {
            self.shared.counters.next_hop_errors.increment();
            Route::Unreachable
        });
        PeerRoute::new(ip, route, &self.links)
    }

    /// Finds out whether the source address matters, and which there are.
    pub(super) fn ask_rules(&mut self) {
        let Self { netlink, links, .. } = self;
        let sources = netlink.routes_by_source().and_then(|by_source| {
            let addresses = if by_source { netlink.addresses()? } else { return Ok(None) };
            let ours = addresses.into_iter().filter(|address| links.carrier(address.interface).is_some());
            let ours = ours.map(|address| address.ip);
            // A link-local address is the source for its link only.
            Ok(Some(ours.filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())).collect()))
        });
        match sources {
            Ok(sources) => self.sources = sources,
            Err(_) => self.shared.counters.next_hop_errors.increment(),
        }
        self.shared.sources.publish(self.sources.as_deref());
    }

    pub(super) fn queue(&mut self, concerned: impl Fn(IpAddr) -> bool) {
        for (ip, peer) in &mut self.peers {
            if !peer.queued && concerned(*ip) {
                peer.queued = true;
                self.recheck.push_back(*ip);
            }
        }
    }

    /// Asks for routes again; returns whether there are more to ask for.
    pub(super) fn recheck(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..RECHECKS_PER_TURN {
            let Some(ip) = self.recheck.pop_front() else { return false };
            let route = self.route(ip);
            let Some(peer) = self.peers.get_mut(&ip) else { continue };
            peer.queued = false;
            if peer.route != route {
                let former = std::mem::replace(&mut peer.route, route).neighbour();
                if former != route.neighbour() {
                    peer.learned = None;
                }
                if let Some(key) = route.neighbour() {
                    self.track(key, now);
                }
                if let Some(key) = former {
                    self.untrack(key);
                }
            }
            self.publish(ip);
        }
        !self.recheck.is_empty()
    }
}
