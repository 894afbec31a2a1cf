//! Media that would come back to where it started.
//!
//! Calls may pass through this server twice, so one relay may send to another. But a ring of relays would send a
//! packet round for ever, and whoever writes SDP could make one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::media::is_local;

/// Where each of our ports sends what it receives.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    known: Mutex<Known>,
}

/// A port of ours and where it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// What its socket is bound to; may be every address of this host.
    pub(crate) bound: SocketAddr,
    /// What peers are told, which may be a router's address.
    pub(crate) advertised: SocketAddr,
    /// Where what arrives goes on to, once that is known.
    pub(crate) target: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct Known {
    /// By what they are bound to: what they are told as, and where they send.
    ways: HashMap<SocketAddr, (SocketAddr, SocketAddr)>,
    /// From what peers are told to what it is bound to.
    names: HashMap<SocketAddr, SocketAddr>,
}

impl Loops {
    /// Notes where what arrives at our ports goes on to. False, and nothing noted, if packets would come back to one
    /// of them.
    pub(crate) fn note(&self, ways: &[Way]) -> bool {
        let mut known = self.known();
        for way in ways {
            known.remove(way.bound);
            if let Some(target) = way.target {
                known.ways.insert(way.bound, (way.advertised, target));
                known.names.insert(way.advertised, way.bound);
            }
        }
        let is_ring = ways.iter().any(|way| known.returns(way.bound));
        if is_ring {
            ways.iter().for_each(|way| known.remove(way.bound));
        }
        !is_ring
    }

    /// Whether a target is a port of ours that sends on.
    pub(crate) fn know(&self, target: SocketAddr) -> bool {
        self.known().port(target).is_some()
    }

    /// Forgets ports, by what they are bound to.
    pub(crate) fn remove(&self, ports: impl IntoIterator<Item = SocketAddr>) {
        let mut known = self.known();
        ports.into_iter().for_each(|port| known.remove(port));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remove(&mut self, bound: SocketAddr) {
        if let Some((advertised, _)) = self.ways.remove(&bound)
            && self.names.get(&advertised) == Some(&bound)
        {
            self.names.remove(&advertised);
        }
    }

    /// The port of ours that hears what is sent to `target`, by what it is bound to.
    fn port(&self, target: SocketAddr) -> Option<SocketAddr> {
        if self.ways.contains_key(&target) {
            return Some(target);
        }
        if let Some(bound) = self.names.get(&target) {
            return Some(*bound);
        }
        let every = every_address(target);
        // The host is asked last: it takes a system call.
        (self.ways.contains_key(&every) && is_local(target.ip())).then_some(every)
    }

    fn returns(&self, port: SocketAddr) -> bool {
        let mut at = port;
        for _ in 0..LONGEST_CHAIN {
            let Some(&(_, target)) = self.ways.get(&at) else { return false };
            match self.port(target) {
                Some(next) if next == port => return true,
                Some(next) => at = next,
                None => return false,
            }
        }
        // Nobody chains so many relays in earnest.
        true
    }
}

/// The same port number on every address of this host.
fn every_address(target: SocketAddr) -> SocketAddr {
    let ip =
        if target.is_ipv6() { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, target.port())
}

const LONGEST_CHAIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// Told as it is bound.
    fn way(number: u16, target: Option<SocketAddr>) -> Way {
        Way { bound: port(number), advertised: port(number), target }
    }

    #[test]
    fn a_chain_of_relays_is_fine_and_a_ring_is_not() {
        let loops = Loops::default();
        let phone = SocketAddr::from(([192, 0, 2, 9], 4000));
        // From a phone through two relays to a phone.
        assert!(loops.note(&[way(10, Some(port(20))), way(12, Some(phone))]));
        assert!(loops.note(&[way(20, Some(phone)), way(22, Some(port(12)))]));
        // Whose far end is then told to be the near one.
        assert!(!loops.note(&[way(20, Some(port(10)))]));
        assert!(loops.note(&[way(20, Some(phone))]), "nothing of it is left");
    }

    #[test]
    fn a_relay_that_is_its_own_peer_is_a_ring() {
        let loops = Loops::default();
        assert!(!loops.note(&[way(10, Some(port(12))), way(12, Some(port(10)))]));
        assert!(!loops.note(&[way(10, Some(port(10)))]));
        assert!(loops.note(&[way(10, Some(port(12))), way(12, None)]));
        loops.remove([port(10)]);
        assert!(loops.note(&[way(12, Some(port(10)))]));
    }

    #[test]
    fn a_ring_is_seen_by_every_name_of_a_port() {
        let told = SocketAddr::from(([203, 0, 113, 9], 10));
        let phone = SocketAddr::from(([192, 0, 2, 9], 4000));
        let behind_router = |bound, target| Way { bound, advertised: told, target: Some(target) };
        for target in [told, port(10)] {
            let loops = Loops::default();
            assert!(!loops.note(&[behind_router(port(10), target)]), "{target}");
            assert!(loops.note(&[behind_router(port(10), phone), way(12, Some(target))]));
            assert!(loops.know(told) && loops.know(port(10)) && !loops.know(phone));
            assert!(!loops.note(&[behind_router(port(10), port(12))]), "{target}");
            assert!(!loops.know(told) && !loops.know(port(10)), "nothing of it is left");
        }
        // Bound to every address, so each of this host's is one.
        let every = SocketAddr::from(([0, 0, 0, 0], 10));
        let here = SocketAddr::from(([127, 0, 0, 7], 10));
        let loops = Loops::default();
        assert!(!loops.note(&[behind_router(every, here)]));
        assert!(loops.note(&[behind_router(every, SocketAddr::new(phone.ip(), 10))]), "another host's");
    }
}
