//! What the relay tests share: two parties made by hand, and what was negotiated with them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::time::Duration;

use engine::relay::{
    Conversion, Relay, RelayEvent, RelayFormat, RelayFormats, RelayLeg, RelayParameters, RelayTaps,
    RelayTransmit, Rewriting, Side,
};
use engine::rtp::{Header, SequenceNumber};
use engine::stream::{Component, Direction, Refusal, SourcePolicy};
use engine::time::Instant;

pub const PARTY_A: &str = "192.0.2.1:4000";
pub const PARTY_B: &str = "198.51.100.2:6000";
pub const STRANGER: &str = "203.0.113.66:7000";

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

pub fn rtcp_of(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port() + 1)
}

pub fn ms(milliseconds: u64) -> Instant {
    Instant::from_millis(1_000_000 + milliseconds)
}

pub fn untouched(payload_type: u8) -> RelayFormat {
    RelayFormat { receive: payload_type, send: payload_type, conversion: Conversion::Untouched }
}

pub fn events(payload_type: u8) -> RelayFormat {
    RelayFormat { conversion: Conversion::TelephoneEvent, ..untouched(payload_type) }
}

pub fn formats(list: &[RelayFormat]) -> RelayFormats {
    let mut formats = RelayFormats::default();
    assert!(list.iter().all(|&format| formats.push(format)));
    formats
}

pub fn leg(remote: Option<SocketAddr>) -> RelayLeg {
    RelayLeg {
        remote_rtp: remote,
        remote_rtcp: remote.map(rtcp_of),
        rtcp_mux: false,
        direction: Direction::SendRecv,
        receive: formats(&[untouched(0), untouched(8), events(101)]),
        source_policy: SourcePolicy::Latch,
        rewriting: Rewriting::default(),
    }
}

pub fn between(a: Option<SocketAddr>, b: Option<SocketAddr>) -> RelayParameters {
    RelayParameters {
        legs: [leg(a), leg(b)],
        taps: RelayTaps::default(),
        in_kernel: false,
        media_timeout: Duration::ZERO,
    }
}

pub fn parameters() -> RelayParameters {
    between(Some(address(PARTY_A)), Some(address(PARTY_B)))
}

/// One end of a call.
#[derive(Clone, Debug)]
pub struct Party {
    pub side: Side,
    pub at: SocketAddr,
    pub header: Header,
}

impl Party {
    pub fn new(side: Side, at: &str, ssrc: u32) -> Self {
        let sequence_number = SequenceNumber(100);
        let header = Header { sequence_number, timestamp: 8000, ssrc, ..Header::default() };
        Self { side, at: address(at), header }
    }

    pub fn both() -> [Self; 2] {
        [Self::new(Side::A, PARTY_A, 0xAAAA), Self::new(Side::B, PARTY_B, 0xBBBB)]
    }

    /// The next packet, 20 ms later.
    pub fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; Header::BYTES + payload.len()];
        self.header.write(&mut bytes).expect("fits").copy_from_slice(payload);
        self.header.sequence_number = self.header.sequence_number.next();
        self.header.timestamp = self.header.timestamp.wrapping_add(160);
        bytes
    }

    /// Sends the next packet through the relay; what comes out and where.
    pub fn say(
        &mut self,
        relay: &mut Relay,
        now: Instant,
        payload: &[u8],
    ) -> Option<(RelayTransmit, Vec<u8>)> {
        let packet = self.packet(payload);
        self.send(relay, now, Component::Rtp, packet)
    }

    pub fn send(
        &self,
        relay: &mut Relay,
        now: Instant,
        component: Component,
        mut bytes: Vec<u8>,
    ) -> Option<(RelayTransmit, Vec<u8>)> {
        let transmit = relay.handle_packet(now, self.side, component, self.at, &mut bytes)?;
        bytes.truncate(transmit.len);
        Some((transmit, bytes))
    }
}

/// A relay in which both parties have spoken once.
pub fn talking(parameters: RelayParameters) -> (Box<Relay>, [Party; 2]) {
    let mut relay = Relay::new(parameters);
    relay.start(ms(0));
    let mut parties = Party::both();
    for party in &mut parties {
        party.say(&mut relay, ms(0), &[0xFF; 160]).expect("relayed");
    }
    while relay.poll_event().is_some() {}
    (relay, parties)
}

pub fn happened(relay: &mut Relay) -> Vec<RelayEvent> {
    std::iter::from_fn(|| relay.poll_event()).collect()
}

pub fn refused(relay: &Relay, side: Side, refusal: Refusal) -> u64 {
    relay.statistics(ms(0), [None; 2]).sides[side.index()].refusals.count(refusal)
}

/// A sender report with one block about `about`, an SDES and a BYE.
pub fn report(ssrc: u32, timestamp: u32, about: u32, highest: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 200, 0, 12];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(timestamp.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(about.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(highest.to_be_bytes());
    packet.extend([0; 12]);
    packet.extend([0x81, 202, 0, 3]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([1, 5, b'p', b'h', b'o', b'n', b'e', 0]);
    packet.extend([0x81, 203, 0, 1]);
    packet.extend(ssrc.to_be_bytes());
    packet
}
