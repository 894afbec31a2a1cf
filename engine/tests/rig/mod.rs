//! What the worker tests share: an engine on a chosen network, and a phone on the same one.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

mod around;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use engine::command::StreamId;
use engine::config::{EngineConfig, WaitPolicy};
use engine::event::Event;
use engine::stream::{
    Codec, Direction, Format, Formats, SourcePolicy, Stream, StreamParameters, TelephoneEventFormat,
};
use engine::{Engine, EngineEvents};
use xdp::loopback::LoopbackNetwork;
use xdp::udp::{Options, UdpDevice};
use xdp::{Device, MAX_DATAGRAM_BYTES, Outgoing, Path, PortIndex};

#[allow(unused_imports, reason = "not every test wraps a device")]
pub(crate) use around::pass_on;

pub const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the worker and the phone are on.
#[derive(Clone)]
pub enum Network {
    Loopback(LoopbackNetwork),
    Udp,
}

impl Network {
    pub fn both() -> [Self; 2] {
        [Self::Loopback(LoopbackNetwork::new()), Self::Udp]
    }

    pub fn device(&self) -> Box<dyn Device> {
        match self {
            Self::Loopback(network) => Box::new(network.device(4096).expect("descriptors")),
            Self::Udp => {
                let options = Options { ports: 1024, ..Options::default() };
                Box::new(UdpDevice::new(&options).expect("descriptors"))
            }
        }
    }
}

/// A range of ports that no other test of this run uses.
pub fn ports(count: u16) -> RangeInclusive<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries run at the same time too.
    let first = 10_000 + (std::process::id() % 40) as u16 * 500 + NEXT.fetch_add(count, Ordering::Relaxed);
    first..=first + count - 1
}

pub fn config(port_count: u16) -> EngineConfig {
    EngineConfig {
        media_ports: ports(port_count),
        streams_per_worker: 64,
        wait: WaitPolicy::Sleep,
        ..EngineConfig::default()
    }
}

/// One worker on `device`.
pub fn start(config: EngineConfig, device: Box<dyn Device>) -> (Engine, EngineEvents) {
    Engine::start_on(config, vec![device], Vec::new()).expect("the engine starts")
}

pub fn parameters(rtp: Option<SocketAddr>, rtcp: Option<SocketAddr>) -> StreamParameters {
    let format = Format { payload_type: 0, codec: Codec::Pcmu };
    let mut receive = Formats::default();
    assert!(receive.push(format));
    StreamParameters {
        remote_rtp: rtp,
        remote_rtcp: rtcp,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        receive,
        send: format,
        ptime: Duration::from_millis(20),
        telephone_event: Some(TelephoneEventFormat { receive: 101, send: 101 }),
        comfort_noise: None,
        source_policy: SourcePolicy::Latch,
        media_timeout: Duration::ZERO,
        hold_timeout: Duration::ZERO,
    }
}

/// A stream that knows no peer yet.
pub fn idle_stream() -> Box<Stream> {
    Stream::new(parameters(None, None))
}

/// Polls until an event comes; none within ten seconds fails the test.
pub fn next_event(events: &mut EngineEvents) -> Event {
    poll_for(Duration::from_secs(10), || {
        events.doorbell().hear();
        events.poll()
    })
    .expect("an event within ten seconds")
}

/// Asks again and again, for so long.
pub fn poll_for<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Some(answer) => return Some(answer),
            None if Instant::now() > deadline => return None,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Adds a stream and waits until it is live; a port that another process has is not the test's matter.
pub fn add(engine: &Engine, events: &mut EngineEvents, mut stream: Box<Stream>) -> (StreamId, SocketAddr) {
    for _ in 0..20 {
        let (id, local) = engine.add_stream(IP, stream).expect("room for a stream");
        loop {
            match next_event(events) {
                Event::StreamAdded { id: added } => {
                    assert_eq!(added, id);
                    return (id, local);
                }
                Event::StreamFailed { error, stream: back, .. } => {
                    assert_eq!(error, std::io::ErrorKind::AddrInUse);
                    stream = back;
                    break;
                }
                _ => {}
            }
        }
    }
    panic!("twenty port pairs in a row are in use");
}

/// The other end of a stream: an RTP and an RTCP port, PCMU every 20 ms.
pub struct Phone {
    device: Box<dyn Device>,
    rtp: PortIndex,
    rtcp: PortIndex,
    pub rtp_address: SocketAddr,
    pub rtcp_address: SocketAddr,
    /// Where the stream is, once it is known.
    pub peer: Option<SocketAddr>,
    ssrc: u32,
    sequence_number: u16,
    pub timestamp: u32,
    pub heard_rtp: Vec<Vec<u8>>,
    pub heard_rtcp: Vec<Vec<u8>>,
}

impl Phone {
    pub fn new(network: &Network) -> Self {
        let mut device = network.device();
        let mut open = || {
            let port = device.open(SocketAddr::new(IP, 0)).expect("a free port");
            (port, device.local_address(port).expect("an open port"))
        };
        let ((rtp, rtp_address), (rtcp, rtcp_address)) = (open(), open());
        Self {
            device,
            rtp,
            rtcp,
            rtp_address,
            rtcp_address,
            peer: None,
            ssrc: 0x1234_0000 | u32::from(rtp_address.port()),
            sequence_number: 100,
            timestamp: 8000,
            heard_rtp: Vec::new(),
            heard_rtcp: Vec::new(),
        }
    }

    /// What its SDP would say.
    pub fn parameters(&self) -> StreamParameters {
        parameters(Some(self.rtp_address), Some(self.rtcp_address))
    }

    /// The SSRC of what it sends.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Sends 20 ms of a constant that is not silence.
    pub fn speak(&mut self, sample: u8) {
        self.say(&[sample; 160]);
    }

    /// Sends 20 ms of audio.
    pub fn say(&mut self, audio: &[u8; 160]) {
        self.say_as(0, false, audio);
    }

    /// Sends 20 ms of anything.
    pub fn say_as(&mut self, payload_type: u8, marker: bool, audio: &[u8]) {
        let mut packet = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
        packet.extend(self.sequence_number.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(audio);
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        let peer = self.peer.expect("a stream to speak to");
        self.send(self.rtp, peer, &packet);
    }

    /// Sends a sender report with an SDES CNAME (RFC 3550 section 6.1 wants the compound).
    pub fn report(&mut self) {
        let mut packet = vec![0x80, 200, 0, 6];
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(u32::from(self.sequence_number).to_be_bytes());
        packet.extend((u32::from(self.sequence_number) * 160).to_be_bytes());
        packet.extend([0x81, 202, 0, 3]);
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend([1, 5, b'p', b'h', b'o', b'n', b'e', 0]);
        let peer = self.peer.expect("a stream to report to");
        self.send(self.rtcp, SocketAddr::new(peer.ip(), peer.port() + 1), &packet);
    }

    pub fn send(&mut self, port: PortIndex, remote: SocketAddr, payload: &[u8]) {
        let sent = self.device.transmit(&mut |buffer| {
            assert_eq!(buffer.len(), MAX_DATAGRAM_BYTES);
            buffer[..payload.len()].copy_from_slice(payload);
            Some(Outgoing { path: Path { port, remote }, len: payload.len() })
        });
        assert_eq!(sent, Ok(true));
        self.device.flush();
    }

    /// Takes what has come.
    pub fn listen(&mut self) {
        let Self { device, rtp, heard_rtp, heard_rtcp, .. } = self;
        while device.receive(64, &mut |datagram| {
            let heard = if datagram.port == *rtp { &mut *heard_rtp } else { &mut *heard_rtcp };
            heard.push(datagram.payload.to_vec());
            None
        }) > 0
        {}
    }

    /// Speaks and listens at a call's pace.
    pub fn talk(&mut self, packets: usize, sample: u8) {
        let start = Instant::now();
        for packet in 1..=packets as u32 {
            self.speak(sample);
            let next = Duration::from_millis(20) * packet;
            std::thread::sleep(next.saturating_sub(start.elapsed()));
            self.listen();
        }
    }

    /// Whether RTCP of this type has come (RFC 3550 section 12.1).
    pub fn heard_rtcp_type(&self, packet_type: u8) -> bool {
        self.heard_rtcp.iter().any(|compound| {
            let mut rest = &compound[..];
            while let [_, found, high, low, ..] = *rest {
                if found == packet_type {
                    return true;
                }
                let bytes = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
                rest = rest.get(bytes..).unwrap_or_default();
            }
            false
        })
    }
}

/// Adds a relay and waits until it is live; a port that another process has is not the test's matter.
pub fn add_relay(
    engine: &Engine,
    events: &mut EngineEvents,
    mut relay: Box<engine::relay::Relay>,
) -> (engine::command::RelayId, [SocketAddr; 2]) {
    for _ in 0..20 {
        let (id, locals) = engine.add_relay([IP; 2], relay).expect("room for a relay");
        loop {
            match next_event(events) {
                Event::RelayAdded { id: added } => {
                    assert_eq!(added, id);
                    return (id, locals);
                }
                Event::RelayFailed { error, relay: back, .. } => {
                    assert_eq!(error, std::io::ErrorKind::AddrInUse);
                    relay = back;
                    break;
                }
                _ => {}
            }
        }
    }
    panic!("twenty port pairs in a row are in use");
}
