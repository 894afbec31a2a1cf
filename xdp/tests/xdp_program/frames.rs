//! Frames for the program, written and read by code of their own, not by that of the crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is in the checksum field of UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Right,
    /// 0.
    Absent,
    /// The sum over the pseudo-header only, as offloads leave it.
    Partial,
}

/// A frame of UDP and what can be odd about it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) macs: [[u8; 6]; 2],
    /// Tags: ethertype and VLAN.
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) checksum: Checksum,
    pub(crate) protocol: u8,
    /// Of IPv4: flags and offset.
    pub(crate) fragment: u16,
    /// Of IPv4, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    /// Added to the length in the IP header and in the UDP header.
    pub(crate) wrong_lengths: [i16; 2],
    pub(crate) hop_limit: u8,
    pub(crate) payload: Vec<u8>,
    /// Bytes behind the packet.
    pub(crate) padding: usize,
}

pub(crate) const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Frame {
    pub(crate) fn new(source: &str, destination: &str) -> Self {
        Self {
            macs: [OURS, THEIRS],
            tags: Vec::new(),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            checksum: Checksum::Right,
            protocol: 17,
            fragment: 0x4000,
            options: Vec::new(),
            wrong_lengths: [0; 2],
            hop_limit: 57,
            payload: rtp(0, 7, 1000, 160_000, 0xdead_beef, 160),
            padding: 0,
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        for (ethertype, vlan) in &self.tags {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(vlan.to_be_bytes());
        }
        let add = |length: usize, wrong: i16| ((length as u16).wrapping_add_signed(wrong)).to_be_bytes();
        let length = 8 + self.payload.len();
        let mut udp = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        udp.extend(add(length, self.wrong_lengths[1]));
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0]);
                let mut ip = vec![0x45 + (self.options.len() / 4) as u8, 0x10];
                ip.extend(add(20 + self.options.len() + length, self.wrong_lengths[0]));
                ip.extend([0x12, 0x34]);
                ip.extend(self.fragment.to_be_bytes());
                ip.extend([self.hop_limit, self.protocol, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend(&self.options);
                let check = !sum(&ip, 0);
                ip[10..12].copy_from_slice(&check.to_be_bytes());
                frame.extend(ip);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x61, 0x23, 0x45, 0x67]);
                frame.extend(add(length, self.wrong_lengths[0]));
                frame.extend([self.protocol, self.hop_limit]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("two families"),
        }
        let pseudo = pseudo_header(self.source.ip(), self.destination.ip(), length);
        let check = match self.checksum {
            Checksum::Right => udp_checksum(&pseudo, &udp),
            Checksum::Absent => 0,
            Checksum::Partial => sum(&pseudo, 0),
        };
        udp[6..8].copy_from_slice(&check.to_be_bytes());
        frame.extend(udp);
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }
}

/// An RTP packet.
pub(crate) fn rtp(
    marker: u8,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    audio: usize,
) -> Vec<u8> {
    let mut packet = vec![0x80, marker << 7 | payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..audio).map(|at| (at * 7 + 3) as u8));
    packet
}

/// What a reader who knows nothing of the writer finds in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) macs: [[u8; 6]; 2],
    pub(crate) vlan: Option<u16>,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) hop_limit: u8,
    /// 0 on the wire.
    pub(crate) unchecked: bool,
    pub(crate) payload: Vec<u8>,
}

/// Reads a UDP frame; panics if a length or a checksum is wrong.
pub(crate) fn read(frame: &[u8]) -> Read {
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (vlan, ip) = if half(12) == 0x8100 { (Some(half(14)), 18) } else { (None, 14) };
    let (source, destination, hop_limit, udp, length) = match half(ip - 2) {
        0x0800 => {
            assert_eq!(frame[ip], 0x45);
            assert_eq!(sum(&frame[ip..ip + 20], 0), 0xffff, "the checksum of IPv4 in {frame:x?}");
            assert_ne!(half(ip + 10), 0xffff, "as RFC 1624 wants it");
            let address = |at: usize| Ipv4Addr::from(*frame[at..].first_chunk::<4>().unwrap());
            let length = usize::from(half(ip + 2)) - 20;
            (IpAddr::from(address(ip + 12)), IpAddr::from(address(ip + 16)), frame[ip + 8], ip + 20, length)
        }
        0x86dd => {
            let address = |at: usize| Ipv6Addr::from(*frame[at..].first_chunk::<16>().unwrap());
            let length = usize::from(half(ip + 4));
            (IpAddr::from(address(ip + 8)), IpAddr::from(address(ip + 24)), frame[ip + 7], ip + 40, length)
        }
        other => panic!("ethertype {other:x}"),
    };
    assert_eq!(usize::from(half(udp + 4)), length);
    let datagram = &frame[udp..udp + length];
    let unchecked = half(udp + 6) == 0;
    if !unchecked {
        let pseudo = pseudo_header(source, destination, length);
        assert_eq!(sum(datagram, sum(&pseudo, 0)), 0xffff, "the checksum of UDP in {frame:x?}");
    }
    Read {
        macs: [*frame.first_chunk().unwrap(), *frame[6..].first_chunk().unwrap()],
        vlan,
        source: SocketAddr::new(source, half(udp)),
        destination: SocketAddr::new(destination, half(udp + 2)),
        hop_limit,
        unchecked,
        payload: datagram[8..].to_vec(),
    }
}

/// Which checksums of a whole UDP frame are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checksums {
    pub(crate) ip: bool,
    pub(crate) udp: bool,
    /// The sum of the pseudo-header in place of that of UDP.
    pub(crate) partial: bool,
    pub(crate) absent: bool,
}

pub(crate) fn checksums(frame: &[u8]) -> Checksums {
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let ip = if half(12) == 0x8100 { 18 } else { 14 };
    let (right, addresses, udp) = match half(ip - 2) {
        0x0800 => (sum(&frame[ip..ip + 20], 0) == 0xffff, &frame[ip + 12..ip + 20], ip + 20),
        _ => (true, &frame[ip + 8..ip + 40], ip + 40),
    };
    let length = usize::from(half(udp + 4));
    let pseudo = [addresses, &[0, 17], &(length as u16).to_be_bytes()].concat();
    let check = half(udp + 6);
    Checksums {
        ip: right,
        udp: check != 0 && sum(&frame[udp..udp + length], sum(&pseudo, 0)) == 0xffff,
        partial: check != 0 && check == sum(&pseudo, 0),
        absent: check == 0,
    }
}

/// Does with a partial checksum what a network card does: sums from the UDP header on, with the field as it is.
pub(crate) fn complete(frame: &mut [u8]) {
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let ip = if half(12) == 0x8100 { 18 } else { 14 };
    let udp = ip + if half(ip - 2) == 0x0800 { 20 } else { 40 };
    let length = usize::from(half(udp + 4));
    let check = match !sum(&frame[udp..udp + length], 0) {
        0 => 0xffff,
        check => check,
    };
    frame[udp + 6..udp + 8].copy_from_slice(&check.to_be_bytes());
}

fn udp_checksum(pseudo: &[u8], udp: &[u8]) -> u16 {
    match !sum(udp, sum(pseudo, 0)) {
        0 => 0xffff,
        check => check,
    }
}

fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ip in [source, destination] {
        match ip {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend([0, 17]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

/// The sum of RFC 1071, on top of `before`.
fn sum(bytes: &[u8], before: u16) -> u16 {
    let halves = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = u32::from(before) + halves.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
