//! Below RTP, for those ways of sending that do without the kernel's stack: Ethernet, IPv4 without options, UDP.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// The headers of a flow's packets; only the UDP checksum changes.
pub(super) struct Header {
    bytes: [u8; PAYLOAD],
    /// The sum of what is the same in every UDP checksum.
    sum: u32,
}

impl Header {
    /// From and to these link-layer addresses.
    pub(super) fn new(
        macs: [[u8; 6]; 2],
        local: SocketAddrV4,
        relay: SocketAddrV4,
        datagram_bytes: usize,
    ) -> Self {
        let udp_bytes = (8 + datagram_bytes as u16).to_be_bytes();
        let (ip, addresses, ports) = (ip_start(datagram_bytes), addresses(local, relay), ports(local, relay));
        let checksum = (!fold(sum(&ip) + sum(&addresses))).to_ne_bytes();
        let parts: [&[u8]; 9] =
            [&macs[1], &macs[0], &[8, 0], &ip, &checksum, &addresses, &ports, &udp_bytes, &[0, 0]];
        let mut bytes = [0; PAYLOAD];
        bytes.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
        let pseudo: [&[u8]; 5] = [&addresses, &[0, PROTOCOL_UDP], &udp_bytes, &ports, &udp_bytes];
        Self { bytes, sum: pseudo.into_iter().map(sum).sum() }
    }

    /// Writes them in front of a datagram.
    pub(super) fn write(&self, frame: &mut [u8]) {
        let (head, datagram) = frame.split_at_mut(PAYLOAD);
        head.copy_from_slice(&self.bytes);
        let checksum = match !fold(self.sum + sum(datagram)) {
            0 => 0xffff,
            checksum => checksum,
        };
        head[UDP_CHECKSUM..].copy_from_slice(&checksum.to_ne_bytes());
    }
}

/// The datagram in a frame of IPv4 and UDP; `None` if lengths or checksums are not right.
pub(super) fn datagram(frame: &[u8]) -> Option<&[u8]> {
    let (head, _) = frame.split_first_chunk::<PAYLOAD>()?;
    let ip_bytes = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let udp_bytes = usize::from(u16::from_be_bytes([head[38], head[39]]));
    let udp = frame.get(34..34 + udp_bytes)?;
    if udp_bytes < 8 || ip_bytes != 20 + udp_bytes || fold(sum(&head[14..34])) != 0xffff {
        return None;
    }
    let pseudo = sum(&head[26..34]) + sum(&[0, PROTOCOL_UDP]) + sum(&head[38..40]);
    let right = udp[6..8] == [0, 0] || fold(pseudo + sum(udp)) == 0xffff;
    right.then_some(&udp[8..])
}

/// The first ten bytes of the IPv4 header: they are the same for all packets.
pub(super) fn ip_start(datagram_bytes: usize) -> [u8; 10] {
    let [high, low] = (28 + datagram_bytes as u16).to_be_bytes();
    // DF, 64 hops.
    [0x45, 0, high, low, 0, 0, 0x40, 0, 64, PROTOCOL_UDP]
}

pub(super) fn v4(address: SocketAddr) -> anyhow::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("--via kernel and xdp send IPv4 only, not to {address}"),
    }
}

pub(super) fn addresses(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&from.ip().octets());
    bytes[4..].copy_from_slice(&to.ip().octets());
    bytes
}

pub(super) fn ports(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 4] {
    let [[a, b], [c, d]] = [from.port(), to.port()].map(u16::to_be_bytes);
    [a, b, c, d]
}

/// The sum of the 16-bit words as they lie in memory (RFC 1071 section 2: the byte order does not matter).
pub(super) fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks();
    let last = rest.first().map_or(0, |&byte| u32::from(u16::from_ne_bytes([byte, 0])));
    words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum::<u32>() + last
}

pub(super) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The link-layer address of a neighbour, from the kernel's table. A datagram has the kernel look for it.
pub(super) fn neighbour(ip: Ipv4Addr) -> anyhow::Result<[u8; 6]> {
    let name = ip.to_string();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a UDP socket")?;
    for _ in 0..50 {
        let table = std::fs::read_to_string("/proc/net/arp").context("cannot read /proc/net/arp")?;
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(&name));
        if let Some(mac) = line.and_then(|line| parse_mac(line.split_whitespace().nth(3)?)) {
            return Ok(mac);
        }
        socket.send_to(&[], (ip, DISCARD)).with_context(|| format!("no route to {ip}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("{ip} is no neighbour of this host; is it on the other end of the interface?")
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (parts.next().is_none() && mac != [0; 6]).then_some(mac)
}

/// Index and link-layer address of an interface of this network namespace.
pub(super) fn interface(name: &str) -> anyhow::Result<(u32, [u8; 6])> {
    ensure!(!name.contains('/'), "{name} is no interface");
    let read = |what: &str| {
        std::fs::read_to_string(format!("/sys/class/net/{name}/{what}"))
            .with_context(|| format!("there is no interface {name} here"))
    };
    let index = read("ifindex")?.trim().parse().context("ifindex is no number")?;
    let mac = parse_mac(&read("address")?).with_context(|| format!("{name} has no link-layer address"))?;
    Ok((index, mac))
}

pub(super) const PROTOCOL_UDP: u8 = 17;
/// Where the datagram begins in a frame.
pub(super) const PAYLOAD: usize = 42;
const UDP_CHECKSUM: usize = 40;
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_layer_addresses_are_read() {
        assert_eq!(parse_mac("02:00:00:00:00:1f\n"), Some([2, 0, 0, 0, 0, 0x1f]));
        assert_eq!(parse_mac("00:00:00:00:00:00"), None);
        assert_eq!(parse_mac("02:00:00:00:00"), None);
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_damage_is_seen() {
        let (local, relay) = ("192.0.2.1:20000".parse().unwrap(), "192.0.2.9:30000".parse().unwrap());
        for length in [1, 2, 171, 172] {
            let mut frame = vec![7; PAYLOAD + length];
            Header::new([[2; 6], [4; 6]], local, relay, length).write(&mut frame);
            assert_eq!(frame[..14], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 8, 0]);
            assert_eq!(datagram(&frame), Some(&vec![7; length][..]));
            for at in 14..frame.len() {
                frame[at] ^= 1;
                assert!(datagram(&frame).is_none(), "byte {at}");
                frame[at] ^= 1;
            }
        }
        assert_eq!(datagram(&[0; 41]), None);
    }
}
