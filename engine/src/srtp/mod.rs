//! SRTP arithmetic (RFC 3711, RFC 6188, RFC 7714): packets are encrypted, authenticated and checked where they
//! lie, without allocation. Who agrees on the keys, and how, is not known here.
//!
//! ```text
//!  MasterKey -- derivation --> Sender:   RTP packet  -> cipher -> tag appended
//!                         \--> Receiver: SRTP packet -> length -> index -> replay -> tag -> cipher -> RTP packet
//! ```
//!
//! A [`Sender`] sends for one SSRC; a [`Receiver`] hears a few. The index of a packet, which both sides must
//! guess alike, is its sequence number with the rollovers counted ([`index`]).

mod cipher;
mod index;
mod keys;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use keys::{InvalidKey, MasterKey};
pub use receiver::{Receiver, Rejection};
pub use sender::{ProtectError, Sender};

/// A protection profile: cipher, authentication and lengths; by its name in SDP security descriptions (RFC 4568,
/// RFC 6188, RFC 7714).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AES_CM_128_HMAC_SHA1_80, which everyone has.
    AesCm128HmacSha1Tag80,
    /// AES_CM_128_HMAC_SHA1_32: a short tag for RTP alone.
    AesCm128HmacSha1Tag32,
    /// AES_256_CM_HMAC_SHA1_80.
    AesCm256HmacSha1Tag80,
    /// AES_256_CM_HMAC_SHA1_32.
    AesCm256HmacSha1Tag32,
    /// AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM.
    AeadAes256Gcm,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AesCm128HmacSha1Tag80,
        Self::AesCm128HmacSha1Tag32,
        Self::AesCm256HmacSha1Tag80,
        Self::AesCm256HmacSha1Tag32,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// The name in `a=crypto`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm256HmacSha1Tag80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm256HmacSha1Tag32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The profile of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Bytes of the master key, and of the cipher's.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1Tag80 | Self::AesCm128HmacSha1Tag32 | Self::AeadAes128Gcm => 16,
            Self::AesCm256HmacSha1Tag80 | Self::AesCm256HmacSha1Tag32 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of the master salt.
    #[must_use]
    pub const fn salt_bytes(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Bytes that an RTP packet grows by.
    #[must_use]
    pub const fn rtp_trailer_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1Tag80 | Self::AesCm256HmacSha1Tag80 => 10,
            Self::AesCm128HmacSha1Tag32 | Self::AesCm256HmacSha1Tag32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Bytes that an RTCP packet grows by: the tag, never a short one, and the index.
    #[must_use]
    pub const fn rtcp_trailer_bytes(self) -> usize {
        self.rtcp_tag_bytes() + INDEX_BYTES
    }

    const fn rtcp_tag_bytes(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }

    const fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }
}

/// Where the payload of an RTP packet begins (RFC 3550 section 5.1); `None` if these bytes are no RTP packet.
/// The padding is not looked at: it may be encrypted.
fn payload_offset(packet: &[u8]) -> Option<usize> {
    let &first = packet.first()?;
    if first >> 6 != 2 {
        return None;
    }
    let mut offset = RTP_HEADER_BYTES + 4 * usize::from(first & 0x0F);
    if first & 0x10 != 0 {
        let [high, low] = *packet.get(offset + 2..)?.first_chunk()?;
        offset += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    (offset <= packet.len()).then_some(offset)
}

/// Sequence number and SSRC of what [`payload_offset`] has looked at.
fn rtp_identity(packet: &[u8]) -> Option<(u16, u32)> {
    let header: &[u8; RTP_HEADER_BYTES] = packet.first_chunk()?;
    let [_, _, high, low, _, _, _, _, a, b, c, d] = *header;
    Some((u16::from_be_bytes([high, low]), u32::from_be_bytes([a, b, c, d])))
}

/// The SSRC of an RTCP packet's sender; `None` if these bytes are none.
fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let &[first, _, _, _, a, b, c, d] = packet.first_chunk()?;
    (first >> 6 == 2).then_some(u32::from_be_bytes([a, b, c, d]))
}

const RTP_HEADER_BYTES: usize = 12;
/// What RTCP leaves in the clear.
const RTCP_HEADER_BYTES: usize = 8;
/// The E flag and the index (RFC 3711 section 3.4).
const INDEX_BYTES: usize = 4;
/// This RTCP packet is encrypted.
const E_FLAG: u32 = 1 << 31;
