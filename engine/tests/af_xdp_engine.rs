//! The engine on AF_XDP as configured: what it takes, what it refuses and in which words.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

#[path = "../../xdp/tests/netns/mod.rs"]
mod netns;
mod rig;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use engine::command::Command;
use engine::config::{AfXdpConfig, DeviceKind, EngineConfig, Want, XdpMode};
use engine::stream::{App, Stream};
use engine::{Engine, StartError};
use netns::{Cable, Host, Options};
use rig::{config, next_event, parameters};

/// Two workers on the host's interface.
fn on(host: &Host, af_xdp: AfXdpConfig) -> EngineConfig {
    let af_xdp = AfXdpConfig { interface: Some(host.interface.clone()), frames: 512, ring: 256, ..af_xdp };
    EngineConfig { device: DeviceKind::AfXdp, media_cpus: vec![0, 1], af_xdp, ..config(64) }
}

fn has_two_cpus(test: &str) -> bool {
    let two = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() >= 2);
    if !two {
        netns::skip(test, "two CPUs are needed");
    }
    two
}

#[test]
fn two_workers_share_the_queues_of_an_interface_and_hear_all_their_ports() {
    let test = "two_workers_share_the_queues_of_an_interface_and_hear_all_their_ports";
    let Some(cable) = Cable::or_skip(test, Options { queues: 2, ..Options::default() }) else { return };
    if !has_two_cpus(test) {
        return;
    }
    let (engine, mut events) =
        cable.near.run(|| Engine::start(on(&cable.near, AfXdpConfig::default()))).expect("it starts");
    assert!(engine.device().name.starts_with("af_xdp native"), "{:?}", engine.device());
    // What veth cannot is said.
    let ports = &engine.device().ports;
    assert!(ports.starts_with("in turn: ") && ports.contains("takes no rules for ports"), "{ports}");
    let remote: SocketAddr = (cable.far.ipv4, 4000).into();
    let locals: Vec<SocketAddr> = (0..8)
        .map(|_| {
            let stream = Stream::new(parameters(Some(remote), None));
            let (_, local) = engine.add_stream(cable.near.ipv4.into(), stream).expect("room");
            next_event(&mut events);
            local
        })
        .collect();
    assert_eq!(engine.streams(), [4, 4]);
    assert_eq!(engine.port_counters().in_turn.value(), 8);
    let sender = cable.far.run(|| UdpSocket::bind(remote)).expect("a port");
    let heard =
        || engine.worker_counters().iter().map(|counters| counters.packets.value()).collect::<Vec<_>>();
    let until = Instant::now() + Duration::from_secs(10);
    while heard().contains(&0) && Instant::now() < until {
        for local in &locals {
            let _ = sender.send_to(&[0x80; 172], local);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!heard().contains(&0), "both workers hear: {:?}", heard());
    engine.shutdown();
}

#[test]
fn what_is_required_and_cannot_be_had_is_refused_in_words() {
    let test = "what_is_required_and_cannot_be_had_is_refused_in_words";
    let Some(cable) = Cable::or_skip(test, Options { queues: 2, ..Options::default() }) else { return };
    if !has_two_cpus(test) {
        return;
    }
    let refusal = |af_xdp| {
        let refused = cable.near.run(|| Engine::start(on(&cable.near, af_xdp)).map(|_| ()));
        match refused.expect_err("it cannot start") {
            StartError::DeviceUnavailable { device: DeviceKind::AfXdp, reason } => reason,
            other => panic!("{other}"),
        }
    };
    let zero_copy = refusal(AfXdpConfig { zero_copy: Want::Require, ..AfXdpConfig::default() });
    assert!(zero_copy.to_lowercase().contains("zero"), "{zero_copy}");
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    if free.is_ok_and(|free| free.trim() == "0") {
        let hugepages = refusal(AfXdpConfig { hugepages: Want::Require, ..AfXdpConfig::default() });
        assert!(hugepages.contains("vm.nr_hugepages"), "{hugepages}");
    }
    let queue = refusal(AfXdpConfig { queues: vec![7], ..AfXdpConfig::default() });
    assert!(queue.contains('7'), "{queue}");
    let generic = AfXdpConfig { mode: XdpMode::Generic, ..AfXdpConfig::default() };
    let name =
        cable.near.run(|| Engine::start(on(&cable.near, generic)).map(|(engine, _)| engine.device().name));
    assert_eq!(name.expect("it starts"), "af_xdp generic copy");
}

#[test]
fn calls_go_on_when_the_program_is_taken_off_the_interface() {
    let test = "calls_go_on_when_the_program_is_taken_off_the_interface";
    let most = LATE_PACKETS * CALLS;
    let Some(cable) = Cable::or_skip(test, Options { queues: 2, ..Options::default() }) else { return };
    if !has_two_cpus(test) {
        return;
    }
    // Room for what comes while the machine keeps a worker waiting: it is not the fallback that loses it.
    let mut config = on(&cable.near, AfXdpConfig::default());
    (config.af_xdp.frames, config.af_xdp.ring) = (8192, 4096);
    let (engine, mut events) = cable.near.run(|| Engine::start(config)).expect("it starts");
    let started = engine.device().name;
    assert_eq!(engine.devices_in_use(), [started; 2]);
    let callers: Vec<(UdpSocket, SocketAddr)> = (0..CALLS)
        .map(|_| {
            let socket = cable.far.run(|| UdpSocket::bind((cable.far.ipv4, 0))).expect("a port");
            socket.set_nonblocking(true).expect("a socket");
            let stream = Stream::new(parameters(Some(socket.local_addr().expect("bound")), None));
            let (id, local) = engine.add_stream(cable.near.ipv4.into(), stream).expect("room");
            next_event(&mut events);
            engine.send(Command::Attach { id, app: App::Echo }).expect("room in the ring");
            (socket, local)
        })
        .collect();
    let heard = || engine.worker_counters().iter().map(|counters| counters.packets.value()).sum::<u64>();
    let mut numbers: Vec<Vec<u16>> = vec![Vec::new(); CALLS];
    let mut sent = 0;
    let mut after = 0;
    for round in 0..10 * ROUNDS {
        // A worker that the machine keeps waiting sends later; what it sends has no gaps all the same.
        if round >= ROUNDS && after >= CALLS * usize::from(ROUNDS / 4) {
            break;
        }
        if round == ROUNDS / 2 {
            engine.interface().expect("it is AF_XDP").detach().expect("attached until now");
        }
        for ((socket, local), numbers) in callers.iter().zip(&mut numbers) {
            let [high, low] = round.to_be_bytes();
            let stamp = (u32::from(round) * 160).to_be_bytes();
            let packet = [&[0x80, 0, high, low][..], &stamp, &[0, 0, 0, 7], &[0x55; 160]].concat();
            socket.send_to(&packet, local).expect("sent");
            sent += 1;
            let mut buffer = [0; 1500];
            while let Ok(len) = socket.recv(&mut buffer) {
                if len > 12 && buffer[1] & 0x7f == 0 {
                    numbers.push(u16::from_be_bytes([buffer[2], buffer[3]]));
                    after += usize::from(round > ROUNDS / 2 + 5);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let until = Instant::now() + Duration::from_secs(5);
    while heard() + (most as u64) < sent && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(heard() + most as u64 >= sent, "{} of {sent} packets came in", heard());
    let lost: usize = numbers
        .iter()
        .map(|numbers| {
            let first = numbers.first().copied().unwrap_or_default();
            // They begin anywhere and go round.
            let span = numbers.iter().map(|number| number.wrapping_sub(first)).max().unwrap_or_default();
            (usize::from(span) + 1).saturating_sub(numbers.len())
        })
        .sum();
    assert!(lost <= most, "{lost} packets did not go out");
    assert!(after >= CALLS * usize::from(ROUNDS / 4), "only {after} packets went out afterwards");
    assert_eq!(engine.devices_in_use(), ["af_xdp, now through kernel sockets"; 2]);
    assert_eq!(engine.device().name, started);
    engine.shutdown();
}

const CALLS: usize = 16;

/// A hundred milliseconds of a call.
const LATE_PACKETS: usize = 5;

/// Packets that each caller sends at least.
const ROUNDS: u16 = 100;
