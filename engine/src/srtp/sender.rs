//! Protection of what we send.

use std::fmt;

use super::cipher::Transform;
use super::keys::Stream;
use super::{
    E_FLAG, INDEX_BYTES, InvalidKey, MasterKey, RTCP_HEADER_BYTES, index, payload_offset, rtcp_ssrc,
    rtp_identity,
};

/// Protects the packets of one SSRC.
pub struct Sender {
    rtp: Transform,
    rtcp: Transform,
    /// The index of the last RTP packet.
    last: Option<u64>,
    next_rtcp: u32,
}

/// Why a packet was not protected; it must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtectError {
    /// No RTP or RTCP packet.
    Malformed,
    /// The buffer has no room for the trailer.
    Room,
    /// The sequence number is not after the last one: the same key stream would be used twice.
    Order,
    /// The key has protected all that it may (RFC 3711 section 9.2).
    Exhausted,
}

impl Sender {
    /// Derives the session keys.
    ///
    /// # Errors
    /// [`InvalidKey`] does not happen with a [`MasterKey`] that was made.
    pub fn new(key: &MasterKey) -> Result<Self, InvalidKey> {
        Ok(Self {
            rtp: Transform::new(key.profile(), &key.derive(Stream::Rtp)?, Stream::Rtp)?,
            rtcp: Transform::new(key.profile(), &key.derive(Stream::Rtcp)?, Stream::Rtcp)?,
            last: None,
            next_rtcp: 0,
        })
    }

    /// Protects the RTP packet in the first `len` bytes of `buffer` and gives its length then:
    /// [`super::Profile::rtp_trailer_bytes`] more.
    ///
    /// # Errors
    /// [`ProtectError`]; what is in the buffer then must not be sent.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, ProtectError> {
        let packet = buffer.get(..len).ok_or(ProtectError::Malformed)?;
        let offset = payload_offset(packet).ok_or(ProtectError::Malformed)?;
        let (sequence_number, ssrc) = rtp_identity(packet).ok_or(ProtectError::Malformed)?;
        let index = match self.last {
            None => u64::from(sequence_number),
            Some(last) => {
                let index = index::estimate(last, sequence_number);
                index.filter(|&index| index > last).ok_or(if last > index::LAST - 0x1_0000 {
                    ProtectError::Exhausted
                } else {
                    ProtectError::Order
                })?
            }
        };
        let len = protect(&self.rtp, buffer, len, ssrc, index, offset)?;
        self.last = Some(index);
        Ok(len)
    }

    /// Protects the RTCP packet (a compound one, too) in the first `len` bytes of `buffer` and gives its length
    /// then: [`super::Profile::rtcp_trailer_bytes`] more.
    ///
    /// # Errors
    /// [`ProtectError`]; what is in the buffer then must not be sent.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, ProtectError> {
        let packet = buffer.get(..len).ok_or(ProtectError::Malformed)?;
        let ssrc = rtcp_ssrc(packet).ok_or(ProtectError::Malformed)?;
        if self.next_rtcp >= E_FLAG {
            return Err(ProtectError::Exhausted);
        }
        let len = protect_rtcp(&self.rtcp, buffer, len, ssrc, self.next_rtcp)?;
        self.next_rtcp += 1;
        Ok(len)
    }
}

/// Redacted: it is made of keys.
impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("srtp::Sender").field("last", &self.last).finish_non_exhaustive()
    }
}

pub(super) fn protect(
    transform: &Transform,
    buffer: &mut [u8],
    len: usize,
    ssrc: u32,
    index: u64,
    offset: usize,
) -> Result<usize, ProtectError> {
    let (packet, after) = buffer.split_at_mut(len);
    match transform {
        Transform::Counter(counter) => {
            let trailer = after.get_mut(..counter.tag_bytes).ok_or(ProtectError::Room)?;
            counter.apply(ssrc, index, &mut packet[offset..]);
            let tag = counter.tag(packet, (index >> 16) as u32);
            trailer.copy_from_slice(&tag[..counter.tag_bytes]);
            Ok(len + counter.tag_bytes)
        }
        Transform::Gcm(gcm) => {
            let trailer = after.first_chunk_mut().ok_or(ProtectError::Room)?;
            let (clear, data) = packet.split_at_mut(offset);
            *trailer = gcm.seal(ssrc, index, clear, data).ok_or(ProtectError::Malformed)?;
            Ok(len + trailer.len())
        }
    }
}

/// RFC 3711 section 3.4; RFC 7714 section 9: there the tag is before the index.
fn protect_rtcp(
    transform: &Transform,
    buffer: &mut [u8],
    len: usize,
    ssrc: u32,
    index: u32,
) -> Result<usize, ProtectError> {
    let word = index | E_FLAG;
    match transform {
        Transform::Counter(counter) => {
            let end = len + INDEX_BYTES + counter.tag_bytes;
            let buffer = buffer.get_mut(..end).ok_or(ProtectError::Room)?;
            counter.apply(ssrc, u64::from(index), &mut buffer[RTCP_HEADER_BYTES..len]);
            let tag = counter.tag(&buffer[..len], word);
            buffer[len..][..INDEX_BYTES].copy_from_slice(&word.to_be_bytes());
            buffer[len + INDEX_BYTES..].copy_from_slice(&tag[..counter.tag_bytes]);
            Ok(end)
        }
        Transform::Gcm(gcm) => {
            let end = len + 16 + INDEX_BYTES;
            let buffer = buffer.get_mut(..end).ok_or(ProtectError::Room)?;
            let mut clear = [0; RTCP_HEADER_BYTES + INDEX_BYTES];
            clear[..RTCP_HEADER_BYTES].copy_from_slice(&buffer[..RTCP_HEADER_BYTES]);
            clear[RTCP_HEADER_BYTES..].copy_from_slice(&word.to_be_bytes());
            let data = &mut buffer[RTCP_HEADER_BYTES..len];
            let tag = gcm.seal(ssrc, u64::from(index), &clear, data).ok_or(ProtectError::Malformed)?;
            buffer[len..][..16].copy_from_slice(&tag);
            buffer[len + 16..].copy_from_slice(&word.to_be_bytes());
            Ok(end)
        }
    }
}
