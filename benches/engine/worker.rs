//! A real worker with 200 echo calls on the in-memory device, at the pace of calls: the processor time of its thread for
//! a period of 20 ms, which is 200 packets in and 200 out, with demultiplexing, timers, rings and waiting.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use engine::codec::Codec;
use engine::command::Command;
use engine::config::{EngineConfig, WaitPolicy};
use engine::event::Event;
use engine::stream::{App, Stream};
use engine::{Engine, EngineEvents};
use xdp::loopback::{LoopbackDevice, LoopbackNetwork};
use xdp::{Device as _, Outgoing, Path, PortIndex};

use super::packets::{frame, packet};
use super::streams::parameters;

const CALLS: u64 = 200;
/// Periods of 20 ms in a sample.
const PERIODS: u64 = 10;
const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn benches(criterion: &mut Criterion) {
    let Some(mut load) = Load::start() else {
        eprintln!("SKIP worker: this system does not tell the processor time of a thread");
        return;
    };
    load.periods(50);
    let (sent, heard) = (load.sent, load.heard);
    load.periods(50);
    let (sent, heard) = (load.sent - sent, load.heard - heard);
    assert!(heard.abs_diff(sent) <= 2 * CALLS, "{heard} of {sent} packets came back");
    let mut group = criterion.benchmark_group("worker");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(CALLS));
    group.bench_function("200 echo calls, processor time of 20 ms", |bench| {
        // However many iterations are wanted, the pace is that of calls, so a sample has a fixed length.
        bench.iter_custom(|iterations| load.periods(PERIODS).mul_f64(iterations as f64 / PERIODS as f64));
    });
    group.finish();
    load.engine.shutdown();
}

struct Load {
    engine: Engine,
    _events: EngineEvents,
    device: LoopbackDevice,
    phones: Vec<(PortIndex, SocketAddr)>,
    /// The file that tells the worker's processor time.
    schedstat: std::path::PathBuf,
    number: u64,
    sent: u64,
    heard: u64,
}

impl Load {
    fn start() -> Option<Self> {
        let network = LoopbackNetwork::new();
        let mut device = network.device(4096).expect("a descriptor");
        let config = EngineConfig {
            media_ports: 20_000..=24_095,
            streams_per_worker: 512,
            wait: WaitPolicy::Sleep,
            ..EngineConfig::default()
        };
        let worker = Box::new(network.device(4096).expect("a descriptor"));
        let (engine, mut events) =
            Engine::start_on(config, vec![worker], Vec::new()).expect("the engine starts");
        let phones = (0..CALLS)
            .map(|_| {
                let port = device.open(SocketAddr::new(IP, 0)).expect("a free port");
                let own = device.local_address(port).expect("an open port");
                let stream = Stream::new(parameters(Codec::Pcmu, own));
                let (id, remote) = engine.add_stream(IP, stream).expect("room for a stream");
                wait_for_stream(&mut events);
                engine.send(Command::Attach { id, app: App::Echo }).expect("room in the ring");
                (port, remote)
            })
            .collect();
        let schedstat = worker_schedstat()?;
        Some(Self { engine, _events: events, device, phones, schedstat, number: 0, sent: 0, heard: 0 })
    }

    /// Lets the calls talk; returns the worker's processor time.
    fn periods(&mut self, count: u64) -> Duration {
        let (start, before) = (Instant::now(), self.processor_time());
        let group = self.phones.len() / GROUPS as usize;
        for period in 0..count {
            self.number += 1;
            let bytes = packet(self.number, 0, &frame(self.number));
            // In groups, because calls do not all send in one moment.
            for n in 0..GROUPS {
                for index in n as usize * group..(n as usize + 1) * group {
                    let (port, remote) = self.phones[index];
                    let sent = self.device.transmit(&mut |buffer| {
                        buffer[..bytes.len()].copy_from_slice(&bytes);
                        Some(Outgoing { path: Path { port, remote }, len: bytes.len() })
                    });
                    self.sent += u64::from(sent == Ok(true));
                }
                self.device.flush();
                let next =
                    Duration::from_millis(20) * period as u32 + Duration::from_millis(20) / GROUPS * (n + 1);
                std::thread::sleep(next.saturating_sub(start.elapsed()));
                while self.device.receive(256, &mut |datagram| {
                    self.heard += u64::from(datagram.payload.len() == bytes.len());
                    None
                }) > 0
                {}
            }
        }
        self.processor_time().saturating_sub(before)
    }

    fn processor_time(&self) -> Duration {
        let text = std::fs::read_to_string(&self.schedstat).expect("the worker runs");
        let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("nanoseconds come first"))
    }
}

fn wait_for_stream(events: &mut EngineEvents) {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        match events.poll() {
            Some(Event::StreamAdded { .. }) => return,
            Some(_) => {}
            None => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    panic!("the stream did not start");
}

/// Linux tells it by thread, with nanoseconds on the processor first.
fn worker_schedstat() -> Option<std::path::PathBuf> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    threads.flatten().map(|thread| thread.path()).find_map(|thread| {
        let name = std::fs::read_to_string(thread.join("comm")).ok()?;
        let schedstat = thread.join("schedstat");
        (name.starts_with("media-") && schedstat.exists()).then_some(schedstat)
    })
}

const GROUPS: u32 = 10;
