//! Which port a call gets, so that its packets come to the queue of the worker that owns it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use xdp::counters;
use xdp::host::ethtool::Ethtool;
use xdp::host::rss::Rss;
use xdp::host::steering::{PortQueue, Steering};

use super::ports::PortPool;
use crate::config::{AfXdpConfig, EngineConfig, PortSteering};

counters! {
    /// How the ports of calls were chosen.
    pub struct PortCounters {
        chosen_by_rss: "Ports chosen because the peer's packets to them come to a queue of their worker",
        rss_no_match: "Ports taken in turn because none of those looked at leads to a queue of their worker",
        rss_no_peer: "Ports taken in turn because the peer's or the local address was not known yet",
        in_turn: "Ports taken in turn because nothing is known about queues, or rules of the device lead everywhere",
    }
}

/// How ports are chosen.
#[derive(Debug)]
pub(super) struct Placement {
    way: Way,
    counters: Arc<PortCounters>,
    /// How, and why not better, in words.
    pub(super) description: String,
}

#[derive(Debug)]
enum Way {
    InTurn,
    /// The device sends each worker's ports to its queue.
    Rules(#[expect(dead_code, reason = "removes the rules when it is dropped")] Steering),
    Hash {
        rss: Rss,
        config: AfXdpConfig,
        workers: usize,
    },
}

impl Placement {
    /// Without looking at queues, because of `reason`.
    pub(super) fn in_turn(reason: impl Into<String>) -> Self {
        Self {
            way: Way::InTurn,
            counters: Arc::default(),
            description: format!("in turn: {}", reason.into()),
        }
    }

    /// What the interface of `config` allows, with ports as they are in `pools`, one for each worker.
    pub(super) fn on_interface(config: &EngineConfig, pools: &[PortPool]) -> Self {
        let (af_xdp, workers) = (&config.af_xdp, pools.len());
        let Some(interface) = &af_xdp.interface else { return Self::in_turn("no interface is named") };
        if workers < 2 {
            return Self::in_turn("one worker owns all queues");
        }
        if config.steering == PortSteering::Off {
            return Self::in_turn("media.steering is off");
        }
        let ethtool = match Ethtool::new() {
            Ok(ethtool) => ethtool,
            Err(error) => return Self::in_turn(format!("the driver cannot be asked: {error}")),
        };
        let mut reasons = Vec::new();
        if matches!(config.steering, PortSteering::Auto | PortSteering::Rules) {
            match rules(af_xdp, pools, &ethtool, interface) {
                Ok(steering) => {
                    let description = format!("by {} rules of {interface}", steering.rules());
                    return Self { way: Way::Rules(steering), counters: Arc::default(), description };
                }
                Err(error) => reasons.push(format!("{interface} takes no rules for ports ({error})")),
            }
        }
        if matches!(config.steering, PortSteering::Auto | PortSteering::Hash) {
            match Rss::read(&ethtool, interface) {
                Ok(rss) => return Self::by_hash(rss, af_xdp.clone(), workers),
                Err(reason) => reasons.push(reason.to_owned()),
            }
        }
        Self::in_turn(reasons.join("; "))
    }

    fn by_hash(rss: Rss, config: AfXdpConfig, workers: usize) -> Self {
        let description = "by the receive hash of the interface".to_owned();
        Self { way: Way::Hash { rss, config, workers }, counters: Arc::default(), description }
    }

    /// Takes a port of `pool`, which is `worker`'s, for what `remote` will send to it on `local`.
    pub(super) fn take(
        &self,
        pool: &mut PortPool,
        worker: u16,
        local: IpAddr,
        remote: Option<SocketAddr>,
    ) -> Option<u16> {
        let Way::Hash { rss, config, workers } = &self.way else {
            self.counters.in_turn.increment();
            return pool.take();
        };
        let queue = |port| rss.queue(remote?, SocketAddr::new(local, port));
        if queue(2).is_none() {
            self.counters.rss_no_peer.increment();
            return pool.take();
        }
        let lands = |port| queue(port).and_then(|queue| config.owner(queue, *workers)) == Some(worker.into());
        let (port, found) = pool.take_where(lands)?;
        if found { &self.counters.chosen_by_rss } else { &self.counters.rss_no_match }.increment();
        Some(port)
    }

    pub(super) fn counters(&self) -> Arc<PortCounters> {
        Arc::clone(&self.counters)
    }

    /// Removes what was set in the device.
    pub(super) fn end(&mut self) {
        self.way = Way::InTurn;
    }
}

/// Sends each worker's ports to the first of its queues.
fn rules(
    config: &AfXdpConfig,
    pools: &[PortPool],
    ethtool: &Ethtool,
    interface: &str,
) -> io::Result<Steering> {
    let queues = ethtool.channels(interface)?.receive;
    let wanted: Vec<PortQueue> = pools
        .iter()
        .enumerate()
        .filter_map(|(worker, pool)| {
            let queue = (0..queues).find(|&queue| config.owner(queue, pools.len()) == Some(worker))?;
            Some(PortQueue { ports: pool.range(), queue })
        })
        .collect();
    if wanted.len() < 2 {
        return Err(io::Error::other("only one worker has a queue"));
    }
    Steering::set(Ethtool::new()?, interface, &wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xdp::host::ethtool::{HashFields, ReceiveHash};

    use super::*;

    fn rss(table: Vec<u32>) -> Rss {
        let fields = HashFields { addresses: true, ports: true };
        let key = (0..40).map(|byte: u8| byte.wrapping_mul(37) ^ 0x5a).collect();
        Rss::new(ReceiveHash { key, table, toeplitz: true }, fields, fields).expect("complete")
    }

    fn pools(workers: usize) -> Vec<PortPool> {
        PortPool::split(&(20_000..=29_999), workers, 0).expect("room")
    }

    fn address(last: u8, port: u16) -> SocketAddr {
        ([192, 0, 2, last], port).into()
    }

    #[test]
    fn a_calls_packets_come_to_a_queue_of_its_worker() {
        let (local, rss) = (IpAddr::from([198, 51, 100, 1]), rss(vec![0, 1, 2, 3]));
        let mut pools = pools(2);
        let placement = Placement::by_hash(rss.clone(), AfXdpConfig::default(), 2);
        for call in 0..200u16 {
            let (worker, remote) = (call % 2, address(call as u8, 4000 + 2 * call));
            let pool = &mut pools[usize::from(worker)];
            let port = placement.take(pool, worker, local, Some(remote)).expect("a port");
            let queue = rss.queue(remote, SocketAddr::new(local, port)).expect("hashed");
            assert_eq!(queue % 2, u32::from(worker), "call {call}");
        }
        assert_eq!(placement.counters().chosen_by_rss.value(), 200);
        assert_eq!(placement.counters().rss_no_match.value(), 0);
    }

    #[test]
    fn without_a_match_or_a_peer_the_next_port_is_taken_and_counted() {
        let local = IpAddr::from([198, 51, 100, 1]);
        let mut pools = pools(2);
        // All packets come to the other worker's queue.
        let placement = Placement::by_hash(rss(vec![1]), AfXdpConfig::default(), 2);
        let take = |pool: &mut PortPool, local, remote| placement.take(pool, 0, local, remote);
        assert_eq!(take(&mut pools[0], local, Some(address(1, 4000))), Some(20_000));
        assert_eq!(take(&mut pools[0], local, None), Some(20_002));
        assert_eq!(take(&mut pools[0], [0; 4].into(), Some(address(1, 4000))), Some(20_004));
        let counters = placement.counters();
        let counted =
            [&counters.rss_no_match, &counters.rss_no_peer, &counters.chosen_by_rss, &counters.in_turn];
        assert_eq!(counted.map(|counter| counter.value()), [1, 2, 0, 0]);
    }

    #[test]
    fn the_reasons_for_ports_in_turn_are_told() {
        let config = |interface: &str, steering| EngineConfig {
            af_xdp: AfXdpConfig { interface: Some(interface.into()), ..AfXdpConfig::default() },
            steering,
            ..EngineConfig::default()
        };
        let describe =
            |config: EngineConfig, workers| Placement::on_interface(&config, &pools(workers)).description;
        assert_eq!(describe(EngineConfig::default(), 2), "in turn: no interface is named");
        assert_eq!(describe(config("lo", PortSteering::Auto), 1), "in turn: one worker owns all queues");
        assert_eq!(describe(config("lo", PortSteering::Off), 2), "in turn: media.steering is off");
        let refused = describe(config("lo", PortSteering::Auto), 2);
        assert!(refused.contains("lo takes no rules for ports"), "{refused}");
        assert!(refused.contains("the driver"), "{refused}");
    }

    proptest! {
        #[test]
        fn every_port_is_given_out_once_whatever_the_hash(
            table in prop::collection::vec(0u32..8, 1..64),
            remotes in prop::collection::vec(any::<([u8; 4], u16)>(), 100),
        ) {
            let placement = Placement::by_hash(rss(table), AfXdpConfig::default(), 3);
            let mut pools = PortPool::split(&(20_000..=20_199), 3, 7).expect("room");
            let mut given = std::collections::HashSet::new();
            for (call, remote) in remotes.into_iter().enumerate() {
                let worker = call % 3;
                let (remote, local) = (SocketAddr::from(remote), IpAddr::from([198, 51, 100, 1]));
                if let Some(port) = placement.take(&mut pools[worker], worker as u16, local, Some(remote)) {
                    prop_assert!(given.insert(port) && pools[worker].range().contains(&port));
                }
            }
            prop_assert_eq!(given.len(), 99, "33 pairs each, and one call too many for the first");
        }
    }
}
