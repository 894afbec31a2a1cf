//! Headers that are written once per peer and copied in front of each payload.

use std::net::SocketAddr;

use super::checksum::Sum;
use super::ethernet::{EtherType, TAG};
use super::{MAX_HEADER_BYTES, MIN_FRAME_BYTES, MacAddress};
use super::{ethernet, ipv4, ipv6, udp};

/// Where a frame goes on its wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface that sends it.
    pub source_mac: MacAddress,
    /// The interface that gets it.
    pub destination_mac: MacAddress,
    /// The tag control information that it carries (see [`ethernet::Ethernet::vlan`]).
    pub vlan: Option<u16>,
}

/// All headers of a datagram to one peer; only lengths and checksums differ from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct HeaderTemplate {
    bytes: [u8; MAX_HEADER_BYTES],
    len: u8,
    ipv6: bool,
    traffic_class: u8,
    /// Of the IPv4 header without its length and its differentiated services.
    header_sum: Sum,
    /// Of pseudo-header and UDP header without the lengths.
    udp_sum: Sum,
}

impl HeaderTemplate {
    /// The headers from `source` to `destination`; `None` if they are of two families. IPv4-mapped addresses are
    /// IPv4. `traffic_class` holds the DSCP in its upper six bits (RFC 2474); 0 is best effort, 0xb8 (EF) is voice.
    ///
    /// IPv4 has "don't fragment" set and so needs no identification (RFC 6864 section 4.1); IPv6 has no flow label.
    #[must_use]
    pub fn new(hop: &Hop, source: SocketAddr, destination: SocketAddr, traffic_class: u8) -> Option<Self> {
        let mut bytes = Bytes { bytes: [0; MAX_HEADER_BYTES], len: 0 };
        bytes.put(&hop.destination_mac.0);
        bytes.put(&hop.source_mac.0);
        if let Some(vlan) = hop.vlan {
            bytes.put(&TAG.to_be_bytes());
            bytes.put(&vlan.to_be_bytes());
        }
        let addresses = (source.ip().to_canonical(), destination.ip().to_canonical());
        let (ipv6, header_sum, pseudo_header) = match addresses {
            (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
                bytes.put(&EtherType::Ipv4.number().to_be_bytes());
                let start = bytes.len;
                bytes.put(&[0x45, traffic_class, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, ipv4::UDP, 0, 0]);
                bytes.put(&source.octets());
                bytes.put(&destination.octets());
                let header = bytes.bytes.get(start..bytes.len)?;
                let own = Sum::of_word(!u16::from(traffic_class));
                (false, Sum::of(header).plus(own), ipv4::pseudo_header(source, destination))
            }
            (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                bytes.put(&EtherType::Ipv6.number().to_be_bytes());
                bytes.put(&[0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, 0, 0, ipv4::UDP, HOP_LIMIT]);
                bytes.put(&source.octets());
                bytes.put(&destination.octets());
                (true, Sum::default(), ipv6::pseudo_header(source, destination))
            }
            _ => return None,
        };
        bytes.put(&source.port().to_be_bytes());
        bytes.put(&destination.port().to_be_bytes());
        bytes.put(&[0; 4]);
        let ports = Sum::of_word(source.port()).plus(Sum::of_word(destination.port()));
        let udp_sum = pseudo_header.plus(ports);
        Some(Self { bytes: bytes.bytes, len: bytes.len as u8, ipv6, traffic_class, header_sum, udp_sum })
    }

    /// Bytes of the headers, 42 to 66: where the payload begins in the frame.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "headers are never empty")]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// The headers with lengths and checksums zero.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Writes the headers in front of a payload that lies at [`HeaderTemplate::len`] of `frame`, with a full
    /// checksum. Returns the frame's length; a short frame is padded with zeros to [`MIN_FRAME_BYTES`] if there is
    /// room. `None` if the payload is longer than `frame` or than a datagram can be.
    #[inline]
    #[must_use]
    pub fn write(&self, frame: &mut [u8], payload_len: usize) -> Option<usize> {
        self.write_as(frame, payload_len, self.traffic_class)
    }

    /// [`HeaderTemplate::write`] with other differentiated services than the template's: those of a packet that is sent
    /// on.
    #[inline]
    #[must_use]
    pub fn write_as(&self, frame: &mut [u8], payload_len: usize, traffic_class: u8) -> Option<usize> {
        let len = self.len();
        let total = payload_len.checked_add(len)?;
        let udp_len = u16::try_from(payload_len + udp::HEADER_BYTES).ok()?;
        let (headers, payload) = frame.get_mut(..total)?.split_at_mut_checked(len)?;
        headers.copy_from_slice(self.bytes.get(..len)?);
        let udp_start = len - udp::HEADER_BYTES;
        if self.ipv6 {
            let ip_start = udp_start - ipv6::HEADER_BYTES;
            put(headers, ip_start, 0x6000 | u16::from(traffic_class) << 4)?;
            put(headers, ip_start + ipv6::PAYLOAD_LENGTH, udp_len)?;
        } else {
            let ip_len = udp_len.checked_add(ipv4::HEADER_BYTES as u16)?;
            let ip_start = udp_start - ipv4::HEADER_BYTES;
            put(headers, ip_start + ipv4::TOTAL_LENGTH, ip_len)?;
            *headers.get_mut(ip_start + 1)? = traffic_class;
            let class = Sum::of_word(traffic_class.into());
            let checksum = self.header_sum.plus(Sum::of_word(ip_len)).plus(class).checksum();
            put(headers, ip_start + ipv4::CHECKSUM, checksum)?;
        }
        put(headers, udp_start + udp::LENGTH, udp_len)?;
        // The length is in the pseudo-header and in the header.
        let length = Sum::of_word(udp_len);
        let sum = self.udp_sum.plus(length).plus(length).plus(Sum::of(payload));
        put(headers, udp_start + udp::CHECKSUM, sum.udp_checksum())?;
        if total < MIN_FRAME_BYTES
            && let Some(padding) = frame.get_mut(total..MIN_FRAME_BYTES)
        {
            padding.fill(0);
            return Some(MIN_FRAME_BYTES);
        }
        Some(total)
    }

    /// Whether it is IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.ipv6
    }
}

/// A header being put together.
struct Bytes {
    bytes: [u8; MAX_HEADER_BYTES],
    len: usize,
}

impl Bytes {
    fn put(&mut self, part: &[u8]) {
        let room = self.bytes.get_mut(self.len..self.len + part.len());
        room.expect("no header is longer than the longest").copy_from_slice(part);
        self.len += part.len();
    }
}

#[inline]
fn put(headers: &mut [u8], at: usize, word: u16) -> Option<()> {
    *headers.get_mut(at..)?.first_chunk_mut()? = word.to_be_bytes();
    Some(())
}

/// Hops that a packet may take (RFC 1700 recommends 64).
const HOP_LIMIT: u8 = 64;

const _: () = assert!(ethernet::HEADER_BYTES + ipv4::HEADER_BYTES + udp::HEADER_BYTES == 42);
