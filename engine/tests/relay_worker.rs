//! Relays on a real worker: ports, commands, packets, the device's hints, a bad network and a panic.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

mod relay_device;
mod relay_support;
mod rig;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::command::{Command, RelayId};
use engine::config::{EngineConfig, WaitPolicy};
use engine::event::{Event, RelayMemory};
use engine::relay::{Relay, RelayEvent, RelayParameters, RelayStatistics, RelayUpdate, Side};
use engine::stream::{App, Refusal};
use engine::{AddRelayError, Engine, EngineEvents};
use relay_device::KernelDevice;
use relay_support::between;
use rig::{IP, Network, Phone, add, add_relay, config, next_event, poll_for, start};
use xdp::netem::{Conditions, Netem, NetemClock};
use xdp::{Device, Handle};

/// Two phones and what was negotiated with them.
fn phones(network: &Network) -> ([Phone; 2], RelayParameters) {
    let phones = [Phone::new(network), Phone::new(network)];
    let mut parameters = between(Some(phones[0].rtp_address), Some(phones[1].rtp_address));
    for (leg, phone) in parameters.legs.iter_mut().zip(&phones) {
        leg.remote_rtcp = Some(phone.rtcp_address);
    }
    (phones, parameters)
}

fn connect(phones: &mut [Phone; 2], locals: [SocketAddr; 2]) {
    for (phone, local) in phones.iter_mut().zip(locals) {
        phone.peer = Some(local);
    }
}

fn query(engine: &Engine, events: &mut EngineEvents, id: RelayId) -> RelayStatistics {
    engine.send(Command::QueryRelay { id, report: Box::default() }).expect("room in the ring");
    loop {
        if let Event::RelayReport { id: of, report } = next_event(events) {
            assert_eq!(of, id);
            return *report;
        }
    }
}

/// Both speak and listen.
fn talk(phones: &mut [Phone; 2], packets: usize) {
    for n in 0..packets {
        phones.iter_mut().for_each(|phone| phone.speak(n as u8));
        std::thread::sleep(Duration::from_millis(1));
        phones.iter_mut().for_each(Phone::listen);
    }
    poll_for(Duration::from_millis(50), || {
        phones.iter_mut().for_each(Phone::listen);
        None::<()>
    });
}

#[test]
fn a_relay_is_added_relays_both_ways_is_queried_updated_and_removed() {
    for network in Network::both() {
        let (engine, mut events) = start(config(8), network.device());
        let (mut phones, parameters) = phones(&network);
        let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
        assert!(locals.iter().all(|local| local.ip() == IP && local.port() % 2 == 0));
        assert_eq!((engine.relays(), engine.streams()), (vec![1], vec![0]));
        connect(&mut phones, locals);
        talk(&mut phones, 50);
        phones.iter_mut().for_each(Phone::report);
        talk(&mut phones, 10);
        for phone in &phones {
            assert_eq!(phone.heard_rtp.len(), 60);
            assert!(phone.heard_rtcp_type(200) && phone.heard_rtcp_type(202));
        }
        let mut latched = Vec::new();
        engine.send(Command::QueryRelay { id, report: Box::default() }).expect("room in the ring");
        let report = loop {
            match next_event(&mut events) {
                Event::Relay { event: RelayEvent::Latched { side, remote }, .. } => {
                    latched.push((side, remote))
                }
                Event::RelayReport { report, .. } => break report,
                other => panic!("{other:?}"),
            }
        };
        latched.sort_by_key(|(side, _)| side.index());
        assert_eq!(latched, [(Side::A, phones[0].rtp_address), (Side::B, phones[1].rtp_address)]);
        for side in &report.sides {
            assert_eq!((side.received_packets, side.sent_packets, side.refused_packets), (60, 60, 0));
            assert_eq!((side.received_rtcp_packets, side.sent_rtcp_packets), (1, 1));
            assert!(side.last_packet_age.expect("one came") < Duration::from_secs(5));
        }
        engine.send(Command::UpdateRelay { id, update: RelayUpdate::new(parameters) }).expect("room");
        assert!(matches!(next_event(&mut events), Event::RelayUpdated { id: of, .. } if of == id));
        talk(&mut phones, 5);
        engine.send(Command::RemoveRelay { id }).expect("room in the ring");
        let Event::RelayRemoved { relay, .. } = next_event(&mut events) else { panic!("removed") };
        assert_eq!(relay.last_statistics().sides[0].received_packets, 65);
        assert_eq!(engine.relays(), [0]);
        let counters = &engine.worker_counters()[0];
        assert_eq!((counters.relays_added.value(), counters.relays_removed.value()), (1, 1));
        assert_eq!((counters.packets_relays.value(), counters.packets.value()), (132, 0));
        // The ports are free again.
        let mut other = network.device();
        for local in locals {
            other.open(local).expect("closed by the worker");
            other.open(SocketAddr::new(IP, local.port() + 1)).expect("closed by the worker");
        }
    }
}

#[test]
fn a_port_in_use_gives_the_relay_and_all_its_ports_back() {
    let network = Network::Loopback(Default::default());
    for taken in 0..4u16 {
        let (engine, mut events) = start(config(4), network.device());
        let (_, parameters) = phones(&network);
        let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
        engine.send(Command::RemoveRelay { id }).expect("room in the ring");
        assert!(matches!(next_event(&mut events), Event::RelayRemoved { .. }));
        let mut other = network.device();
        let local = locals[usize::from(taken / 2)];
        other.open(SocketAddr::new(IP, local.port() + taken % 2)).expect("just closed");
        let (_, again) = engine.add_relay([IP; 2], Relay::new(parameters)).expect("two pairs");
        assert_eq!(again, locals, "the only two pairs");
        let Event::RelayFailed { side, error, relay, .. } = next_event(&mut events) else { panic!("in use") };
        assert_eq!((side.index(), error), (usize::from(taken / 2), std::io::ErrorKind::AddrInUse));
        assert_eq!(engine.relays(), [0]);
        // Those that were opened are closed: all four but the one.
        for port in locals.iter().flat_map(|local| [local.port(), local.port() + 1]) {
            let is_taken = port == local.port() + taken % 2;
            assert_eq!(network.device().open(SocketAddr::new(IP, port)).is_err(), is_taken);
        }
        drop(relay);
    }
}

#[test]
fn what_there_is_no_room_for_is_refused_by_name() {
    let network = Network::Loopback(Default::default());
    let (_, parameters) = phones(&network);
    let (engine, mut events) = start(EngineConfig { relays_per_worker: 1, ..config(8) }, network.device());
    add_relay(&engine, &mut events, Relay::new(parameters));
    let refused = engine.add_relay([IP; 2], Relay::new(parameters));
    assert!(matches!(refused, Err(AddRelayError::NoSlot(_))));
    // One pair is not enough.
    let (engine, _events) = start(config(2), network.device());
    let refused = engine.add_relay([IP; 2], Relay::new(parameters));
    assert!(matches!(refused, Err(AddRelayError::NoPort(_))));
    engine.shutdown();
    assert!(matches!(engine.add_relay([IP; 2], Relay::new(parameters)), Err(AddRelayError::ShutDown(_))));
}

#[test]
fn commands_for_a_relay_that_is_gone_are_counted_and_give_memory_back() {
    let network = Network::Loopback(Default::default());
    let (engine, mut events) = start(config(8), network.device());
    let (_, parameters) = phones(&network);
    let (old, _) = add_relay(&engine, &mut events, Relay::new(parameters));
    engine.send(Command::RemoveRelay { id: old }).expect("room in the ring");
    assert!(matches!(next_event(&mut events), Event::RelayRemoved { .. }));
    let (new, _) = add_relay(&engine, &mut events, Relay::new(parameters));
    assert_eq!((old.worker, old.slot), (new.worker, new.slot), "the slot is used again");
    for id in [old, RelayId { worker: 9, slot: 7_000_000, generation: 0 }] {
        engine.send(Command::QueryRelay { id, report: Box::default() }).expect("room");
        let event = next_event(&mut events);
        assert!(matches!(event, Event::RelayUnknown { id: of, memory: RelayMemory::Report(_) } if of == id));
        engine.send(Command::UpdateRelay { id, update: RelayUpdate::new(parameters) }).expect("room");
        let event = next_event(&mut events);
        assert!(matches!(event, Event::RelayUnknown { id: of, memory: RelayMemory::Update(_) } if of == id));
        engine.send(Command::RemoveRelay { id }).expect("room");
    }
    assert_eq!(query(&engine, &mut events, new).sides[0].received_packets, 0);
    assert_eq!(engine.worker_counters()[0].commands_unknown_stream.value(), 6);
}

#[test]
fn the_device_is_told_whom_a_port_talks_to_and_told_again() {
    let network = Network::Loopback(Default::default());
    let (device, kernel) = KernelDevice::new(network.device());
    let (engine, mut events) = start(config(8), Box::new(device));
    let (mut phones, mut parameters) = phones(&network);
    let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
    connect(&mut phones, locals);
    talk(&mut phones, 2);
    let told = |local: SocketAddr| kernel.connected.lock().expect("no panic").get(&local.port()).copied();
    for (local, phone) in locals.into_iter().zip(&phones) {
        assert_eq!(told(local), Some(Some(phone.rtp_address)));
    }
    // Strangers do not even reach the relay.
    let mut stranger = Phone::new(&network);
    stranger.peer = Some(locals[0]);
    stranger.talk(3, 1);
    assert_eq!(query(&engine, &mut events, id).sides[0].stranger_packets, 0);
    assert_eq!(engine.device_counters()[0].receive_strangers.value(), 3);
    // Signalling names the stranger.
    parameters.legs[0].remote_rtp = Some(stranger.rtp_address);
    engine.send(Command::UpdateRelay { id, update: RelayUpdate::new(parameters) }).expect("room");
    poll_for(Duration::from_secs(5), || (told(locals[0]) == Some(None)).then_some(())).expect("anybody");
    stranger.talk(1, 1);
    let expected = Some(Some(stranger.rtp_address));
    poll_for(Duration::from_secs(5), || (told(locals[0]) == expected).then_some(())).expect("the new one");
    assert_eq!(query(&engine, &mut events, id).sides[0].latched, Some(stranger.rtp_address));
}

#[test]
fn a_panic_ends_only_its_relay() {
    let network = Network::Loopback(Default::default());
    let (device, kernel) = KernelDevice::new(network.device());
    let (engine, mut events) = start(config(16), Box::new(device));
    let (mut first, parameters) = phones(&network);
    let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
    connect(&mut first, locals);
    let (mut second, parameters) = phones(&network);
    let (_, others) = add_relay(&engine, &mut events, Relay::new(parameters));
    connect(&mut second, others);
    let (stream, _) = {
        let mut phone = Phone::new(&network);
        let added = add(&engine, &mut events, engine::stream::Stream::new(phone.parameters()));
        engine.send(Command::Attach { id: added.0, app: App::Echo }).expect("room");
        phone.peer = Some(added.1);
        added
    };
    kernel.mine.store(usize::from(locals[1].port()), Ordering::Release);
    talk(&mut first, 3);
    let ended = poll_for(Duration::from_secs(5), || match events.poll() {
        Some(Event::RelayPanicked { id }) => Some(id),
        _ => None,
    });
    assert_eq!(ended, Some(id));
    assert_eq!(engine.relays(), [1]);
    talk(&mut second, 10);
    assert_eq!(second[0].heard_rtp.len(), 10);
    engine.send(Command::QueryStream { id: stream }).expect("room");
    poll_for(Duration::from_secs(5), || match events.poll() {
        Some(Event::StreamReport { .. }) => Some(()),
        _ => None,
    })
    .expect("streams go on");
    assert_eq!(engine.worker_counters()[0].relays_panicked.value(), 1);
    // Its ports can be used again.
    for local in locals {
        network.device().open(local).expect("closed");
    }
}

#[test]
fn silence_of_both_parties_is_told() {
    let network = Network::Loopback(Default::default());
    let (engine, mut events) = start(config(8), network.device());
    let (mut phones, mut parameters) = phones(&network);
    parameters.media_timeout = Duration::from_millis(200);
    let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
    connect(&mut phones, locals);
    talk(&mut phones, 20);
    let told = poll_for(Duration::from_secs(5), || match events.poll() {
        Some(Event::Relay { id, event: RelayEvent::MediaTimeout }) => Some(id),
        _ => None,
    });
    assert_eq!(told, Some(id));
}

/// Writes down what the worker is given and what it sends on, in order.
struct Witness {
    inner: Box<dyn Device>,
    seen: Arc<Mutex<Vec<[Vec<u8>; 2]>>>,
}

impl Device for Witness {
    crate::rig::pass_on!(open local_address close connect transmit flush flows wait rest);

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        let Self { inner, seen } = self;
        inner.receive(budget, &mut |datagram| {
            let xdp::Datagram { port, remote, payload } = datagram;
            let before = payload.to_vec();
            let outgoing = handle(xdp::Datagram { port, remote, payload: &mut *payload });
            let after = outgoing.map_or(Vec::new(), |outgoing| payload[..outgoing.len].to_vec());
            seen.lock().expect("no panic").push([before, after]);
            outgoing
        })
    }
}

#[test]
fn what_a_bad_network_delivers_goes_out_once_and_in_order_of_arrival() {
    let network = Network::Loopback(Default::default());
    let conditions = Conditions {
        loss: 0.1,
        duplication: 0.1,
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(10),
    };
    let netem = Netem::new(network.device(), conditions, Conditions::default(), 42, NetemClock::real());
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let device = Witness { inner: Box::new(netem), seen: Arc::clone(&seen) };
    let (engine, mut events) = start(config(8), Box::new(device));
    let (mut phones, parameters) = phones(&network);
    let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
    connect(&mut phones, locals);
    talk(&mut phones, 500);
    let report = query(&engine, &mut events, id);
    let seen = seen.lock().expect("no panic");
    assert!(seen.iter().all(|[before, after]| before == after), "each goes on as it came");
    for side in Side::BOTH {
        let arrived: Vec<_> = seen
            .iter()
            .map(|[before, _]| before)
            .filter(|packet| packet[8..12] == phones[side.index()].ssrc().to_be_bytes())
            .collect();
        let heard: Vec<_> = phones[side.other().index()].heard_rtp.iter().collect();
        assert_eq!(heard, arrived);
        let side = &report.sides[side.index()];
        assert_eq!(side.received_packets, arrived.len() as u64);
        // 500 less one tenth, and one tenth of those twice.
        assert!((420..=570).contains(&arrived.len()), "{}", arrived.len());
        assert!(side.duplicate_packets > 10 && side.reordered_packets > 50, "{side:?}");
        assert!(side.lost_packets.unsigned_abs() < 80 && side.jitter > Duration::from_micros(500));
        assert_eq!(side.refusals.count(Refusal::Stranger), 0);
    }
}

#[test]
fn a_loaded_worker_ticks_and_relays_all_and_its_streams_stay_punctual() {
    let network = Network::Loopback(Default::default());
    let policy = EngineConfig { wait: WaitPolicy::Adaptive, ..config(8) };
    let (engine, mut events) = start(policy, network.device());
    let (mut phones, parameters) = phones(&network);
    let (_, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
    connect(&mut phones, locals);
    talk(&mut phones, 50);
    let counters = Arc::clone(&engine.worker_counters()[0]);
    assert_eq!(counters.ticks.value(), 0, "a quiet worker is woken");
    assert!(counters.waits.value() > 20);
    let mut phone = Phone::new(&network);
    let (id, local) = add(&engine, &mut events, engine::stream::Stream::new(phone.parameters()));
    engine.send(Command::Attach { id, app: App::Echo }).expect("room");
    phone.peer = Some(local);
    // About 120 per millisecond, or what the machine has room for, until it has ticked enough.
    let start = std::time::Instant::now();
    let mut spoken = 50;
    let mut frames = 0;
    let is_over = |frames| frames >= 50 && counters.ticks.value() > 50;
    while !is_over(frames) && start.elapsed() < Duration::from_secs(20) {
        for _ in 0..120 {
            phones[0].speak(1);
        }
        spoken += 120;
        if start.elapsed() >= Duration::from_millis(20) * frames {
            phone.speak(2);
            frames += 1;
        }
        std::thread::sleep(Duration::from_micros(800));
        phones.iter_mut().for_each(Phone::listen);
        // A machine that is busy with other things is not to overflow a queue.
        while spoken > phones[1].heard_rtp.len() + 2000 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
            phones.iter_mut().for_each(Phone::listen);
        }
    }
    poll_for(Duration::from_secs(5), || {
        phones.iter_mut().for_each(Phone::listen);
        (phones[1].heard_rtp.len() == spoken).then_some(())
    });
    phone.listen();
    assert_eq!(phones[1].heard_rtp.len(), spoken);
    assert!(counters.ticks.value() > 50, "{}", counters.ticks.value());
    assert!(counters.deadlines.value() >= 25, "{}", counters.deadlines.value());
    assert!(phone.heard_rtp.len() >= 25, "{}", phone.heard_rtp.len());
}
