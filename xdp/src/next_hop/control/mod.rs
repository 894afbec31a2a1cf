//! The thread `net-control`: asks the kernel, hears of changes, writes the table.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::limit::Limit;
use super::peers::{Links, NeighbourKey, Peer, Tracked};
use super::{IDLE_ROUNDS, MAX_PEERS, ROUND, Request, Shared, Way};
use crate::netlink::{Link, Netlink, Subscription};
use crate::wire::MacAddress;

mod hear;
mod neighbours;
mod routes;

/// See the module's documentation.
pub(super) struct Control {
    shared: Arc<Shared>,
    netlink: Netlink,
    events: Subscription,
    requests: Receiver<Request>,
    links: Links,
    /// The addresses of our interface, if rules choose by the source.
    sources: Option<Vec<IpAddr>>,
    peers: HashMap<IpAddr, Peer>,
    neighbours: HashMap<NeighbourKey, Tracked>,
    /// Peers whose route is to be asked for again, each once.
    recheck: VecDeque<IpAddr>,
    /// Neighbours to look at before the next tick.
    urgent: Vec<NeighbourKey>,
    /// Whether an answer has changed in this turn.
    changed: bool,
    /// Whether a way that was unknown is known since the generation last changed.
    resolved: bool,
    last_change: Instant,
    /// Whether the keeper of the addresses is to be told.
    addresses_changed: bool,
    /// That did not succeed.
    addresses_failed: bool,
    requests_limit: Limit,
    resolve_limit: Limit,
    next_watch: Instant,
    next_tick: Instant,
    next_round: Instant,
    ticks: u32,
}

impl Control {
    pub(super) fn new(
        shared: Arc<Shared>,
        netlink: Netlink,
        events: Subscription,
        requests: Receiver<Request>,
        links: Vec<Link>,
    ) -> Self {
        let now = Instant::now();
        let by_index = links.into_iter().map(|link| (link.index, link)).collect();
        let links = Links { interface: shared.interface, by_index };
        let mut control = Self {
            shared,
            netlink,
            events,
            requests,
            links,
            sources: None,
            peers: HashMap::new(),
            neighbours: HashMap::new(),
            recheck: VecDeque::new(),
            urgent: Vec::new(),
            changed: false,
            resolved: false,
            last_change: now,
            addresses_changed: true,
            addresses_failed: false,
            requests_limit: Limit::new(1000, 5000, now),
            resolve_limit: Limit::new(256, 256, now),
            next_watch: now,
            next_tick: now + TICK,
            next_round: now + ROUND,
            ticks: 0,
        };
        control.ask_rules();
        control.publish_link();
        control
    }

    pub(super) fn run(mut self) {
        loop {
            self.shared.bell.hear();
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            let now = Instant::now();
            let more = self.turn(now);
            let timeout = if !self.shared.alive.load(Ordering::Relaxed) {
                // Nothing is of use any more but to be told to stop.
                TICK
            } else if more {
                PAUSE
            } else {
                let due = self.next_watch.min(self.next_tick).min(self.next_round);
                due.saturating_duration_since(Instant::now())
            };
            let timeout = Timespec {
                tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: timeout.subsec_nanos().into(),
            };
            let mut both = [&self.shared.bell as &dyn AsFd, &self.events]
                .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
            // With work left the pause is kept, whoever rings. An interrupted wait is a wait that ended.
            let _ = poll(if more { &mut [] } else { &mut both[..] }, Some(&timeout));
        }
    }

    /// Does what is due, a bounded part of it; returns whether there is more.
    fn turn(&mut self, now: Instant) -> bool {
        let mut more = self.hear(now);
        if now >= self.next_watch {
            self.next_watch = now + WATCH;
            self.watch();
        }
        more |= self.serve(now);
        more |= self.recheck();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(now);
            self.addresses_changed |= self.addresses_failed;
        }
        if self.addresses_changed {
            self.tell_addresses();
        }
        for key in std::mem::take(&mut self.urgent) {
            self.resolve_if_due(key, now);
        }
        let round = now >= self.next_round;
        if round {
            self.next_round = now + ROUND;
            self.addresses_changed = true;
            self.forget_idle();
            self.shared.table.next_round();
        }
        let resolved = self.resolved && now >= self.last_change + RESOLVED;
        if self.changed || resolved || round {
            if self.changed {
                self.shared.counters.next_hop_changes.increment();
            }
            (self.changed, self.resolved, self.last_change) = (false, false, now);
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
        more
    }

    fn serve(&mut self, now: Instant) -> bool {
        for _ in 0..REQUESTS_PER_TURN {
            if !self.requests_limit.take(now) {
                return true;
            }
            let Ok(request) = self.requests.try_recv() else { return false };
            match request {
                Request::Resolve(ip) => self.add(ip, now),
                Request::Learn(ip, mac) => self.learn(ip, mac, now),
            }
            self.shared.asked.clear(&request);
        }
        true
    }

    fn add(&mut self, ip: IpAddr, now: Instant) {
        self.shared.counters.next_hop_requests.increment();
        if self.peers.contains_key(&ip) {
            return;
        }
        if self.peers.len() >= MAX_PEERS {
            self.make_room();
        }
        let route = self.route(ip);
        if let Some(key) = route.neighbour() {
            self.track(key, now);
        }
        let (slot, former) = self.shared.table.place(ip);
        if let Some(former) = former {
            self.evict(former);
        }
        let peer = Peer { slot, route, learned: None, way: Way::Unknown, queued: false };
        let way = peer.current(&self.links, &self.neighbours);
        self.resolved |= way != Way::Unknown;
        self.shared.table.touch(slot);
        self.shared.table.write(slot, ip, &way);
        self.peers.insert(ip, Peer { way, ..peer });
    }

    fn learn(&mut self, ip: IpAddr, mac: MacAddress, now: Instant) {
        let Some(peer) = self.peers.get_mut(&ip) else { return };
        if peer.way == Way::Unknown {
            peer.learned = Some((mac, now));
            self.shared.counters.next_hop_learned.increment();
            self.publish(ip);
        }
    }

    fn publish_neighbour(&mut self, key: NeighbourKey) {
        let behind = self.peers.iter().filter(|(_, peer)| peer.route.neighbour() == Some(key));
        for ip in behind.map(|(ip, _)| *ip).collect::<Vec<_>>() {
            self.publish(ip);
        }
    }

    fn publish_all(&mut self) {
        for ip in self.peers.keys().copied().collect::<Vec<_>>() {
            self.publish(ip);
        }
    }

    /// Writes what is known of a peer, if that has changed.
    fn publish(&mut self, ip: IpAddr) {
        let Some(peer) = self.peers.get_mut(&ip) else { return };
        if peer.learned.is_some()
            && peer
                .route
                .neighbour()
                .and_then(|key| self.neighbours.get(&key))
                .is_none_or(|it| it.mac.is_some())
        {
            peer.learned = None;
        }
        let way = peer.current(&self.links, &self.neighbours);
        if way != peer.way {
            self.shared.table.write(peer.slot, ip, &way);
            if peer.way == Way::Unknown {
                self.resolved = true;
            } else {
                self.changed = true;
            }
            peer.way = way;
        }
    }

    /// Once a second: who is in use, who must be refreshed, who does not answer; a part of the routes again, for what
    /// the kernel does not tell.
    fn tick(&mut self, now: Instant) {
        self.ticks = self.ticks.wrapping_add(1);
        self.neighbours.values_mut().for_each(|tracked| tracked.in_use = false);
        let mut expired = Vec::new();
        for (number, (ip, peer)) in self.peers.iter_mut().enumerate() {
            if self.shared.table.idle_rounds(peer.slot) <= IN_USE_ROUNDS
                && let Some(tracked) = peer.route.neighbour().and_then(|key| self.neighbours.get_mut(&key))
            {
                tracked.in_use = true;
            }
            if peer.learned.is_some_and(|(_, since)| now.duration_since(since) >= LEARNED) {
                peer.learned = None;
                expired.push(*ip);
            }
            if !peer.queued && number as u32 % RECHECK_TICKS == self.ticks % RECHECK_TICKS {
                peer.queued = true;
                self.recheck.push_back(*ip);
            }
        }
        expired.into_iter().for_each(|ip| self.publish(ip));
        let keys = self.neighbours.iter_mut().map(|(key, tracked)| (*key, tracked.give_up(now)));
        for (key, given_up) in keys.collect::<Vec<_>>() {
            if given_up {
                self.publish_neighbour(key);
            }
            self.resolve_if_due(key, now);
        }
    }

    fn forget_idle(&mut self) {
        let idle = |peer: &Peer| self.shared.table.idle_rounds(peer.slot) >= IDLE_ROUNDS;
        let idle: Vec<_> = self.peers.iter().filter(|(_, peer)| idle(peer)).map(|(ip, _)| *ip).collect();
        for ip in idle {
            self.remove(ip);
        }
    }

    /// Forgets the sixteenth of the peers that was looked up the longest ago.
    fn make_room(&mut self) {
        let age = |peer: &Peer| self.shared.table.idle_rounds(peer.slot);
        let mut ages: Vec<_> = self.peers.iter().map(|(ip, peer)| (age(peer), *ip)).collect();
        ages.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        for (_, ip) in ages.into_iter().take(MAX_PEERS / 16) {
            self.evict(ip);
        }
    }

    fn evict(&mut self, ip: IpAddr) {
        self.shared.counters.next_hop_evicted.increment();
        // A device may still send by what it was told; it would not hear of changes.
        self.changed = true;
        self.remove(ip);
    }

    fn remove(&mut self, ip: IpAddr) {
        let Some(peer) = self.peers.remove(&ip) else { return };
        self.shared.table.clear(peer.slot);
        if let Some(key) = peer.route.neighbour() {
            self.untrack(key);
        }
    }
}

impl Drop for Control {
    /// Nobody keeps the table true any more, be it after a panic: the kernel's sockets do it all from here on.
    fn drop(&mut self) {
        self.die();
        self.shared.generation.fetch_add(1, Ordering::Release);
    }
}

/// How often the interface and its program are looked after.
const WATCH: Duration = Duration::from_millis(50);

/// How long who has kept an unknown way waits at most to be told. Not at once: with many new peers per second
/// everyone would ask again with every packet.
const RESOLVED: Duration = Duration::from_millis(200);

const TICK: Duration = Duration::from_secs(1);

/// Between two turns when there is more to do than fits into one: so that a storm of changes costs half a core at most.
const PAUSE: Duration = Duration::from_millis(5);

const EVENTS_PER_TURN: usize = 256;
const REQUESTS_PER_TURN: usize = 128;
const RECHECKS_PER_TURN: usize = 256;

/// Ticks in which all routes are asked for again.
const RECHECK_TICKS: u32 = 32;

/// Neighbours of peers that were looked up within this many rounds are kept fresh: half a minute.
const IN_USE_ROUNDS: u32 = 6;

/// How long a MAC from a received frame is used unless it is learned again.
const LEARNED: Duration = Duration::from_secs(60);

const _: () = assert!(IN_USE_ROUNDS < IDLE_ROUNDS);
