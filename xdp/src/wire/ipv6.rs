//! IPv6 (RFC 8200 section 3) without extension headers.

use std::net::Ipv6Addr;

use super::Reject;
use super::checksum::Sum;
use super::ipv4::UDP;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 40;

/// Where the payload length is.
pub const PAYLOAD_LENGTH: usize = 4;

/// Next headers that are extensions (IANA "IPv6 Extension Header Types").
const EXTENSIONS: [u8; 11] = [0, 43, 44, 50, 51, 60, 135, 139, 140, 253, 254];

/// A packet of UDP, checked: whole and without extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    header: &'a [u8; HEADER_BYTES],
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Checks what follows the Ethernet header.
    ///
    /// # Errors
    /// [`Reject`].
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, Reject> {
        let (header, rest) = packet.split_first_chunk::<HEADER_BYTES>().ok_or(Reject::Short)?;
        let [version, _, _, _, len_high, len_low, next_header, ..] = *header;
        if version >> 4 != 6 {
            return Err(Reject::NotIp);
        }
        if next_header != UDP {
            let extension = EXTENSIONS.contains(&next_header);
            return Err(if extension { Reject::ExtensionHeader } else { Reject::NotUdp });
        }
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let packet = Self { header, payload: rest.get(..len).ok_or(Reject::BadLength)? };
        let source = packet.source();
        // The kernel drops a mapped one as well: it would be taken for a sender on IPv4.
        let mapped = source.to_ipv4_mapped().is_some();
        if source.is_multicast() || source.is_loopback() || source.is_unspecified() || mapped {
            return Err(Reject::ImpossibleSource);
        }
        Ok(packet)
    }

    /// Who sent it.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        let [_, _, _, _, _, _, _, _, addresses @ ..] = self.header;
        Ipv6Addr::from(*addresses.first_chunk::<16>().expect("32 bytes of addresses"))
    }

    /// Who shall get it.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(*self.header.last_chunk::<16>().expect("40 bytes of header"))
    }

    /// The traffic class (RFC 8200 section 7).
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.header[0] << 4 | self.header[1] >> 4
    }

    /// What follows the header, without Ethernet's padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The sum of the pseudo-header (RFC 8200 section 8.1) without the length.
#[must_use]
#[inline]
pub fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr) -> Sum {
    Sum::of(&source.octets()).plus(Sum::of(&destination.octets())).plus(Sum::of_word(UDP as u16))
}
