//! One data path, proven equal: the same trace through every device gives the same packets out, byte by byte and in the
//! same order per flow, and the same figures.
#![expect(clippy::disallowed_methods, reason = "devices take real time")]

mod equal;
mod relay_support;
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use engine::codec::Law;
use engine::command::{Command, RelayId};
use engine::config::{EngineConfig, WaitPolicy};
use engine::event::Event;
use engine::relay::{
    Conversion, Relay, RelayEvent, RelayFormat, RelayParameters, RelaySideStatistics, RelayTaps, Rewriting,
    Side,
};
use engine::rtp::Header;
use engine::stream::{App, Codec, Component, Stream, StreamOptions};
use engine::time::{Instant, WallClock};
use engine::{Engine, EngineEvents};
use equal::{Checksums, Far, KINDS, common, engine_ip, far_ip, on, receive, took_its_way};
use relay_support::{between, events, formats, report, rtcp_of, untouched};
use support::Random;
use xdp::{Device, Outgoing, Path, PortIndex};

/// What arrived where, by receiving and sending address, in order.
type Heard = BTreeMap<(SocketAddr, SocketAddr), Vec<Vec<u8>>>;

/// All that has to be equal.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    heard: Heard,
    told: Vec<String>,
    figures: Vec<(&'static str, u64)>,
}

/// Plays through every device, and compares.
fn compare(test: &str, far_ports: &[SocketAddr], play: impl Fn(Box<dyn Device>, Far) -> Outcome + Sync) {
    let mut expected: Option<Outcome> = None;
    for kind in KINDS {
        for checksums in [Checksums::Complete, Checksums::LeftToTheCard] {
            let Some(outcome) = on(test, kind, checksums, far_ports, &play) else { continue };
            let Some(expected) = &expected else {
                expected = Some(outcome);
                continue;
            };
            let name = format!("{kind:?}, {checksums:?}");
            let flows = |outcome: &Outcome| outcome.heard.keys().copied().collect::<Vec<_>>();
            assert_eq!(flows(&outcome), flows(expected), "{name}");
            for (flow, packets) in &expected.heard {
                let got = &outcome.heard[flow];
                let first = packets.iter().zip(got).position(|(left, right)| left != right);
                assert_eq!(first, None, "{name}: {flow:?}: {:?}", first.map(|at| (&packets[at], &got[at])));
                assert_eq!(got.len(), packets.len(), "{name}: {flow:?}");
            }
            assert_eq!(outcome.told, expected.told, "{name}");
            assert_eq!(outcome.figures, expected.figures, "{name}");
        }
    }
    let expected = expected.expect("the first kind is everywhere");
    let packets: usize = expected.heard.values().map(Vec::len).sum();
    let keys = expected.told.iter().filter(|told| told.contains("Dtmf")).count();
    assert!(packets > 1000 && keys >= 5, "{packets} packets, told {:?}", expected.told);
}

/// What a party sends: its packets with all that a network and a stranger may do to them.
fn trace(seed: u64, payload_type: u8) -> Vec<(Component, Vec<u8>)> {
    let mut random = Random(seed);
    let mut header = Header { payload_type, ssrc: 0x5100 + seed as u32, ..Header::default() };
    header.sequence_number = engine::rtp::SequenceNumber(65_400 + seed as u16);
    header.timestamp = u32::MAX - 3000;
    let mut trace = Vec::new();
    let packet = |header: &mut Header, payload: &[u8]| {
        let mut bytes = vec![0; Header::BYTES + payload.len()];
        header.write(&mut bytes).expect("fits").copy_from_slice(payload);
        header.sequence_number = header.sequence_number.next();
        (Component::Rtp, bytes)
    };
    for number in 0..240u32 {
        // A key for every fortieth packet's time on: ten packets of it, the last three with the end (RFC 4733).
        let key = number % 40;
        let next = if number >= 40 && key < 10 {
            let mut event = header;
            (event.payload_type, event.marker) = (101, key == 0);
            event.timestamp = header.timestamp.wrapping_sub(160 * key);
            let duration = (160 * (key.min(7) + 1)) as u16;
            let [high, low] = duration.to_be_bytes();
            let next = packet(&mut event, &[(number / 40) as u8, u8::from(key >= 7) << 7 | 10, high, low]);
            header.sequence_number = event.sequence_number;
            next
        } else {
            let payload: Vec<u8> = (0..160).map(|_| random.next() as u8 | 0x80).collect();
            packet(&mut header, &payload)
        };
        header.timestamp = header.timestamp.wrapping_add(160);
        // The first ones come through, so that the source is known.
        if number < 3 || !random.percent(5) {
            trace.push(next.clone());
        }
        if number >= 3 && random.percent(5) {
            trace.push(next);
        }
        let count = trace.len();
        if number >= 6 && random.percent(8) {
            trace.swap(count - 1, count - 2 - (random.next() % 2) as usize);
        }
        if number >= 3 && random.percent(10) {
            let len = random.next() as usize % 60;
            let component = if random.percent(30) { Component::Rtcp } else { Component::Rtp };
            trace.push((component, (0..len).map(|_| random.next() as u8).collect()));
        }
        if number % 50 == 30 {
            let highest = u32::from(header.sequence_number.0);
            trace.push((Component::Rtcp, report(header.ssrc, header.timestamp, 7, highest)));
        }
    }
    trace
}

/// RTP and RTCP ports of the far side's parties; every other one is IPv6 if its number is in `ipv6`.
fn far_ports(parties: usize, ipv6: &[usize]) -> Vec<SocketAddr> {
    let port = |index: usize| SocketAddr::new(far_ip(ipv6.contains(&(index / 2))), 40_000 + index as u16);
    (0..2 * parties).map(port).collect()
}

#[test]
fn relays_are_equal_on_all_devices() {
    // A and B of four relays.
    let ipv6 = [4, 5, 7];
    compare("relays_are_equal_on_all_devices", &far_ports(8, &ipv6), |device, far| {
        let config = EngineConfig {
            media_ports: 20_000..=20_031,
            streams_per_worker: 8,
            wait: WaitPolicy::Sleep,
            ..EngineConfig::default()
        };
        let (engine, events) = Engine::start_on(config, vec![device], Vec::new()).expect("the engine starts");
        let mut call = Calls { engine, events, far, relays: Vec::new(), outcome: Outcome::default() };
        for number in 0..4 {
            call.add(number, &ipv6);
        }
        call.play();
        call.end();
        let Calls { engine, mut outcome, relays, .. } = call;
        // The numbers of the engine's ports are chosen at random.
        let roles: BTreeMap<SocketAddr, SocketAddr> = relays
            .iter()
            .flat_map(|relay| {
                relay.locals.iter().enumerate().flat_map(|(side, &local)| {
                    let role = |at: SocketAddr, port: u16| SocketAddr::new(at.ip(), port);
                    let number = 2 * (2 * relay.number + side) as u16;
                    [(local, role(local, number)), (rtcp_of(local), role(local, number + 1))]
                })
            })
            .collect();
        let heard = std::mem::take(&mut outcome.heard).into_iter();
        outcome.heard = heard.map(|((to, from), packets)| ((to, roles[&from]), packets)).collect();
        engine.shutdown();
        engine.worker_counters()[0].for_each(|name, _, value| {
            if name.starts_with("packets") || name.starts_with("relays") {
                outcome.figures.push((name, value));
            }
        });
        outcome
    });
}

/// Relays in an engine and their parties.
struct Calls {
    engine: Engine,
    events: EngineEvents,
    far: Far,
    relays: Vec<Placed>,
    outcome: Outcome,
}

struct Placed {
    number: usize,
    id: RelayId,
    locals: [SocketAddr; 2],
}

impl Calls {
    /// Untouched, PCMU to PCMA and back, with telephone-events told, and with a header that is rewritten.
    fn add(&mut self, number: usize, ipv6: &[usize]) {
        let party = |side: usize| 2 * number + side;
        let [a, b] = [0, 1].map(|side| self.far.addresses[2 * party(side)]);
        let mut parameters: RelayParameters = between(Some(a), Some(b));
        match number {
            1 => {
                let law = |receive, send, from, to| RelayFormat {
                    receive,
                    send,
                    conversion: Conversion::Law { from, to },
                };
                parameters.legs[0].receive = formats(&[law(0, 8, Law::Mu, Law::A), events(101)]);
                parameters.legs[1].receive = formats(&[law(8, 0, Law::A, Law::Mu), events(101)]);
            }
            2 => parameters.taps = RelayTaps { telephone_events: true, ..RelayTaps::default() },
            3 => {
                parameters.legs[0].rewriting =
                    Rewriting { ssrc: Some(0xABCD), sequence_offset: 1000, timestamp_offset: 77 };
                parameters.legs[1].receive =
                    formats(&[RelayFormat { send: 96, ..untouched(8) }, events(101)]);
            }
            _ => {}
        }
        let ips = [0, 1].map(|side| engine_ip(ipv6.contains(&party(side))));
        let (id, locals) = self.engine.add_relay(ips, Relay::new(parameters)).expect("room for a relay");
        let event = self.next_event();
        assert!(matches!(event, Event::RelayAdded { id: added } if added == id), "{event:?}");
        self.relays.push(Placed { number, id, locals });
    }

    /// All parties speak in turn; nothing is sent before the last has been taken, so that no queue is ever full.
    fn play(&mut self) {
        let traces: Vec<_> =
            (0..8).map(|party| trace(party as u64 + 1, if party % 2 == 1 { 8 } else { 0 })).collect();
        let longest = traces.iter().map(Vec::len).max().unwrap_or_default();
        let mut sent = 0;
        for at in 0..longest {
            for (party, trace) in traces.iter().enumerate() {
                let Some((component, bytes)) = trace.get(at) else { continue };
                let local = self.relays[party / 2].locals[party % 2];
                let (port, remote) = match component {
                    Component::Rtp => (2 * party, local),
                    Component::Rtcp => (2 * party + 1, rtcp_of(local)),
                };
                self.far.send(port, remote, bytes);
                sent += 1;
            }
            let counters = self.engine.worker_counters();
            self.listen(|| counters[0].packets_relays.value() >= sent);
        }
        // A packet is counted when it has been sent.
        self.listen_for(Duration::from_millis(100));
        let counters = &self.engine.device_counters()[0];
        self.outcome.figures = common(counters);
        assert!(took_its_way(counters), "{counters:?}");
        // Strangers: they are dropped, by whomever, and counted by some.
        for (party, trace) in traces.iter().enumerate() {
            let local = self.relays[party / 2].locals[party % 2];
            let stranger = 2 * ((party + 2) % 8);
            if self.far.addresses[stranger].is_ipv6() == local.is_ipv6() {
                self.far.send(stranger, local, &trace[0].1);
            }
        }
        self.listen_for(Duration::from_millis(100));
    }

    fn listen_for(&mut self, time: Duration) {
        let end = std::time::Instant::now() + time;
        self.listen(|| std::time::Instant::now() > end);
    }

    fn listen(&mut self, enough: impl FnMut() -> bool) {
        let addresses = self.far.addresses.clone();
        let heard = &mut self.outcome.heard;
        let hear = |to: usize, from, bytes: &[u8]| {
            heard.entry((addresses[to], from)).or_default().push(bytes.to_vec());
        };
        self.far.listen(hear, enough);
    }

    /// Takes the relays away and notes what they tell.
    fn end(&mut self) {
        for relay in &self.relays {
            self.engine.send(Command::RemoveRelay { id: relay.id }).expect("room for a command");
        }
        let mut told = BTreeMap::<_, Vec<String>>::new();
        let mut removed = 0;
        while removed < self.relays.len() {
            match self.next_event() {
                Event::Relay { id, event } => {
                    let RelayEvent::MediaTimeout = event else {
                        told.entry(id.slot).or_default().push(format!("{event:?}"));
                        continue;
                    };
                    panic!("nobody was silent");
                }
                Event::RelayRemoved { id, relay } => {
                    removed += 1;
                    let sides = relay.statistics(Instant::ZERO, [None; 2]).sides;
                    for (side, statistics) in Side::BOTH.into_iter().zip(sides) {
                        told.entry(id.slot)
                            .or_default()
                            .push(format!("{side:?}: {:?}", comparable(statistics)));
                    }
                }
                event => panic!("{event:?}"),
            }
        }
        self.outcome.told = told.into_values().flatten().collect();
    }

    fn next_event(&mut self) -> Event {
        let end = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            self.events.doorbell().hear();
            match self.events.poll() {
                Some(event) => return event,
                None if std::time::Instant::now() > end => panic!("no event within ten seconds"),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// What does not depend on when packets came, nor on who dropped those of strangers.
fn comparable(statistics: RelaySideStatistics) -> RelaySideStatistics {
    RelaySideStatistics {
        jitter: Duration::ZERO,
        last_packet_age: None,
        stranger_packets: 0,
        refused_packets: statistics.refused_packets - statistics.stranger_packets,
        refusals: engine::stream::Refusals::default(),
        ..statistics
    }
}

#[test]
fn streams_are_equal_on_all_devices() {
    compare("streams_are_equal_on_all_devices", &far_ports(4, &[2, 3]), |mut device, mut far| {
        let counters = device.counters();
        let mut outcome = Outcome::default();
        let mut calls: Vec<_> = (0..4).map(|number| Echo::new(device.as_mut(), &far, number)).collect();
        // The streams' time is ours: 5 ms after 5 ms, whatever the devices take.
        for tick in 0..240 * 4 + 40 {
            let now = Instant::from_millis(1_000_000 + 5 * tick);
            let mut expected = 0;
            for call in calls.iter_mut().filter(|call| call.number as u64 == tick % 4) {
                expected += call.speak(&mut far, tick);
            }
            receive(device.as_mut(), expected, |datagram| {
                let call = calls.iter_mut().find(|call| call.ports.contains(&datagram.port)).expect("known");
                let component = if datagram.port == call.ports[0] { Component::Rtp } else { Component::Rtcp };
                call.stream.handle_packet(now, component, datagram.remote, datagram.payload);
            });
            let mut sent = 0;
            for call in &mut calls {
                sent += call.settle(now, device.as_mut(), &mut outcome.told);
            }
            device.flush();
            let addresses = far.addresses.clone();
            let heard = &mut outcome.heard;
            let count = std::cell::Cell::new(0);
            far.listen(
                |to, from, bytes| {
                    count.set(count.get() + 1);
                    // The numbers of ours are the system's choice.
                    heard
                        .entry((addresses[to], SocketAddr::new(from.ip(), 0)))
                        .or_default()
                        .push(bytes.to_vec());
                },
                || count.get() >= sent,
            );
            assert_eq!(count.get(), sent, "at {tick}");
        }
        outcome.told.extend(calls.iter().map(|call| format!("{:?}", call.stream.statistics())));
        outcome.figures = common(&counters);
        assert!(took_its_way(&counters), "{counters:?}");
        outcome
    });
}

/// A stream that sends back what it hears, and its party.
struct Echo {
    number: usize,
    stream: Box<Stream>,
    ports: [PortIndex; 2],
    locals: [SocketAddr; 2],
    connected: Option<SocketAddr>,
    trace: std::vec::IntoIter<(Component, Vec<u8>)>,
}

impl Echo {
    fn new(device: &mut dyn Device, far: &Far, number: usize) -> Self {
        let remote = far.addresses[2 * number];
        let ports = [0, 1]
            .map(|_| device.open(SocketAddr::new(engine_ip(remote.is_ipv6()), 0)).expect("a free port"));
        let locals = ports.map(|port| device.local_address(port).expect("open"));
        let mut parameters = support::parameters(remote);
        if number % 2 == 1 {
            // It hears one law and speaks the other.
            parameters.send = support::format(Codec::Pcma);
        }
        let seed = Some(number as u64 + 77);
        let mut stream = Stream::with_options(parameters, StreamOptions { seed, ..StreamOptions::default() });
        let at = Instant::from_millis(1_000_000);
        stream.start(at, WallClock { at, unix_nanos: 1_700_000_000_000_000_000 });
        stream.attach(at, App::Echo);
        let trace = trace(number as u64 + 1, 0).into_iter();
        Self { number, stream, ports, locals, connected: None, trace }
    }

    /// The party's next packet; two at once now and then. How many were sent.
    fn speak(&mut self, far: &mut Far, tick: u64) -> usize {
        let count = if tick / 4 % 30 == 29 { 2 } else { 1 };
        let mut sent = 0;
        for (component, bytes) in self.trace.by_ref().take(count) {
            let index = usize::from(component == Component::Rtcp);
            far.send(2 * self.number + index, self.locals[index], &bytes);
            sent += 1;
            if component == Component::Rtcp {
                // What comes to two ports at once has no order.
                break;
            }
        }
        sent
    }

    /// As the worker does: the deadline, packets, events, the connection. How many packets were queued.
    fn settle(&mut self, now: Instant, device: &mut dyn Device, told: &mut Vec<String>) -> usize {
        while self.stream.poll_timeout().is_some_and(|at| at <= now) {
            self.stream.handle_timeout(now);
        }
        let mut sent = 0;
        loop {
            let Self { stream, ports, .. } = self;
            let queued = device.transmit(&mut |buffer| {
                let transmit = stream.poll_transmit(buffer)?;
                let port = ports[usize::from(transmit.component == Component::Rtcp)];
                Some(Outgoing { path: Path { port, remote: transmit.remote }, len: transmit.len })
            });
            match queued {
                Ok(true) => sent += 1,
                Ok(false) => break,
                Err(full) => panic!("{full}"),
            }
        }
        while let Some(event) = self.stream.poll_event() {
            told.push(format!("{}: {event:?}", self.number));
        }
        let latched = self.stream.latched();
        if latched != self.connected {
            self.connected = latched;
            device.connect(self.ports[0], latched);
        }
        sent
    }
}
