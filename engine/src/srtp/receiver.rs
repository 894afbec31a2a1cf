//! Checking and decryption of what we receive.

use std::fmt;

use super::cipher::Transform;
use super::index::{self, ReplayWindow};
use super::keys::Stream;
use super::{
    E_FLAG, INDEX_BYTES, InvalidKey, MasterKey, Profile, RTCP_HEADER_BYTES, payload_offset, rtcp_ssrc,
    rtp_identity,
};

/// Checks the packets of one peer, who may change its SSRC.
pub struct Receiver {
    profile: Profile,
    rtp: Transform,
    rtcp: Transform,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

/// Why a packet was not believed. Nothing about it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Too short, or no RTP or RTCP packet.
    Malformed,
    /// The tag is not that of the packet and our key.
    Tag,
    /// It came before, or is too old to tell (RFC 3711 section 3.3.2).
    Replayed,
}

impl Receiver {
    /// Derives the session keys.
    ///
    /// # Errors
    /// [`InvalidKey`] does not happen with a [`MasterKey`] that was made.
    pub fn new(key: &MasterKey) -> Result<Self, InvalidKey> {
        Ok(Self {
            profile: key.profile(),
            rtp: Transform::new(key.profile(), &key.derive(Stream::Rtp)?, Stream::Rtp)?,
            rtcp: Transform::new(key.profile(), &key.derive(Stream::Rtcp)?, Stream::Rtcp)?,
            rtp_sources: Sources::default(),
            rtcp_sources: Sources::default(),
        })
    }

    /// Makes the RTP packet of an SRTP packet where it lies, and gives its length.
    ///
    /// # Errors
    /// [`Rejection`]; what is in the packet then means nothing.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Rejection> {
        let len = packet.len().checked_sub(self.profile.rtp_trailer_bytes()).ok_or(Rejection::Malformed)?;
        let offset = payload_offset(&packet[..len]).ok_or(Rejection::Malformed)?;
        let (sequence_number, ssrc) = rtp_identity(packet).ok_or(Rejection::Malformed)?;
        let index = match self.rtp_sources.find(ssrc) {
            // The first packet of a source says where it begins; it has not rolled over yet (section 3.3.1).
            None => u64::from(sequence_number),
            Some(window) => index::estimate(window.highest(), sequence_number)
                .filter(|&index| window.is_new(index))
                .ok_or(Rejection::Replayed)?,
        };
        match &self.rtp {
            Transform::Counter(counter) => {
                let (message, tag) = packet.split_at_mut(len);
                if !counter.is_authentic(message, (index >> 16) as u32, tag) {
                    return Err(Rejection::Tag);
                }
                counter.apply(ssrc, index, &mut message[offset..]);
            }
            Transform::Gcm(gcm) => {
                let (clear, data) = packet.split_at_mut(offset);
                if !gcm.open(ssrc, index, clear, data) {
                    return Err(Rejection::Tag);
                }
            }
        }
        self.rtp_sources.insert(ssrc, index);
        Ok(len)
    }

    /// Makes the RTCP packet of an SRTCP packet where it lies, and gives its length.
    ///
    /// # Errors
    /// [`Rejection`]; what is in the packet then means nothing.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Rejection> {
        let len = packet.len().checked_sub(self.profile.rtcp_trailer_bytes()).ok_or(Rejection::Malformed)?;
        let ssrc = rtcp_ssrc(&packet[..len]).ok_or(Rejection::Malformed)?;
        let word_at = if self.profile.is_aead() { len + 16 } else { len };
        let word = packet.get(word_at..).and_then(<[u8]>::first_chunk).ok_or(Rejection::Malformed)?;
        let word = u32::from_be_bytes(*word);
        let (index, is_encrypted) = (u64::from(word & !E_FLAG), word & E_FLAG != 0);
        if self.rtcp_sources.find(ssrc).is_some_and(|window| !window.is_new(index)) {
            return Err(Rejection::Replayed);
        }
        match &self.rtcp {
            Transform::Counter(counter) => {
                let (message, trailer) = packet.split_at_mut(len);
                if !counter.is_authentic(message, word, &trailer[INDEX_BYTES..]) {
                    return Err(Rejection::Tag);
                }
                if is_encrypted {
                    counter.apply(ssrc, index, &mut message[RTCP_HEADER_BYTES..]);
                }
            }
            Transform::Gcm(gcm) => {
                let is_authentic = if is_encrypted {
                    let (clear, data) = packet[..word_at].split_at_mut(RTCP_HEADER_BYTES);
                    let mut associated = [0; RTCP_HEADER_BYTES + INDEX_BYTES];
                    associated[..RTCP_HEADER_BYTES].copy_from_slice(clear);
                    associated[RTCP_HEADER_BYTES..].copy_from_slice(&word.to_be_bytes());
                    gcm.open(ssrc, index, &associated, data)
                } else {
                    // The index, behind the tag on the wire, is authenticated with the packet before it.
                    packet[len..].rotate_right(INDEX_BYTES);
                    let (clear, tag) = packet.split_at_mut(len + INDEX_BYTES);
                    gcm.open(ssrc, index, clear, tag)
                };
                if !is_authentic {
                    return Err(Rejection::Tag);
                }
            }
        }
        self.rtcp_sources.insert(ssrc, index);
        Ok(len)
    }
}

/// Redacted: it is made of keys.
impl fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("srtp::Receiver").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// The sources heard last, the newest first. Only an authentic packet gets in, so the peer alone can push one out.
#[derive(Clone, Copy, Debug, Default)]
struct Sources([Option<(u32, ReplayWindow)>; SOURCES]);

impl Sources {
    fn find(&self, ssrc: u32) -> Option<&ReplayWindow> {
        self.0.iter().flatten().find(|(other, _)| *other == ssrc).map(|(_, window)| window)
    }

    fn insert(&mut self, ssrc: u32, index: u64) {
        let at = self.0.iter().position(|source| source.is_some_and(|(other, _)| other == ssrc));
        match at.and_then(|at| self.0[at].as_mut()) {
            Some((_, window)) => window.insert(index),
            None => {
                self.0.rotate_right(1);
                self.0[0] = Some((ssrc, ReplayWindow::new(index)));
            }
        }
    }
}

/// A peer has one source, for a moment two; the rest is for calls that move.
const SOURCES: usize = 4;
