//! Media that would come back to where it started.
//!
//! Calls may pass through this server twice, so one relay may send to another. But a ring of relays would send a
//! packet round for ever, and whoever writes SDP could make one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Where each of our ports sends what it receives.
#[derive(Debug, Default)]
pub(super) struct Loops {
    ways: Mutex<HashMap<SocketAddr, SocketAddr>>,
}

impl Loops {
    /// Notes where what arrives at our ports goes on to: pairs of a port and its target. False, and nothing
    /// noted, if packets would come back to one of them.
    pub(super) fn note(&self, ways: &[(SocketAddr, Option<SocketAddr>)]) -> bool {
        let mut known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        for (port, target) in ways {
            match target {
                Some(target) => known.insert(*port, *target),
                None => known.remove(port),
            };
        }
        let is_ring = ways.iter().any(|(port, _)| returns(&known, *port));
        if is_ring {
            for (port, _) in ways {
                known.remove(port);
            }
        }
        !is_ring
    }

    /// Forgets ports.
    pub(super) fn remove(&self, ports: impl IntoIterator<Item = SocketAddr>) {
        let mut known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        for port in ports {
            known.remove(&port);
        }
    }
}

fn returns(ways: &HashMap<SocketAddr, SocketAddr>, port: SocketAddr) -> bool {
    let mut at = port;
    for _ in 0..LONGEST_CHAIN {
        match ways.get(&at) {
            Some(&next) if next == port => return true,
            Some(&next) => at = next,
            None => return false,
        }
    }
    // Nobody chains so many relays in earnest.
    true
}

const LONGEST_CHAIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn a_chain_of_relays_is_fine_and_a_ring_is_not() {
        let loops = Loops::default();
        let phone = SocketAddr::from(([192, 0, 2, 9], 4000));
        // From a phone through two relays to a phone.
        assert!(loops.note(&[(port(10), Some(port(20))), (port(12), Some(phone))]));
        assert!(loops.note(&[(port(20), Some(phone)), (port(22), Some(port(12)))]));
        // Whose far end is then told to be the near one.
        assert!(!loops.note(&[(port(20), Some(port(10)))]));
        assert!(loops.note(&[(port(20), Some(phone))]), "nothing of it is left");
    }

    #[test]
    fn a_relay_that_is_its_own_peer_is_a_ring() {
        let loops = Loops::default();
        assert!(!loops.note(&[(port(10), Some(port(12))), (port(12), Some(port(10)))]));
        assert!(!loops.note(&[(port(10), Some(port(10)))]));
        assert!(loops.note(&[(port(10), Some(port(12))), (port(12), None)]));
        loops.remove([port(10)]);
        assert!(loops.note(&[(port(12), Some(port(10)))]));
    }
}
