//! Relays through the real AF_XDP device and the real kernel, on a cable between two namespaces.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

#[path = "../../xdp/tests/netns/mod.rs"]
mod netns;
mod relay_support;
mod rig;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use engine::command::Command;
use engine::config::{DeviceKind, EngineConfig, WaitPolicy, XdpMode};
use engine::event::Event;
use engine::relay::{Relay, RelayParameters, RelayStatistics, RelayUpdate};
use engine::{Engine, EngineEvents};
use netns::{Cable, Options};
use relay_support::{Party, between};
use rig::{next_event, poll_for};
use xdp::bpf::{Assembler, Link, Mode, Program, ProgramKind, Register, Verdict};

struct Phone {
    socket: UdpSocket,
    party: Party,
    heard: Vec<Vec<u8>>,
}

impl Phone {
    fn say(&mut self, to: SocketAddr) {
        let packet = self.party.packet(&[0x2A; 160]);
        self.socket.send_to(&packet, to).expect("sent");
    }

    fn listen(&mut self) {
        let mut packet = [0; 1500];
        while let Ok((len, _)) = self.socket.recv_from(&mut packet) {
            self.heard.push(packet[..len].to_vec());
        }
    }
}

fn query(engine: &Engine, events: &mut EngineEvents, id: engine::command::RelayId) -> RelayStatistics {
    engine.send(Command::QueryRelay { id, report: Box::default() }).expect("room in the ring");
    loop {
        if let Event::RelayReport { report, .. } = next_event(events) {
            return *report;
        }
    }
}

fn relay_over(cable: &Cable, mode: XdpMode, in_kernel: bool) {
    let (near, far): (IpAddr, IpAddr) = (cable.near.ipv4.into(), cable.far.ipv4.into());
    let mut phones = Party::both().map(|party| {
        let socket = cable.far.run(|| UdpSocket::bind((far, 0)).expect("a free port"));
        socket.set_nonblocking(true).expect("a socket");
        Phone { socket, party, heard: Vec::new() }
    });
    let at = |phone: &Phone| phone.socket.local_addr().ok();
    let parameters = RelayParameters { in_kernel, ..between(at(&phones[0]), at(&phones[1])) };
    let mut config = EngineConfig {
        media_ports: 20_000..=20_063,
        media_cpus: vec![0],
        streams_per_worker: 4,
        relays_per_worker: 4,
        device: DeviceKind::AfXdp,
        wait: WaitPolicy::Adaptive,
        ..EngineConfig::default()
    };
    config.af_xdp.interface = Some(cable.near.interface.clone());
    config.af_xdp.mode = mode;
    // Threads of the engine are born on the host that starts it.
    let (engine, mut events) = cable.near.run(|| Engine::start(config)).expect("the machine has AF_XDP");
    assert!(engine.device().name.starts_with("af_xdp"), "{:?}", engine.device());
    let (id, locals) = engine.add_relay([near; 2], Relay::new(parameters)).expect("room for a relay");
    while !matches!(next_event(&mut events), Event::RelayAdded { .. }) {}

    let mut spoken = 0;
    let mut talk = |phones: &mut [Phone; 2], packets: u64| {
        for _ in 0..packets {
            for (phone, local) in phones.iter_mut().zip(locals) {
                phone.say(local);
            }
            std::thread::sleep(Duration::from_millis(2));
            phones.iter_mut().for_each(Phone::listen);
        }
        std::thread::sleep(Duration::from_millis(50));
        phones.iter_mut().for_each(Phone::listen);
        spoken += packets;
        spoken
    };
    let mut in_kernel_before = [0; 2];
    for turn in 0..4 {
        let spoken = talk(&mut phones, 50);
        // The route to the receiver may have to be asked for first, and is asked for again.
        let is_promoted = |report: &RelayStatistics| report.sides.iter().all(|side| side.in_kernel);
        if in_kernel {
            let promoted = poll_for(Duration::from_secs(10), || {
                std::thread::sleep(Duration::from_millis(50));
                is_promoted(&query(&engine, &mut events, id)).then_some(())
            });
            promoted.expect("the kernel takes over");
        }
        let spoken = spoken + talk(&mut phones, 100) - spoken;
        let report = query(&engine, &mut events, id);
        for (number, side) in report.sides.iter().enumerate() {
            assert_eq!((side.received_packets, side.sent_packets), (spoken, spoken), "turn {turn}: {side:?}");
            assert_eq!((side.received_bytes, side.lost_packets), (spoken * 172, 0), "turn {turn}: {side:?}");
            assert_eq!(side.last_sequence, Some(99 + spoken as u16));
            assert!(side.last_packet_age.expect("one came") < Duration::from_secs(5), "{side:?}");
            let by_kernel = side.in_kernel_packets - in_kernel_before[number];
            assert_eq!(by_kernel >= 100, in_kernel, "turn {turn}: {by_kernel}");
            in_kernel_before[number] = side.in_kernel_packets;
        }
        // A new offer that changes nothing: out of the kernel and back.
        engine.send(Command::UpdateRelay { id, update: RelayUpdate::new(parameters) }).expect("room");
    }
    for (phone, other) in phones.iter().zip([0xBBBB_u32, 0xAAAA]) {
        assert!(phone.heard.iter().all(|packet| packet.len() == 172 && packet[8..12] == other.to_be_bytes()));
        let numbers: HashSet<[u8; 2]> = phone.heard.iter().map(|packet| [packet[2], packet[3]]).collect();
        assert_eq!((phone.heard.len(), numbers.len()), (600, 600), "each came once");
    }
    engine.send(Command::RemoveRelay { id }).expect("room in the ring");
    while !matches!(next_event(&mut events), Event::RelayRemoved { .. }) {}
    let counters = &engine.worker_counters()[0];
    assert_eq!(counters.flows_promoted.value(), counters.flows_demoted.value());
}

/// A cable, and at its far end a program that passes everything: without one a veth does not take what another
/// program sends into it.
fn cable(test: &str) -> Option<(Cable, Link)> {
    let cable = Cable::or_skip(test, Options::default())?;
    let mut code = Assembler::new();
    code.mov(Register::R0, Verdict::Pass as i32).exit();
    let pass =
        Program::load("pass", ProgramKind::Xdp, &code.build().expect("right")).expect("the machine has XDP");
    let attach = || pass.attach(cable.far.index(), Mode::Native).expect("a veth has native mode");
    let link = cable.far.run(attach);
    Some((cable, link))
}

#[test]
fn a_relay_through_af_xdp_loses_nothing() {
    let Some((cable, _link)) = cable("a_relay_through_af_xdp_loses_nothing") else { return };
    for mode in [XdpMode::Native, XdpMode::Generic] {
        relay_over(&cable, mode, false);
    }
}

#[test]
fn a_relay_in_the_kernel_loses_nothing_and_neither_does_its_account() {
    let Some((cable, _link)) = cable("a_relay_in_the_kernel_loses_nothing_and_neither_does_its_account")
    else {
        return;
    };
    relay_over(&cable, XdpMode::Native, true);
}
