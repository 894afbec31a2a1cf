//! IPv4 (RFC 791 section 3.1) without options.

use std::net::Ipv4Addr;

use super::Reject;
use super::checksum::Sum;

/// Bytes of a header without options.
pub const HEADER_BYTES: usize = 20;

/// Where the total length is.
pub const TOTAL_LENGTH: usize = 2;

/// Where the header checksum is.
pub const CHECKSUM: usize = 10;

/// The protocol number of UDP, in IPv6 too.
pub const UDP: u8 = 17;

/// A packet of UDP, checked: whole, without options, its header's checksum right.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    header: &'a [u8; HEADER_BYTES],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks what follows the Ethernet header.
    ///
    /// # Errors
    /// [`Reject`].
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, Reject> {
        let (header, rest) = packet.split_first_chunk::<HEADER_BYTES>().ok_or(Reject::Short)?;
        let [version, _, len_high, len_low, _, _, fragment_high, fragment_low, _, protocol, ..] = *header;
        match version {
            0x45 => {}
            0x46..=0x4f => return Err(Reject::IpOptions),
            0x40..=0x44 => return Err(Reject::BadLength),
            _ => return Err(Reject::NotIp),
        }
        // More fragments, or an offset.
        if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
            return Err(Reject::Fragment);
        }
        if protocol != UDP {
            return Err(Reject::NotUdp);
        }
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let payload = len.checked_sub(HEADER_BYTES).and_then(|len| rest.get(..len));
        let payload = payload.ok_or(Reject::BadLength)?;
        if Sum::of(header).fold() != 0xffff {
            return Err(Reject::BadHeaderChecksum);
        }
        let packet = Self { header, payload };
        if is_impossible_source(packet.source()) {
            return Err(Reject::ImpossibleSource);
        }
        Ok(packet)
    }

    /// Who sent it.
    #[must_use]
    pub const fn source(&self) -> Ipv4Addr {
        let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Who shall get it.
    #[must_use]
    pub const fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// The differentiated services field (RFC 2474): DSCP above two bits of congestion notification.
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.header[1]
    }

    /// What follows the header, without Ethernet's padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The sum of the pseudo-header (RFC 768) without the length.
#[must_use]
#[inline]
pub fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr) -> Sum {
    Sum::of(&source.octets()).plus(Sum::of(&destination.octets())).plus(Sum::of_word(UDP as u16))
}

/// Addresses that no packet on a wire comes from (RFC 6890; RFC 1122 section 3.2.1.3).
const fn is_impossible_source(source: Ipv4Addr) -> bool {
    let first = source.octets()[0];
    first == 0 || first == 127 || first >= 224 && first < 240 || source.is_broadcast()
}
