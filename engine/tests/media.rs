//! Real streams on a real worker: packets, deadlines, panics and the last word.

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use engine::ai::{AiPort, PortConfig};
use engine::command::{Command, Digit};
use engine::config::{EngineConfig, WaitPolicy};
use engine::event::Event;
use engine::stream::{App, Stream};
use rig::{Network, Phone, add, config, next_event, poll_for, start};
use xdp::{Device, Doorbell, Full, Outgoing, PortIndex};

/// A call to a stream that echoes.
fn call(
    engine: &engine::Engine,
    events: &mut engine::EngineEvents,
    network: &Network,
) -> (engine::command::StreamId, Phone) {
    let mut phone = Phone::new(network);
    let (id, local) = add(engine, events, Stream::new(phone.parameters()));
    phone.peer = Some(local);
    engine.send(Command::Attach { id, app: App::Echo }).expect("room in the ring");
    let former = poll_for(Duration::from_secs(5), || match events.poll() {
        Some(Event::AppDetached { app, .. }) => Some(app),
        _ => None,
    });
    assert!(matches!(former, Some(App::Silence)));
    (id, phone)
}

#[test]
fn a_caller_hears_the_echo_at_a_packet_per_20_ms() {
    for network in Network::both() {
        for wait in [WaitPolicy::Sleep, WaitPolicy::Adaptive] {
            let (engine, mut events) = start(EngineConfig { wait, ..config(16) }, network.device());
            let (id, mut phone) = call(&engine, &mut events, &network);
            phone.talk(100, 0x2a);
            let heard = phone.heard_rtp.len();
            assert!((80..=110).contains(&heard), "{heard} packets in two seconds");
            let echoed = phone.heard_rtp.iter().filter(|packet| packet[12..].contains(&0x2a)).count();
            assert!(echoed > 60, "{echoed} of {heard} packets are echo");
            engine.send(Command::QueryStream { id }).expect("room in the ring");
            let statistics = poll_for(Duration::from_secs(5), || match events.poll() {
                Some(Event::StreamReport { statistics, .. }) => Some(statistics),
                _ => None,
            })
            .expect("a report");
            assert_eq!((statistics.received_packets, statistics.lost_packets), (100, 0));
            let counters = &engine.worker_counters()[0];
            assert!(counters.packets.value() >= 100);
            assert!(counters.deadlines.value() >= 80);
            // Loose, for busy machines; an idle one shows some ten microseconds.
            let mean = counters.deadlines_late_nanos.value() / counters.deadlines.value();
            println!("{wait:?}: deadlines late by {} us on average", mean / 1000);
            assert!(mean < 10_000_000, "deadlines late by {mean} ns on average");
        }
    }
}

#[test]
fn the_last_packet_of_a_removed_stream_is_rtcp_bye() {
    for network in Network::both() {
        let (engine, mut events) = start(config(16), network.device());
        let (id, mut removed) = call(&engine, &mut events, &network);
        let (_, mut cut) = call(&engine, &mut events, &network);
        removed.talk(10, 0x2a);
        cut.talk(10, 0x2a);
        engine.send(Command::RemoveStream { id }).expect("room in the ring");
        let heard_bye = |phone: &mut Phone| {
            poll_for(Duration::from_secs(5), || {
                phone.listen();
                phone.heard_rtcp_type(203).then_some(())
            })
        };
        heard_bye(&mut removed).expect("BYE of the removed stream");
        engine.shutdown();
        heard_bye(&mut cut).expect("BYE of the stream that shutdown ended");
        let removed = std::iter::from_fn(|| events.poll())
            .filter(|event| matches!(event, Event::StreamRemoved { statistics, .. } if statistics.sent_packets > 0))
            .count();
        assert_eq!(removed, 2);
    }
}

#[test]
fn a_digit_goes_both_ways() {
    let network = Network::Udp;
    let (engine, mut events) = start(config(8), network.device());
    let (id, mut phone) = call(&engine, &mut events, &network);
    let digit = Digit::from_char('5').expect("a digit");
    phone.talk(5, 0x2a);
    engine.send(Command::SendDtmf { id, digit, duration: Duration::from_millis(100) }).expect("room");
    phone.talk(20, 0x2a);
    let events_sent =
        phone.heard_rtp.iter().filter(|packet| packet[1] & 0x7f == 101 && packet[12] == 5).count();
    assert!(events_sent >= 3, "{events_sent} telephone-event packets");
}

#[test]
fn events_without_room_wait_in_their_streams_and_answers_come_first() {
    let network = Network::Loopback(Default::default());
    let config = EngineConfig { event_ring: 1, ..config(16) };
    let (engine, mut events) = start(config, network.device());
    let (other, mut first) = call(&engine, &mut events, &network);
    let (id, mut second) = call(&engine, &mut events, &network);
    engine.send(Command::QueryStream { id }).expect("room in the ring");
    let counters = &engine.worker_counters()[0];
    poll_for(Duration::from_secs(5), || (counters.commands.value() >= 5).then_some(())).expect("served");
    // The report fills the ring, so nothing of what the streams say fits.
    first.talk(5, 0x2a);
    second.talk(5, 0x2a);
    assert!(matches!(next_event(&mut events), Event::StreamReport { .. }));
    let mut latched = vec![];
    while latched.len() < 2 {
        match next_event(&mut events) {
            Event::Latched { id, .. } => latched.push(id),
            other => panic!("{other:?}"),
        }
    }
    assert!(latched.contains(&id) && latched.contains(&other), "{latched:?}");
    assert_eq!(counters.events_dropped.value(), 0);
}

#[test]
fn caller_audio_wakes_the_ai_thread_of_its_stream_only() {
    let network = Network::Udp;
    let bells: Vec<_> = (0..2).map(|_| Doorbell::new().expect("a descriptor")).collect();
    let (engine, mut events) =
        engine::Engine::start_on(config(8), vec![network.device()], bells.clone()).expect("it starts");
    let (id, mut phone) = call(&engine, &mut events, &network);
    let port_config = PortConfig { thread: 1, ..PortConfig::default() };
    let port_bell = Doorbell::new().expect("a descriptor");
    let (port, _backend) = AiPort::pair(&port_config, port_bell, Arc::default());
    engine.send(Command::Attach { id, app: App::Ai(Box::new(port)) }).expect("room in the ring");
    phone.talk(5, 0x2a);
    poll_for(Duration::from_secs(5), || bells[1].hear().then_some(())).expect("the thread is woken");
    phone.talk(5, 0x2a);
    poll_for(Duration::from_secs(5), || bells[1].hear().then_some(())).expect("and woken again");
    assert!(!bells[0].hear());
}

#[test]
fn a_panic_ends_only_its_stream() {
    for network in Network::both() {
        let victim = Arc::new(AtomicU16::new(0));
        let device = Mine { inner: network.device(), victim: Arc::clone(&victim) };
        let (engine, mut events) = start(config(16), Box::new(device));
        let (bad, mut bad_phone) = call(&engine, &mut events, &network);
        let (_, mut good_phone) = call(&engine, &mut events, &network);
        bad_phone.talk(5, 0x2a);
        assert!(!bad_phone.heard_rtp.is_empty());
        let mined = bad_phone.peer.expect("a peer");
        victim.store(mined.port(), Ordering::Release);
        bad_phone.talk(5, 0x2a);
        let buried = poll_for(Duration::from_secs(5), || match events.poll() {
            Some(Event::StreamPanicked { id }) => Some(id),
            _ => None,
        });
        assert_eq!(buried, Some(bad));
        assert_eq!(engine.streams(), [1]);
        assert_eq!(engine.worker_counters()[0].streams_panicked.value(), 1);
        // Its ports are free, and the other one goes on.
        assert!(network.device().open(mined).is_ok());
        good_phone.talk(25, 0x2a);
        assert!(good_phone.heard_rtp.len() >= 20, "{}", good_phone.heard_rtp.len());
        victim.store(0, Ordering::Release);
        let (_, mut next_phone) = call(&engine, &mut events, &network);
        next_phone.talk(10, 0x2a);
        assert!(!next_phone.heard_rtp.is_empty());
    }
}

#[test]
fn packets_that_a_full_device_does_not_take_are_dropped_and_counted() {
    let network = Network::Loopback(Default::default());
    let taken = Arc::new(AtomicUsize::new(usize::MAX));
    let device = Congested { inner: network.device(), room: Arc::clone(&taken) };
    let (engine, mut events) = start(config(8), Box::new(device));
    let (_, mut phone) = call(&engine, &mut events, &network);
    phone.talk(10, 0x2a);
    taken.store(0, Ordering::Release);
    phone.talk(2, 0x2a);
    phone.heard_rtp.clear();
    phone.talk(20, 0x2a);
    assert_eq!(phone.heard_rtp.len(), 0);
    assert!(engine.worker_counters()[0].packets_unsent.value() >= 15);
    taken.store(usize::MAX, Ordering::Release);
    phone.talk(20, 0x2a);
    assert!((15..=24).contains(&phone.heard_rtp.len()), "late media is not sent: {}", phone.heard_rtp.len());
}

/// Panics in the middle of a packet that leaves from one local port: where a stream's bug would.
struct Mine {
    inner: Box<dyn Device>,
    victim: Arc<AtomicU16>,
}

/// Takes no packets when there is no room.
struct Congested {
    inner: Box<dyn Device>,
    room: Arc<AtomicUsize>,
}

impl Device for Mine {
    crate::rig::pass_on!(open local_address close connect receive flush flows wait rest);

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        let ports: Vec<_> = (0..64).map(|port| self.inner.local_address(PortIndex(port))).collect();
        let victim = self.victim.load(Ordering::Acquire);
        self.inner.transmit(&mut |buffer| {
            let outgoing = write(buffer)?;
            let local = ports.get(outgoing.path.port.0 as usize).copied().flatten();
            assert!(local.is_none_or(|local| local.port() != victim), "the mine goes off, as it should");
            Some(outgoing)
        })
    }
}

impl Device for Congested {
    crate::rig::pass_on!(open local_address close connect receive flush flows wait rest);

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        if self.room.load(Ordering::Acquire) == 0 {
            return Err(Full);
        }
        self.inner.transmit(write)
    }
}
