//! IP and UDP headers for a raw socket.

use std::net::{IpAddr, SocketAddr};

use crate::wire::checksum::Sum;
use crate::wire::{ipv4, ipv6, udp};

/// An IP and a UDP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; MAX_BYTES],
    len: u8,
}

impl Header {
    /// The headers of a datagram; `None` if the addresses are of two families or the payload is longer than a datagram
    /// can be.
    pub(super) fn new(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Self> {
        let udp_len = u16::try_from(payload.len() + udp::HEADER_BYTES).ok()?;
        let mut header = Self { bytes: [0; MAX_BYTES], len: 0 };
        let pseudo_header = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [high, low] = udp_len.checked_add(ipv4::HEADER_BYTES as u16)?.to_be_bytes();
                // The kernel fills in the header's checksum, and "don't fragment" needs no identification (RFC 6864
                // section 4.1).
                header.put(&[0x45, 0, high, low, 0, 0, 0x40, 0, HOP_LIMIT, ipv4::UDP, 0, 0]);
                header.put(&source.octets());
                header.put(&destination.octets());
                ipv4::pseudo_header(source, destination)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let [high, low] = udp_len.to_be_bytes();
                header.put(&[0x60, 0, 0, 0, high, low, ipv4::UDP, HOP_LIMIT]);
                header.put(&source.octets());
                header.put(&destination.octets());
                ipv6::pseudo_header(source, destination)
            }
            _ => return None,
        };
        let words = [source.port(), destination.port(), udp_len];
        // The length is in the pseudo-header, too.
        let sum = words.into_iter().fold(pseudo_header.plus(Sum::of_word(udp_len)), |sum, word| {
            header.put(&word.to_be_bytes());
            sum.plus(Sum::of_word(word))
        });
        header.put(&sum.plus(Sum::of(payload)).udp_checksum().to_be_bytes());
        Some(header)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn put(&mut self, part: &[u8]) {
        let start = usize::from(self.len);
        let room = self.bytes.get_mut(start..start + part.len());
        room.expect("no header is longer than the longest").copy_from_slice(part);
        self.len += part.len() as u8;
    }
}

/// The usual time to live of Linux.
const HOP_LIMIT: u8 = 64;

const MAX_BYTES: usize = ipv6::HEADER_BYTES + udp::HEADER_BYTES;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::UdpChecksum;
    use crate::wire::ipv4::Ipv4;
    use crate::wire::ipv6::Ipv6;
    use crate::wire::udp::Udp;

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_meant(
            source in any::<[u8; 16]>(),
            destination in any::<[u8; 16]>(),
            ports: (u16, u16),
            v6: bool,
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let ip = |bytes: [u8; 16]| if v6 {
                IpAddr::from(bytes)
            } else {
                IpAddr::from([10, bytes[1], bytes[2], bytes[3]])
            };
            let source = SocketAddr::new(ip(source), ports.0);
            let destination = SocketAddr::new(ip(destination), ports.1);
            let header = Header::new(source, destination, &payload).expect("one family, short");
            let mut packet = [header.bytes(), &payload].concat();
            let (sum, ip_payload) = if v6 {
                // Addresses that nobody can have are refused by the reader.
                let Ok(ip) = Ipv6::parse(&packet) else { return Ok(()) };
                prop_assert_eq!((IpAddr::from(ip.source()), IpAddr::from(ip.destination())), (source.ip(), destination.ip()));
                (ipv6::pseudo_header(ip.source(), ip.destination()), ip.payload())
            } else {
                // As the kernel does.
                let checksum = Sum::of(&packet[..ipv4::HEADER_BYTES]).checksum();
                packet[ipv4::CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
                let ip = Ipv4::parse(&packet).expect("a packet");
                prop_assert_eq!((IpAddr::from(ip.source()), IpAddr::from(ip.destination())), (source.ip(), destination.ip()));
                (ipv4::pseudo_header(ip.source(), ip.destination()), ip.payload())
            };
            let udp = Udp::parse(ip_payload).expect("a datagram");
            prop_assert_eq!((udp.source_port(), udp.destination_port()), ports);
            let sum = sum.plus(Sum::of_word(udp.len()));
            let checksum = UdpChecksum::verify(udp.checksum(), sum, udp.datagram(), v6);
            prop_assert_eq!(checksum, Ok(UdpChecksum::Full));
        }
    }

    #[test]
    fn what_no_datagram_can_be_has_no_header() {
        let (v4, v6): (SocketAddr, SocketAddr) = (([192, 0, 2, 1], 1).into(), ([0; 16], 1).into());
        assert!(Header::new(v4, v6, &[]).is_none());
        assert!(Header::new(v4, v4, &vec![0; 65_536]).is_none());
        assert!(Header::new(v6, v6, &vec![0; 65_528]).is_none());
    }
}
