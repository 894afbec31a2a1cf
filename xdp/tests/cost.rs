//! What each device costs per packet: an echo of many flows on one host, the caller on the other. Measures, and so is
//! ignored:
//!
//! ```text
//! cargo test --release -p sidetone-xdp --test cost -- --ignored --nocapture
//! ```
//!
//! Counted is the CPU time of the echo's thread and of the thread that its interface receives on (threaded NAPI), per
//! packet received and sent back. Devices take turns; the median of the rounds is printed.

mod netns;

use std::net::SocketAddr;
use std::path::Path as File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns::{Cable, Host, Options};
use rustix::time::{ClockId, clock_gettime};
use xdp::udp::UdpDevice;
use xdp::{Device, Outgoing, Path, PortIndex};

/// Makes the device on the near host.
type Open = fn() -> Result<Box<dyn Device>, String>;

const DEVICES: &[(&str, Open)] = &[
    ("udp", || boxed(UdpDevice::new(&xdp::udp::Options::default()))),
    ("io_uring", || boxed(xdp::io_uring::UringDevice::new(&xdp::io_uring::Options::default()))),
    ("sk_lookup", || {
        boxed(
            xdp::sk_lookup::open(&xdp::sk_lookup::Options::default(), 1).map(|mut devices| devices.remove(0)),
        )
    }),
];

fn boxed<D: Device + 'static, E: ToString>(device: Result<D, E>) -> Result<Box<dyn Device>, String> {
    device.map(|device| Box::new(device) as Box<dyn Device>).map_err(|error| error.to_string())
}

#[test]
#[ignore = "measures"]
fn cost_of_an_echo() {
    let Some(cable) = Cable::or_skip("cost_of_an_echo", Options::default()) else { return };
    for (host, cpu) in [(&cable.near, 1), (&cable.far, 0)] {
        host.ethtool(&["-K", &host.interface, "gro", "on"]).expect("ethtool");
        let threaded = format!("echo 1 > /sys/class/net/{}/threaded", host.interface);
        assert!(host.command("sh").args(["-c", &threaded]).status().expect("sh").success());
        for thread in napi_threads(&host.interface) {
            let process = thread.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
            pin(rustix::process::Pid::from_raw(process), cpu);
        }
    }
    let environment = |name: &str, default: usize| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (flows, rounds) = (environment("FLOWS", 500), environment("ROUNDS", 5));
    let (seconds, connect) = (environment("SECONDS", 2), environment("CONNECT", 1) != 0);
    for tick in [Duration::ZERO, Duration::from_millis(1)] {
        let mut costs = vec![Vec::new(); DEVICES.len()];
        for _ in 0..rounds {
            for ((_, open), costs) in DEVICES.iter().zip(&mut costs) {
                let run = Run { flows, seconds: seconds as u64, tick, connect };
                costs.extend(run.measure(&cable, *open).ok());
            }
        }
        for ((name, _), costs) in DEVICES.iter().zip(&mut costs) {
            costs.sort_by_key(|cost| cost.thread + cost.softirq);
            let Some(Cost { packets, thread, softirq, lost }) = costs.get(costs.len() / 2) else {
                println!("{name}: not here");
                continue;
            };
            let (least, most) = (costs[0].sum(), costs[costs.len() - 1].sum());
            println!(
                "{name:>9}, tick {tick:?}: {} ns/packet [{least}-{most}], thread {thread}, receiving {softirq}; \
                 {packets} packets, {lost} lost",
                thread + softirq
            );
        }
    }
}

/// Nanoseconds per packet.
#[derive(Clone, Copy, Debug)]
struct Cost {
    packets: u64,
    thread: u64,
    softirq: u64,
    lost: u64,
}

impl Cost {
    fn sum(&self) -> u64 {
        self.thread + self.softirq
    }
}

struct Run {
    flows: usize,
    seconds: u64,
    tick: Duration,
    connect: bool,
}

impl Run {
    fn measure(&self, cable: &Cable, open: Open) -> Result<Cost, String> {
        let stop = AtomicBool::new(false);
        let (near, far) = (&cable.near, &cable.far);
        let local = |host: &Host, index: usize| SocketAddr::new(host.ip(false), 20_000 + index as u16);
        std::thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
            let echo = scope.spawn(|| {
                near.enter();
                pin(None, 1);
                let mut device = open()?;
                for index in 0..self.flows {
                    let port = device.open(local(near, index)).map_err(|error| error.to_string())?;
                    if self.connect {
                        device.connect(port, Some(local(far, index)));
                    }
                }
                let ready = ready;
                let _ = ready.send(());
                let napi = napi_threads(&near.interface);
                let before = (thread_nanos(), napi_nanos(&napi));
                let mut packets = 0;
                while !stop.load(Ordering::Relaxed) {
                    let taken = device.receive(256, &mut |datagram| {
                        let path = Path { port: datagram.port, remote: datagram.remote };
                        Some(Outgoing { path, len: datagram.payload.len() })
                    });
                    packets += taken as u64;
                    device.flush();
                    if taken < 256 {
                        std::thread::sleep(self.tick);
                        device.wait(Duration::from_millis(20));
                    }
                }
                let after = (thread_nanos(), napi_nanos(&napi));
                let per_packet = |nanos: u64| nanos / packets.max(1);
                let (thread, softirq) = (per_packet(after.0 - before.0), per_packet(after.1 - before.1));
                Ok(Cost { packets, thread, softirq, lost: 0 })
            });
            if is_ready.recv().is_err() {
                return echo.join().expect("no panic");
            }
            let (sent, back) = far.run(|| self.call(|index| local(near, index), |index| local(far, index)));
            stop.store(true, Ordering::Relaxed);
            let cost: Cost = echo.join().expect("no panic")?;
            Ok(Cost { lost: sent - back, ..cost })
        })
    }

    /// Sends 50 packets per second of each flow, evenly; how many were sent and came back.
    fn call(&self, to: impl Fn(usize) -> SocketAddr, from: impl Fn(usize) -> SocketAddr) -> (u64, u64) {
        pin(None, 0);
        let mut device = UdpDevice::new(&xdp::udp::Options::default()).expect("descriptors");
        let ports: Vec<PortIndex> =
            (0..self.flows).map(|index| device.open(from(index)).expect("free")).collect();
        let start = Instant::now();
        let total = self.flows as u64 * 50 * self.seconds;
        let gap = Duration::from_secs(1) / (self.flows as u32 * 50);
        let (mut sent, mut back) = (0, 0);
        while sent < total {
            let due = (start.elapsed().as_nanos() / gap.as_nanos()) as u64;
            while sent < due.min(total) {
                let index = (sent % self.flows as u64) as usize;
                let path = Path { port: ports[index], remote: to(index) };
                let queued = device.transmit(&mut |_| Some(Outgoing { path, len: 172 }));
                assert_eq!(queued, Ok(true));
                sent += 1;
            }
            device.flush();
            back += device.receive(1024, &mut |_| None) as u64;
            std::thread::sleep(Duration::from_micros(100));
        }
        let last = Instant::now();
        while last.elapsed() < Duration::from_millis(100) {
            device.wait(Duration::from_millis(10));
            back += device.receive(1024, &mut |_| None) as u64;
        }
        (sent, back)
    }
}

/// Keeps a thread on a CPU, if there is one with this number.
fn pin(thread: Option<rustix::process::Pid>, cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(thread, &set);
}

/// The CPU time of this thread.
fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The kernel threads that an interface receives on.
fn napi_threads(interface: &str) -> Vec<std::path::PathBuf> {
    let processes = std::fs::read_dir("/proc").expect("procfs");
    let paths = processes.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            name.starts_with(&format!("napi/{interface}-"))
        })
        .collect()
}

fn napi_nanos(threads: &[impl AsRef<File>]) -> u64 {
    let of = |path: &File| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    };
    threads.iter().map(|path| of(path.as_ref())).sum()
}
