//! What the kernel tells: links, neighbours, and that something has changed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::{Control, EVENTS_PER_TURN};
use crate::netlink::{Event, Link, Neighbour};
use crate::next_hop::table;

impl Control {
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        let mut heard = Vec::new();
        let result = self.events.receive(EVENTS_PER_TURN, |event| heard.push(event));
        for event in heard {
            self.handle(event, now);
        }
        result.unwrap_or_else(|_| {
            self.shared.counters.next_hop_errors.increment();
            false
        })
    }

    pub(super) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Link(link) => self.link_is(link),
            Event::LinkGone(index) => {
                if index == self.links.interface {
                    self.die();
                }
                if self.links.by_index.remove(&index).is_some() {
                    self.link_changed(index);
                }
            }
            Event::Routes(prefix) => self.queue(|ip| prefix.contains(ip)),
            Event::Address(_) | Event::AddressGone(_) => {
                // Whoever sends from an address looks again whether it is still there.
                (self.changed, self.addresses_changed) = (true, true);
                self.ask_rules();
                self.queue(|_| true);
            }
            Event::Rules => {
                self.changed = true;
                self.ask_rules();
                self.queue(|_| true);
            }
            Event::Neighbour(neighbour) => self.neighbour_is(&neighbour, now),
            Event::NeighbourGone(Neighbour { interface, ip, .. }) => {
                let key = (interface, ip);
                if let Some(tracked) = self.neighbours.get_mut(&key) {
                    tracked.forgotten();
                    self.urgent.push(key);
                }
            }
            Event::Lost => {
                self.shared.counters.next_hop_events_lost.increment();
                self.start_over(now);
            }
        }
    }

    /// Asks for everything again.
    pub(super) fn start_over(&mut self, now: Instant) {
        match self.netlink.links() {
            Ok(links) => {
                self.links.by_index = links.into_iter().map(|link| (link.index, link)).collect();
                if !self.links.by_index.contains_key(&self.links.interface) {
                    self.die();
                }
                self.publish_link();
            }
            Err(_) => self.shared.counters.next_hop_errors.increment(),
        }
        for key in self.neighbours.keys().copied().collect::<Vec<_>>() {
            self.ask_neighbour(key, now);
        }
        self.ask_rules();
        (self.changed, self.addresses_changed) = (true, true);
        self.publish_all();
        self.queue(|_| true);
    }

    pub(super) fn link_is(&mut self, link: Link) {
        let index = link.index;
        if self.links.update(link) {
            self.link_changed(index);
        }
    }

    pub(super) fn link_changed(&mut self, index: u32) {
        self.publish_link();
        self.addresses_changed = true;
        if index == self.links.interface || self.links.carrier(index).is_some() {
            self.changed = true;
        }
        // What is behind a link that went down and up is asked for again.
        for (key, tracked) in self.neighbours.iter_mut().filter(|(key, _)| key.0 == index) {
            tracked.forgotten();
            self.urgent.push(*key);
        }
        self.publish_all();
        // The kernel does not tell of the IPv4 routes that go with a link.
        self.queue(|_| true);
    }

    /// Writes what is known of our interface.
    pub(super) fn publish_link(&self) {
        let Some(link) = self.links.by_index.get(&self.links.interface) else { return };
        let up = link.up && self.shared.alive.load(Ordering::Relaxed);
        self.shared.up.store(up, Ordering::Release);
        self.shared.mtu.store(link.mtu, Ordering::Relaxed);
        if let Some(mac) = link.mac {
            self.shared.mac.store(table::from_mac(mac), Ordering::Relaxed);
        }
    }

    /// Tells who must know the addresses of this host, if there is somebody.
    pub(super) fn tell_addresses(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut keeper = shared.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(keeper) = keeper.as_mut() else { return };
        (self.addresses_changed, self.addresses_failed) = (false, false);
        let mac = table::to_mac(shared.mac.load(Ordering::Relaxed));
        let told = self.netlink.addresses().and_then(|addresses| {
            let ips: Vec<_> = addresses.into_iter().map(|address| address.ip).collect();
            keeper.addresses_are(&ips, mac)
        });
        if told.is_err() {
            shared.counters.next_hop_errors.increment();
            self.addresses_failed = true;
        }
    }

    /// The interface or its program is gone.
    pub(super) fn die(&mut self) {
        self.shared.alive.store(false, Ordering::Release);
        self.shared.up.store(false, Ordering::Release);
        self.changed = true;
    }

    pub(super) fn watch(&mut self) {
        if !self.shared.alive.load(Ordering::Relaxed) {
            return;
        }
        // Read first: who expects a program has attached it before.
        let program = self.shared.program.load(Ordering::Acquire);
        match self.netlink.link_with_drops(self.links.interface) {
            Ok(Some((link, dropped))) => {
                self.shared.transmit_dropped.store(dropped, Ordering::Relaxed);
                if program != 0 && !link.has_program(program) {
                    self.die();
                }
                self.link_is(link);
            }
            Ok(None) => self.die(),
            Err(_) => self.shared.counters.next_hop_errors.increment(),
        }
    }

    pub(super) fn neighbour_is(&mut self, heard: &Neighbour, now: Instant) {
        let key = (heard.interface, heard.ip);
        let Some(tracked) = self.neighbours.get_mut(&key) else { return };
        let changed = tracked.update(heard, now);
        self.urgent.push(key);
        if changed {
            self.publish_neighbour(key);
        }
    }
}
