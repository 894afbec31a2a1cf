//! UDP (RFC 768).

use super::Reject;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 8;

/// Where the length is.
pub const LENGTH: usize = 4;

/// Where the checksum is.
pub const CHECKSUM: usize = 6;

/// A datagram, its length checked.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    header: &'a [u8; HEADER_BYTES],
    datagram: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Checks what follows the IP header. Bytes beyond its length are left out.
    ///
    /// # Errors
    /// [`Reject::Short`], [`Reject::BadLength`].
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, Reject> {
        let header = packet.first_chunk::<HEADER_BYTES>().ok_or(Reject::Short)?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let datagram = packet.get(..len).filter(|datagram| datagram.len() >= HEADER_BYTES);
        Ok(Self { header, datagram: datagram.ok_or(Reject::BadLength)? })
    }

    /// The sender's port.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// The receiver's port.
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// The checksum field.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// Header and payload.
    #[must_use]
    pub const fn datagram(&self) -> &'a [u8] {
        self.datagram
    }

    /// Bytes of header and payload: what the pseudo-header says.
    #[must_use]
    pub const fn len(&self) -> u16 {
        self.datagram.len() as u16
    }

    /// Whether there is no payload.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.datagram.len() == HEADER_BYTES
    }
}
