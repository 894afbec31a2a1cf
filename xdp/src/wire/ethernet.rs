//! Ethernet II (IEEE 802.3 section 3.2.6) with at most one tag (IEEE 802.1Q section 9.6).

use std::fmt;

use super::Reject;

/// Bytes of the header without a tag.
pub const HEADER_BYTES: usize = 14;

/// Bytes of a VLAN tag.
pub const TAG_BYTES: usize = 4;

/// An address of an Ethernet interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it is the address of one interface: not multicast or broadcast, and not zero.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a & 1 == 0 && (a | b | c | d | e | f) != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The tag protocol identifier of a customer VLAN tag.
pub const TAG: u16 = 0x8100;

/// Tags of provider bridges, old and new.
const SERVICE_TAGS: [u16; 2] = [0x88a8, 0x9100];

/// The EtherTypes that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// 0x0800.
    Ipv4,
    /// 0x86dd.
    Ipv6,
}

impl EtherType {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Ipv4 => 0x0800,
            Self::Ipv6 => 0x86dd,
        }
    }

    const fn of(number: u16) -> Result<Self, Reject> {
        match number {
            0x0800 => Ok(Self::Ipv4),
            0x86dd => Ok(Self::Ipv6),
            _ => Err(Reject::NotIp),
        }
    }
}

/// A frame of IP, checked.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    header: &'a [u8; HEADER_BYTES],
    vlan: Option<u16>,
    ether_type: EtherType,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Checks a frame.
    ///
    /// # Errors
    /// [`Reject::Short`], [`Reject::NotIp`], [`Reject::TwoTags`].
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self, Reject> {
        let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(Reject::Short)?;
        let [.., high, low] = *header;
        let outer = u16::from_be_bytes([high, low]);
        if outer != TAG {
            if SERVICE_TAGS.contains(&outer) {
                return Err(Reject::TwoTags);
            }
            return Ok(Self { header, vlan: None, ether_type: EtherType::of(outer)?, payload });
        }
        let (&[a, b, c, d], payload) = payload.split_first_chunk::<TAG_BYTES>().ok_or(Reject::Short)?;
        let inner = u16::from_be_bytes([c, d]);
        if inner == TAG || SERVICE_TAGS.contains(&inner) {
            return Err(Reject::TwoTags);
        }
        let vlan = Some(u16::from_be_bytes([a, b]));
        Ok(Self { header, vlan, ether_type: EtherType::of(inner)?, payload })
    }

    /// Who shall get it.
    #[must_use]
    pub const fn destination(&self) -> MacAddress {
        let [a, b, c, d, e, f, ..] = *self.header;
        MacAddress([a, b, c, d, e, f])
    }

    /// Who sent it on this wire.
    #[must_use]
    pub const fn source(&self) -> MacAddress {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.header;
        MacAddress([a, b, c, d, e, f])
    }

    /// The tag control information: 3 bits of priority, one drop eligible indicator, 12 bits of VLAN identifier.
    #[must_use]
    pub const fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    /// What the payload is.
    #[must_use]
    pub const fn ether_type(&self) -> EtherType {
        self.ether_type
    }

    /// What follows the header, with padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes in front of the payload.
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        if self.vlan.is_some() { HEADER_BYTES + TAG_BYTES } else { HEADER_BYTES }
    }
}
