//! Streams and raw peers in virtual time over a link that loses, delays and repeats by a seed.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use engine::codec::Codec;
use engine::config::InbandDtmf;
use engine::rtp::{Header, Packet, SequenceNumber};
use engine::stream::{
    App, Component, Direction, Format, Formats, SourcePolicy, Stream, StreamEvent, StreamOptions,
    StreamParameters, TelephoneEventFormat,
};
use engine::time::{Instant, WallClock};

pub(crate) const CALLER: &str = "192.0.2.1:4000";
pub(crate) const ENGINE: &str = "198.51.100.1:6000";
pub(crate) const STRANGER: &str = "203.0.113.66:7000";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

pub(crate) fn ms(milliseconds: u64) -> Instant {
    Instant::from_millis(milliseconds)
}

/// A link's faults. Times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) delay_us: u64,
    pub(crate) jitter_us: u64,
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// Never overtakes: jitter that a queue makes.
    pub(crate) in_order: bool,
}

pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// A stream with its clock, which may run fast or slow.
pub(crate) struct Node {
    pub(crate) stream: Box<Stream>,
    pub(crate) rtp: SocketAddr,
    pub(crate) ppm: i64,
    pub(crate) events: Vec<(Instant, StreamEvent)>,
}

impl Node {
    fn local(&self, now: Instant) -> Instant {
        let nanos = now.as_nanos() as i64;
        Instant::from_nanos((nanos + nanos / 1_000_000 * self.ppm) as u64)
    }

    fn due(&self, now: Instant) -> bool {
        self.stream.poll_timeout().is_some_and(|at| at <= self.local(now))
    }
}

/// The world: nodes, datagrams in flight, and a record of everything sent and delivered.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) link: Link,
    pub(crate) inband_dtmf: InbandDtmf,
    pub(crate) random: Random,
    pub(crate) sent: Vec<(Instant, Datagram)>,
    pub(crate) delivered: Vec<(Instant, Datagram)>,
    flight: BTreeMap<(u64, u64), Datagram>,
    count: u64,
    last_delivery: u64,
}

impl World {
    pub(crate) fn new(link: Link, seed: u64) -> Self {
        Self {
            now: Instant::from_millis(1000),
            nodes: vec![],
            link,
            inband_dtmf: InbandDtmf::default(),
            random: Random(seed * 2 + 1),
            sent: vec![],
            delivered: vec![],
            flight: BTreeMap::new(),
            count: 0,
            last_delivery: 0,
        }
    }

    /// Adds a stream at `rtp` (RTCP on the next port) and starts it.
    pub(crate) fn add(&mut self, rtp: SocketAddr, parameters: StreamParameters, app: App, ppm: i64) -> usize {
        let options = StreamOptions {
            seed: Some(self.nodes.len() as u64 + 77),
            inband_dtmf: self.inband_dtmf,
            ..StreamOptions::default()
        };
        let mut node = Node { stream: Stream::with_options(parameters, options), rtp, ppm, events: vec![] };
        let at = node.local(self.now);
        node.stream.start(at, WallClock { at, unix_nanos: 1_700_000_000_000_000_000 });
        node.stream.attach(at, app);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The stream's own time now.
    pub(crate) fn local(&self, node: usize) -> Instant {
        self.nodes[node].local(self.now)
    }

    /// Hands a datagram to the link.
    pub(crate) fn send(&mut self, datagram: Datagram) {
        self.sent.push((self.now, datagram.clone()));
        if self.random.percent(self.link.loss_percent) {
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.link.duplicate_percent));
        for _ in 0..copies {
            let jitter = if self.link.jitter_us == 0 { 0 } else { self.random.next() % self.link.jitter_us };
            let mut at = self.now.as_nanos() + (self.link.delay_us + jitter) * 1000;
            if self.link.in_order {
                at = at.max(self.last_delivery);
                self.last_delivery = at;
            }
            self.send_at(Instant::from_nanos(at), datagram.clone());
        }
    }

    /// Delivers a datagram at a given time, whatever the link is like.
    pub(crate) fn send_at(&mut self, at: Instant, datagram: Datagram) {
        self.count += 1;
        self.flight.insert((at.as_nanos(), self.count), datagram);
    }

    /// Lets time pass, a quarter of a millisecond at a time at most.
    pub(crate) fn run_until(&mut self, end: Instant) {
        self.drain();
        while self.now < end {
            let next_flight = self.flight.keys().next().map_or(u64::MAX, |key| key.0);
            let step = (self.now + Duration::from_micros(250)).min(end);
            self.now = Instant::from_nanos(next_flight.max(self.now.as_nanos())).min(step);
            while let Some(entry) = self.flight.first_entry().filter(|e| e.key().0 <= self.now.as_nanos()) {
                let datagram = entry.remove();
                self.deliver(datagram);
                self.drain();
            }
            for n in 0..self.nodes.len() {
                if self.nodes[n].due(self.now) {
                    let local = self.nodes[n].local(self.now);
                    self.nodes[n].stream.handle_timeout(local);
                }
            }
            self.drain();
        }
    }

    pub(crate) fn run_for(&mut self, milliseconds: u64) {
        self.run_until(self.now + Duration::from_millis(milliseconds));
    }

    fn deliver(&mut self, datagram: Datagram) {
        for node in &mut self.nodes {
            let component = if datagram.to == node.rtp {
                Component::Rtp
            } else if datagram.to == rtcp_of(node.rtp) {
                Component::Rtcp
            } else {
                continue;
            };
            let local = node.local(self.now);
            let mut bytes = datagram.bytes.clone();
            node.stream.handle_packet(local, component, datagram.from, &mut bytes);
        }
        self.delivered.push((self.now, datagram));
    }

    /// Sends and notes what the streams have put out.
    pub(crate) fn drain(&mut self) {
        let mut buffer = [0; 1500];
        for n in 0..self.nodes.len() {
            while let Some(transmit) = self.nodes[n].stream.poll_transmit(&mut buffer) {
                let rtp = self.nodes[n].rtp;
                let from = if transmit.component == Component::Rtp { rtp } else { rtcp_of(rtp) };
                let bytes = buffer[..transmit.len].to_vec();
                self.send(Datagram { from, to: transmit.remote, bytes });
            }
            while let Some(event) = self.nodes[n].stream.poll_event() {
                self.nodes[n].events.push((self.now, event));
            }
        }
    }

    /// RTP delivered to `to` so far: time and packet.
    pub(crate) fn rtp_to(&self, to: SocketAddr) -> Vec<(Instant, Header, Vec<u8>)> {
        rtp(&self.delivered, |datagram| datagram.to == to)
    }

    /// RTP sent by `from` so far.
    pub(crate) fn rtp_from(&self, from: SocketAddr) -> Vec<(Instant, Header, Vec<u8>)> {
        rtp(&self.sent, |datagram| datagram.from == from)
    }
}

fn rtp(log: &[(Instant, Datagram)], wanted: impl Fn(&Datagram) -> bool) -> Vec<(Instant, Header, Vec<u8>)> {
    log.iter()
        .filter(|(_, datagram)| wanted(datagram))
        .filter_map(|(at, datagram)| {
            let packet = Packet::parse(&datagram.bytes).ok()?;
            Some((*at, packet.header(), packet.payload().to_vec()))
        })
        .collect()
}

pub(crate) fn rtcp_of(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port() + 1)
}

pub(crate) fn format(codec: Codec) -> Format {
    Format { payload_type: if codec == Codec::Pcmu { 0 } else { 8 }, codec }
}

pub(crate) fn parameters(remote: SocketAddr) -> StreamParameters {
    let mut receive = Formats::default();
    receive.push(format(Codec::Pcmu));
    receive.push(format(Codec::Pcma));
    StreamParameters {
        remote_rtp: Some(remote),
        remote_rtcp: Some(rtcp_of(remote)),
        rtcp_mux: false,
        direction: Direction::SendRecv,
        receive,
        send: format(Codec::Pcmu),
        ptime: Duration::from_millis(20),
        telephone_event: Some(TelephoneEventFormat { receive: 101, send: 101 }),
        comfort_noise: Some(13),
        source_policy: SourcePolicy::Latch,
        media_timeout: Duration::from_secs(60),
        hold_timeout: Duration::from_secs(3600),
    }
}

/// A phone made by hand: packets of noise, each unlike any other, at exact times.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) at: SocketAddr,
    pub(crate) header: Header,
    pub(crate) samples: usize,
    random: u64,
}

impl Phone {
    pub(crate) fn new(at: &str, sequence: u16, timestamp: u32, samples: usize) -> Self {
        let sequence_number = SequenceNumber(sequence);
        let header = Header { sequence_number, timestamp, ssrc: 0x00C0_FFEE, ..Header::default() };
        Self { at: address(at), header, samples, random: u64::from(sequence) + 99 }
    }

    /// The next packet.
    pub(crate) fn talk(&mut self) -> Datagram {
        let mut random = Random(self.random);
        let payload: Vec<u8> = (0..self.samples).map(|_| random.next() as u8 | 0x80).collect();
        self.random = random.0;
        let datagram = self.say(&payload);
        self.header.timestamp = self.header.timestamp.wrapping_add(self.samples as u32);
        datagram
    }

    /// A packet with this payload; only the sequence number moves on.
    pub(crate) fn say(&mut self, payload: &[u8]) -> Datagram {
        let mut bytes = vec![0; Header::BYTES + payload.len()];
        self.header.write(&mut bytes).expect("fits").copy_from_slice(payload);
        self.header.sequence_number = self.header.sequence_number.next();
        Datagram { from: self.at, to: address(ENGINE), bytes }
    }

    pub(crate) fn skip(&mut self) {
        self.header.sequence_number = self.header.sequence_number.next();
        self.header.timestamp = self.header.timestamp.wrapping_add(self.samples as u32);
    }
}

/// Lets a phone talk to the engine for some packets, on the link.
pub(crate) fn talk(world: &mut World, phone: &mut Phone, packets: usize) {
    for _ in 0..packets {
        let datagram = phone.talk();
        world.send(datagram);
        let pause = Duration::from_micros(phone.samples as u64 * 125);
        world.run_until(world.now + pause);
    }
}

/// The echo's latency beyond the packet time: for each returned sample that can be found in what was sent,
/// when it came back less when it was sent, in microseconds. Only for audio passed through.
pub(crate) fn echo_latencies(world: &World, phone: &Phone) -> Vec<i64> {
    let mut sent = std::collections::HashMap::new();
    for (at, _, payload) in world.rtp_from(phone.at) {
        for (n, window) in payload.windows(16).enumerate() {
            sent.insert(window.to_vec(), at.as_nanos() as i64 / 1000 + n as i64 * 125);
        }
    }
    let mut latencies = vec![];
    for (at, _, payload) in world.rtp_to(phone.at) {
        for (n, window) in payload.windows(16).enumerate().step_by(16) {
            if let Some(sent_at) = sent.get(window) {
                latencies.push(at.as_nanos() as i64 / 1000 + n as i64 * 125 - sent_at);
            }
        }
    }
    latencies
}

/// The value that `share` of all are at most.
pub(crate) fn percentile(values: &[i64], share: f64) -> i64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[((values.len() - 1) as f64 * share) as usize]
}
