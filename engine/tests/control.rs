//! The control side against real workers: ids, ports, rings, start and shutdown.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

#[path = "../../xdp/tests/netns/mod.rs"]
mod netns;
mod rig;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use engine::command::{Command, Digit};
use engine::config::{AfXdpConfig, DeviceKind, EngineConfig, WaitPolicy};
use engine::event::Event;
use engine::stream::App;
use engine::{AddStreamError, Engine, StartError};
use rig::{IP, Network, add, config, idle_stream, next_event, parameters, poll_for, start};
use xdp::Device;

#[test]
fn a_stream_is_added_queried_and_removed() {
    for network in Network::both() {
        let (engine, mut events) = start(config(8), network.device());
        let (id, local) = add(&engine, &mut events, idle_stream());
        assert_eq!(local.ip(), IP);
        assert_eq!(local.port() % 2, 0);
        assert_eq!(engine.streams(), [1]);
        engine.send(Command::QueryStream { id }).expect("room in the ring");
        assert!(matches!(next_event(&mut events), Event::StreamReport { id: other, .. } if other == id));
        engine.send(Command::RemoveStream { id }).expect("room in the ring");
        assert!(matches!(next_event(&mut events), Event::StreamRemoved { id: other, .. } if other == id));
        assert_eq!(engine.streams(), [0]);
        let counters = &engine.worker_counters()[0];
        assert_eq!((counters.streams_removed.value(), counters.commands_unknown_stream.value()), (1, 0));
    }
}

#[test]
fn a_stream_takes_two_ports_or_one_if_multiplexed_and_gives_them_back() {
    for network in Network::both() {
        let (engine, mut events) = start(config(8), network.device());
        let mut other = network.device();
        let (id, local) = add(&engine, &mut events, idle_stream());
        let next = SocketAddr::new(IP, local.port() + 1);
        assert!(other.open(local).is_err());
        assert!(other.open(next).is_err());
        engine.send(Command::RemoveStream { id }).expect("room in the ring");
        assert!(matches!(next_event(&mut events), Event::StreamRemoved { .. }));
        for address in [local, next] {
            let port = other.open(address).expect("closed by the worker");
            other.close(port);
        }

        let mut multiplexed = parameters(None, None);
        multiplexed.rtcp_mux = true;
        let (id, local) = add(&engine, &mut events, engine::stream::Stream::new(multiplexed));
        let next = SocketAddr::new(IP, local.port() + 1);
        assert!(other.open(local).is_err());
        let port = other.open(next).expect("not opened by the worker");
        other.close(port);
        // An offer may end multiplexing.
        engine.send(Command::UpdateStream { id, parameters: parameters(None, None) }).expect("room");
        engine.send(Command::QueryStream { id }).expect("room in the ring");
        assert!(matches!(next_event(&mut events), Event::StreamReport { .. }));
        assert!(other.open(next).is_err());
    }
}

#[test]
fn a_stream_on_a_port_in_use_comes_back_and_goes_elsewhere() {
    for network in Network::both() {
        for taken_offset in [0, 1] {
            let (engine, mut events) = start(config(4), network.device());
            let (id, local) = add(&engine, &mut events, idle_stream());
            engine.send(Command::RemoveStream { id }).expect("room in the ring");
            assert!(matches!(next_event(&mut events), Event::StreamRemoved { .. }));
            // The pair just used comes last, so the next stream is on the other pair and this one after it.
            let mut other = network.device();
            other.open(SocketAddr::new(IP, local.port() + taken_offset)).expect("just closed");
            let (_, second) = add(&engine, &mut events, idle_stream());
            assert_ne!(second, local);
            let (failed_id, failed_local) = engine.add_stream(IP, idle_stream()).expect("a free pair");
            assert_eq!(failed_local, local);
            let Event::StreamFailed { id, error, stream } = next_event(&mut events) else {
                panic!("the port is in use");
            };
            assert_eq!((id, error), (failed_id, std::io::ErrorKind::AddrInUse));
            assert_eq!(engine.streams(), [1]);
            let (again, _) = engine.add_stream(IP, stream).expect("the pair is free again");
            assert_ne!(again, failed_id);
        }
    }
}

#[test]
fn commands_for_a_stream_that_is_gone_are_counted_and_give_memory_back() {
    let (engine, mut events) = start(config(8), Network::Udp.device());
    let (old, _) = add(&engine, &mut events, idle_stream());
    engine.send(Command::RemoveStream { id: old }).expect("room in the ring");
    assert!(matches!(next_event(&mut events), Event::StreamRemoved { .. }));
    let (new, _) = add(&engine, &mut events, idle_stream());
    assert_eq!((old.worker, old.slot), (new.worker, new.slot), "the slot is used again");

    let foreign = engine::command::StreamId { worker: 9, slot: 7_000_000, generation: 0 };
    for id in [old, foreign] {
        engine.send(Command::QueryStream { id }).expect("room in the ring");
        engine.send(Command::RemoveStream { id }).expect("room in the ring");
        engine.send(Command::Attach { id, app: App::Echo }).expect("room in the ring");
        let event = next_event(&mut events);
        assert!(
            matches!(event, Event::AppDetached { id: other, app: App::Echo } if other == id),
            "{event:?}"
        );
    }
    engine.send(Command::QueryStream { id: new }).expect("room in the ring");
    assert!(matches!(next_event(&mut events), Event::StreamReport { id, .. } if id == new));
    assert_eq!(engine.worker_counters()[0].commands_unknown_stream.value(), 6);
}

#[test]
fn streams_and_ports_are_shared_out_evenly_and_end() {
    let config = EngineConfig { streams_per_worker: 4, ..config(12) };
    let devices = vec![Network::Udp.device(), Network::Udp.device()];
    let (engine, mut events) = Engine::start_on(config, devices, Vec::new()).expect("it starts");
    let mut locals = Vec::new();
    for _ in 0..6 {
        locals.push(add(&engine, &mut events, idle_stream()));
    }
    assert_eq!(engine.streams(), [3, 3]);
    let boundary = locals.iter().filter(|(id, _)| id.worker == 0).map(|(_, local)| local.port()).max();
    assert!(locals.iter().filter(|(id, _)| id.worker == 1).all(|(_, local)| Some(local.port()) > boundary));
    assert!(matches!(engine.add_stream(IP, idle_stream()), Err(AddStreamError::NoPort(_))));

    let config = EngineConfig { streams_per_worker: 1, ..rig::config(12) };
    let (engine, mut events) = start(config, Network::Udp.device());
    add(&engine, &mut events, idle_stream());
    let refused = engine.add_stream(IP, idle_stream()).expect_err("one slot");
    assert!(matches!(refused, AddStreamError::NoSlot(_)));
    assert!(!refused.into_stream().rtcp_mux());
}

#[test]
fn a_full_command_ring_gives_the_command_back() {
    let gate = Gate::default();
    let device = Gated { inner: Network::Udp.device(), gate: gate.clone() };
    let config = EngineConfig { command_ring: 3, ..config(16) };
    let (engine, mut events) = start(config, Box::new(device));
    let (id, _) = add(&engine, &mut events, idle_stream());
    gate.close();
    engine
        .send(Command::RelayDtmf {
            id,
            digit: Digit::from_event(0).expect("a digit"),
            duration: Duration::ZERO,
        })
        .expect("room");
    poll_for(Duration::from_secs(5), || gate.holds_somebody().then_some(())).expect("the worker stops");
    let mut queries = 0;
    while engine.send(Command::QueryStream { id }).is_ok() {
        queries += 1;
    }
    assert!((2..=3).contains(&queries));
    let refused = engine.send(Command::Attach { id, app: App::Echo }).expect_err("the ring is full");
    assert!(matches!(*refused.0, Command::Attach { app: App::Echo, .. }));
    let refused = engine.add_stream(IP, idle_stream()).expect_err("the ring is full");
    assert!(matches!(refused, AddStreamError::CommandRingFull(_)));
    gate.open();
    for _ in 0..queries {
        assert!(matches!(next_event(&mut events), Event::StreamReport { .. }));
    }
    add(&engine, &mut events, refused.into_stream());
}

#[test]
fn answers_wait_for_room_in_a_full_event_ring_in_order() {
    let config = EngineConfig { event_ring: 1, command_ring: 64, ..config(32) };
    let (engine, mut events) = start(config, Network::Loopback(Default::default()).device());
    let (id, _) = add(&engine, &mut events, idle_stream());
    for _ in 0..4 {
        engine.send(Command::QueryStream { id }).expect("room in the ring");
    }
    let (second, _) = engine.add_stream(IP, idle_stream()).expect("room");
    engine.send(Command::RemoveStream { id }).expect("room in the ring");
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..4 {
        assert!(matches!(next_event(&mut events), Event::StreamReport { id: other, .. } if other == id));
    }
    assert!(matches!(next_event(&mut events), Event::StreamAdded { id } if id == second));
    assert!(matches!(next_event(&mut events), Event::StreamRemoved { id: other, .. } if other == id));
    assert_eq!(engine.worker_counters()[0].events_dropped.value(), 0);
}

#[test]
fn a_sleeping_worker_wakes_for_a_command_and_its_answer_rings() {
    for wait in [WaitPolicy::Sleep, WaitPolicy::Adaptive, WaitPolicy::Busy] {
        let config = EngineConfig { wait, ..config(4) };
        let (engine, mut events) = start(config, Network::Udp.device());
        let (id, _) = add(&engine, &mut events, idle_stream());
        std::thread::sleep(Duration::from_millis(20));
        let slowest = (0..5)
            .map(|_| {
                let start = Instant::now();
                events.doorbell().hear();
                engine.send(Command::QueryStream { id }).expect("room in the ring");
                let rung = || events.doorbell().hear().then_some(());
                poll_for(Duration::from_secs(5), rung).expect("the answer rings");
                assert!(matches!(events.poll(), Some(Event::StreamReport { .. })));
                start.elapsed()
            })
            .min()
            .expect("five rounds");
        // Without the doorbell it would look around once in a second.
        assert!(slowest < Duration::from_millis(500), "{wait:?}: {slowest:?}");
    }
}

#[test]
fn an_engine_that_cannot_start_says_why() {
    let refusal = |config: EngineConfig| Engine::start(config).map(|_| ()).expect_err("it cannot start");
    let no_cpu = EngineConfig { media_cpus: vec![0, 1000], ..config(8) };
    assert!(matches!(refusal(no_cpu), StartError::NoSuchCpu { cpu: 1000, .. }));
    let beyond = EngineConfig { media_cpus: vec![usize::MAX], ..config(8) };
    assert!(matches!(refusal(beyond), StartError::NoSuchCpu { cpu: usize::MAX, .. }));
    let few_ports = EngineConfig { media_ports: 20_001..=20_002, ..EngineConfig::default() };
    let refused = refusal(few_ports);
    assert!(matches!(refused, StartError::TooFewPorts { first: 20_001, .. }));
    assert!(refused.to_string().contains("give a larger range"));
    let nothing = EngineConfig { event_ring: 0, ..config(8) };
    assert!(matches!(refusal(nothing), StartError::OutOfRange { name: "event_ring", .. }));
    let device = EngineConfig { device: DeviceKind::AfXdp, ..config(8) };
    assert!(matches!(refusal(device), StartError::DeviceUnavailable { device: DeviceKind::AfXdp, .. }));
}

/// On a host of its own with an interface, where that can be had: no program is put into the machine's network.
fn apart<T: Send>(work: impl FnOnce(Option<String>) -> T + Send) -> T {
    match netns::Cable::new(netns::Options::default()) {
        Ok(cable) => cable.near.run(|| work(Some(cable.near.interface.clone()))),
        Err(_) => work(None),
    }
}

#[test]
fn auto_takes_the_best_device_and_says_why_not_a_better_one() {
    let ladder = [DeviceKind::AfXdp, DeviceKind::SkLookup, DeviceKind::IoUring, DeviceKind::Udp];
    let (engine, _events) = apart(|_| Engine::start(config(8))).expect("it starts");
    let choice = engine.device();
    let (refused, reasons): (Vec<_>, Vec<_>) = choice.refused.iter().cloned().unzip();
    assert_eq!(refused, ladder[..refused.len()]);
    assert_eq!(choice.name, ladder[refused.len()].name());
    assert!(reasons[0].contains("media.interface"), "{reasons:?}");
    assert!(reasons.iter().all(|reason| !reason.is_empty()), "{reasons:?}");
}

#[test]
fn every_device_that_can_be_had_carries_a_stream_and_the_others_say_why_not() {
    for device in [DeviceKind::AfXdp, DeviceKind::SkLookup, DeviceKind::IoUring, DeviceKind::Udp] {
        let started = apart(|interface| {
            let af_xdp = AfXdpConfig { interface, ..AfXdpConfig::default() };
            let (engine, mut events) = Engine::start(EngineConfig { device, af_xdp, ..config(8) })?;
            add(&engine, &mut events, idle_stream());
            Ok(engine)
        });
        match started {
            Ok(engine) => {
                // AF_XDP says in which way.
                assert!(engine.device().name.starts_with(device.name()), "{}", engine.device().name);
                let worse = engine.device().refused.iter().find(|(refused, _)| *refused != device);
                assert_eq!(worse, None);
            }
            Err(StartError::DeviceUnavailable { device: refused, reason }) => {
                assert_eq!(refused, device);
                assert_ne!(device, DeviceKind::Udp, "{reason}");
                netns::skip(&format!("an engine on {device}"), &reason);
            }
            Err(error) => panic!("{device}: {error}"),
        }
    }
}

#[test]
fn a_worker_is_pinned_to_its_cpu_and_named() {
    let config = EngineConfig { media_cpus: vec![0], ..config(8) };
    let (engine, mut events) = Engine::start(config).expect("CPU 0 exists");
    add(&engine, &mut events, idle_stream());
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let pinned = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let pinned = pinned
        .filter(|status| status.starts_with("Name:\tmedia-0\n"))
        .any(|status| status.contains("\nCpus_allowed_list:\t0\n"));
    assert!(pinned);
}

#[test]
fn shutdown_removes_every_stream_and_refuses_new_ones() {
    for network in Network::both() {
        let (engine, mut events) = start(config(16), network.device());
        let mut ids: Vec<_> = (0..3).map(|_| add(&engine, &mut events, idle_stream()).0).collect();
        engine.shutdown();
        engine.shutdown();
        while let Some(event) = events.poll() {
            if let Event::StreamRemoved { id, .. } = event {
                ids.retain(|other| *other != id);
            }
        }
        assert_eq!(ids, []);
        assert_eq!(engine.streams(), [0]);
        assert!(matches!(engine.add_stream(IP, idle_stream()), Err(AddStreamError::ShutDown(_))));
    }
}

#[test]
fn shutdown_ends_with_nobody_taking_events() {
    let config = EngineConfig { event_ring: 1, ..config(16) };
    let (engine, mut events) = start(config, Network::Udp.device());
    for _ in 0..3 {
        add(&engine, &mut events, idle_stream());
    }
    let start = Instant::now();
    engine.shutdown();
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// Holds a worker at its device.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    closed: bool,
    holds_somebody: bool,
}

impl Gate {
    fn close(&self) {
        self.0.0.lock().expect("no panic").closed = true;
    }

    fn open(&self) {
        self.0.0.lock().expect("no panic").closed = false;
        self.0.1.notify_all();
    }

    fn holds_somebody(&self) -> bool {
        self.0.0.lock().expect("no panic").holds_somebody
    }

    fn pass(&self) {
        let mut state = self.0.0.lock().expect("no panic");
        state.holds_somebody = state.closed;
        drop(self.0.1.wait_while(state, |state| state.closed).expect("no panic"));
    }
}

struct Gated {
    inner: Box<dyn Device>,
    gate: Gate,
}

impl Device for Gated {
    crate::rig::pass_on!(open local_address close connect receive transmit flush flows rest);

    fn wait(&mut self, timeout: Duration) {
        self.inner.wait(timeout);
        self.gate.pass();
    }
}

#[test]
fn a_priority_is_given_or_its_refusal_is_told() {
    let config = EngineConfig { priority: Some(1), ..config(8) };
    let (engine, _events) = Engine::start(config).expect("a refused priority is no error");
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    // Field 41 of proc_pid_stat(5) is the policy, counted from the name in brackets, which is field 2; 1 is SCHED_FIFO.
    let policies = stats.filter_map(|stat| {
        let (name, fields) = stat.split_once('(')?.1.split_once(')')?;
        let policy = fields.split_whitespace().nth(38)?.to_owned();
        name.starts_with("media-").then_some(policy)
    });
    // Other tests' workers have the ordinary one.
    let is_real_time = policies.into_iter().any(|policy| policy == "1");
    let warned = engine.warnings().iter().any(|warning| warning.contains("LimitRTPRIO=1"));
    assert!(is_real_time != warned, "{:?}", engine.warnings());
}

#[test]
fn two_workers_on_one_cpu_are_refused() {
    let config = EngineConfig { media_cpus: vec![0, 0], ..config(8) };
    let refused = Engine::start(config).map(|_| ()).expect_err("one CPU for two");
    assert!(matches!(refused, StartError::SharedCpu { cpu: 0 }));
}
