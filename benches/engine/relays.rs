//! What a relayed packet costs, beside the device: the relay alone, and a real worker (demultiplexing, relay, the answer
//! to the device) on a device that has always something to receive. It must not depend on how many relays there are.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use engine::Engine;
use engine::codec::Law;
use engine::config::{EngineConfig, WaitPolicy};
use engine::event::Event;
use engine::relay::{
    Conversion, Relay, RelayFormat, RelayFormats, RelayLeg, RelayParameters, RelayTaps, Rewriting, Side,
};
use engine::stream::{Component, Direction, SourcePolicy};
use xdp::{
    Datagram, Device, DeviceCounters, Doorbell, Full, Handle, MAX_DATAGRAM_BYTES, Outgoing, PortIndex,
};

use super::packets::{frame, packet};

const RELAYS: [usize; 3] = [100, 1000, 10_000];

pub(crate) fn benches(criterion: &mut Criterion) {
    alone(criterion);
    on_a_worker(criterion);
}

/// Where the party on a port of the device is.
fn party(port: usize) -> SocketAddr {
    let port = port as u32;
    SocketAddr::new(Ipv4Addr::from(0x0A00_0000 + port / 100).into(), 10_000 + (port % 100) as u16 * 2)
}

fn parameters(parties: [SocketAddr; 2], conversions: [(u8, u8, Conversion); 2]) -> RelayParameters {
    let leg = |index: usize| {
        let (receive, send, conversion) = conversions[index];
        let mut formats = RelayFormats::default();
        assert!(formats.push(RelayFormat { receive, send, conversion }));
        RelayLeg {
            remote_rtp: Some(parties[index]),
            remote_rtcp: None,
            rtcp_mux: true,
            direction: Direction::SendRecv,
            receive: formats,
            source_policy: SourcePolicy::Latch,
            rewriting: Rewriting::default(),
        }
    };
    RelayParameters {
        legs: [leg(0), leg(1)],
        taps: RelayTaps::default(),
        in_kernel: false,
        media_timeout: Duration::from_secs(60),
    }
}

const UNTOUCHED: [(u8, u8, Conversion); 2] = [(0, 0, Conversion::Untouched), (0, 0, Conversion::Untouched)];
const LAWS: [(u8, u8, Conversion); 2] = [
    (0, 8, Conversion::Law { from: Law::Mu, to: Law::A }),
    (8, 0, Conversion::Law { from: Law::A, to: Law::Mu }),
];

/// All relays in turn, in an order that no prefetcher knows.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay alone");
    group.throughput(Throughput::Elements(1));
    for (name, conversions) in [("untouched", UNTOUCHED), ("law", LAWS)] {
        for count in RELAYS {
            let mut relays: Vec<Box<Relay>> = (0..count)
                .map(|n| Relay::new(parameters([party(2 * n), party(2 * n + 1)], conversions)))
                .collect();
            let mut number = 0u64;
            let mut bytes = packet(0, 0, &frame(1));
            let mut next = |relays: &mut [Box<Relay>]| {
                let (round, place) = (number / (2 * count as u64), number % (2 * count as u64));
                number += 1;
                let port = scrambled(place as usize, 2 * count);
                let side = Side::BOTH[port % 2];
                bytes[1] = conversions[port % 2].0;
                bytes[2..4].copy_from_slice(&(round as u16).to_be_bytes());
                let now = engine::time::Instant::from_millis(1000 + round * 20);
                relays[port / 2].handle_packet(now, side, Component::Rtp, party(port), &mut bytes)
            };
            for _ in 0..4 * count {
                next(&mut relays);
            }
            assert!(next(&mut relays).is_some(), "both parties are known");
            group.bench_function(format!("{name}, {count} relays"), |bench| {
                bench.iter(|| black_box(next(&mut relays)));
            });
        }
    }
    group.finish();
}

/// Another order of `0..count`, for counts that the prime does not divide.
fn scrambled(place: usize, count: usize) -> usize {
    (place * 7919) % count
}

fn on_a_worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay on a worker");
    group.throughput(Throughput::Elements(1));
    for (name, conversions) in [("untouched", UNTOUCHED), ("law", LAWS)] {
        for count in RELAYS {
            let shared = Arc::<Shared>::default();
            let feeder = Feeder::new(Arc::clone(&shared), 2 * count, conversions);
            let config = EngineConfig {
                media_ports: 2000..=65_000,
                relays_per_worker: count,
                wait: WaitPolicy::Busy,
                ..EngineConfig::default()
            };
            let (engine, mut events) =
                Engine::start_on(config, vec![Box::new(feeder)], Vec::new()).expect("the engine starts");
            for n in 0..count {
                let relay = Relay::new(parameters([party(2 * n), party(2 * n + 1)], conversions));
                let _ = engine.add_relay([IP; 2], relay).expect("room for a relay");
                while !matches!(events.poll(), Some(Event::RelayAdded { .. })) {
                    std::thread::yield_now();
                }
            }
            shared.run(8 * count as u64);
            let before = shared.forwarded.load(Ordering::Acquire);
            shared.run(1000);
            assert_eq!(shared.forwarded.load(Ordering::Acquire) - before, 1000, "all is relayed");
            group.bench_function(format!("{name}, {count} relays"), |bench| {
                bench.iter_custom(|iterations| shared.run(iterations));
            });
            engine.shutdown();
        }
    }
    group.finish();
}

/// How the bench tells the device, on the worker's thread, to have packets.
#[derive(Default)]
struct Shared {
    wanted: AtomicU64,
    forwarded: AtomicU64,
    /// What the last run took, once it is over.
    nanos: AtomicU64,
}

impl Shared {
    fn run(&self, packets: u64) -> Duration {
        self.nanos.store(0, Ordering::Release);
        self.wanted.store(packets, Ordering::Release);
        loop {
            let nanos = self.nanos.load(Ordering::Acquire);
            if nanos > 0 {
                return Duration::from_nanos(nanos);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A device in whose frames lies a packet of every party in turn.
struct Feeder {
    shared: Arc<Shared>,
    doorbell: Doorbell,
    counters: Arc<DeviceCounters>,
    conversions: [(u8, u8, Conversion); 2],
    ports: usize,
    locals: Vec<SocketAddr>,
    frames: Vec<[u8; 2048]>,
    len: usize,
    number: u64,
    todo: u64,
    started: Option<Instant>,
}

impl Feeder {
    fn new(shared: Arc<Shared>, ports: usize, conversions: [(u8, u8, Conversion); 2]) -> Self {
        let packet = packet(0, 0, &frame(1));
        let mut bytes = [0; 2048];
        bytes[..packet.len()].copy_from_slice(&packet);
        Self {
            shared,
            doorbell: Doorbell::new().expect("a descriptor"),
            counters: Arc::default(),
            conversions,
            ports,
            locals: Vec::with_capacity(ports),
            frames: vec![bytes; 1024],
            len: packet.len(),
            number: 0,
            todo: 0,
            started: None,
        }
    }
}

impl Device for Feeder {
    fn open(&mut self, local: SocketAddr) -> std::io::Result<PortIndex> {
        self.locals.push(local);
        Ok(PortIndex(self.locals.len() as u32 - 1))
    }
    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.locals.get(port.0 as usize).copied()
    }
    fn close(&mut self, _: PortIndex) {}
    fn connect(&mut self, _: PortIndex, _: Option<SocketAddr>) {}
    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        if self.todo == 0 {
            self.todo = self.shared.wanted.swap(0, Ordering::AcqRel);
            if self.todo == 0 {
                return 0;
            }
            self.started = Some(Instant::now());
        }
        let count = self.todo.min(budget as u64);
        let mut forwarded = 0;
        for _ in 0..count {
            let (round, place) = (self.number / self.ports as u64, self.number % self.ports as u64);
            let port = scrambled(place as usize, self.ports);
            let frames = self.frames.len();
            let frame = &mut self.frames[self.number as usize % frames][..self.len];
            self.number += 1;
            frame[1] = self.conversions[port % 2].0;
            frame[2..4].copy_from_slice(&(round as u16).to_be_bytes());
            let datagram = Datagram { port: PortIndex(port as u32), remote: party(port), payload: frame };
            forwarded += u64::from(handle(datagram).is_some());
        }
        self.todo -= count;
        self.shared.forwarded.fetch_add(forwarded, Ordering::AcqRel);
        if self.todo == 0
            && let Some(started) = self.started.take()
        {
            self.shared.nanos.store(started.elapsed().as_nanos().max(1) as u64, Ordering::Release);
        }
        count as usize
    }
    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        Ok(write(&mut [0; MAX_DATAGRAM_BYTES]).is_some())
    }
    fn flush(&mut self) {}
    fn wait(&mut self, _: Duration) {}
    fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }
    fn counters(&self) -> Arc<DeviceCounters> {
        Arc::clone(&self.counters)
    }
    fn name(&self) -> &'static str {
        "feeder"
    }
}

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
