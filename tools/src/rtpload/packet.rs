//! What is in a packet, so that the receiver knows every byte of it, also behind a G.711 converter.
//!
//! ```text
//! RTP header (RFC 3550 section 5.1), then the payload, 8 bytes for each 32 bits, highest digit first:
//!  0        8        16       24       32                  len
//!  | flow   | index  | sent   | check  | fixed letters ... |
//! ```
//!
//! Each byte is one of 16 letters: one hexadecimal digit XOR a constant of the law. The letters are the positive
//! samples of segment 6, which G.711's conversion tables and decoding followed by encoding both map one to one, digit
//! for digit. `sent` is CLOCK_MONOTONIC in nanoseconds modulo 2^32, `check` a hash of the three before.

use crate::callload::g711::Law;

/// The letter for digit 0; that of digit d is this XOR d.
pub(super) const fn letter(law: Law) -> u8 {
    match law {
        Law::Pcmu => 0x9f,
        Law::Pcma => 0xb5,
    }
}

/// The letter for digit 0 eight times.
pub(super) const fn letters(law: Law) -> u64 {
    u64::from_ne_bytes([letter(law); 8])
}

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) flow: u32,
    /// 0 for the flow's first packet.
    pub(super) index: u32,
    /// CLOCK_MONOTONIC in nanoseconds modulo 2^32.
    pub(super) sent: u32,
}

impl Stamp {
    /// What tells a damaged stamp from a right one.
    pub(super) const fn check(self) -> u32 {
        self.flow
            .wrapping_mul(FLOW_FACTOR)
            .wrapping_add(self.index.wrapping_mul(INDEX_FACTOR))
            .wrapping_add(self.sent.wrapping_mul(SENT_FACTOR))
    }

    pub(super) fn write(self, law: Law, payload: &mut [u8]) {
        let words = [self.flow, self.index, self.sent, self.check()];
        for (word, out) in words.into_iter().zip(payload.chunks_exact_mut(8)) {
            out.copy_from_slice(&(spread(word) ^ letters(law)).to_be_bytes());
        }
    }

    /// `None` if these are no letters of the law or do not fit together.
    pub(super) fn read(law: Law, payload: &[u8]) -> Option<Self> {
        let mut words = [0; 4];
        let (stamp, _) = payload.split_first_chunk::<STAMP_BYTES>()?;
        for (word, bytes) in words.iter_mut().zip(stamp.chunks_exact(8)) {
            let digits = u64::from_be_bytes(bytes.try_into().ok()?) ^ letters(law);
            *word = gather(digits)?;
        }
        let [flow, index, sent, check] = words;
        let stamp = Self { flow, index, sent };
        (stamp.check() == check).then_some(stamp)
    }
}

/// The payload of a law without its stamp.
pub(super) fn fixed_part(law: Law, payload_bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let digits = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    });
    digits.map(|digit| digit ^ letter(law)).take(payload_bytes.saturating_sub(STAMP_BYTES)).collect()
}

/// What the relay may have changed of a header is not looked at: SSRC, sequence number, timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rtp<'a> {
    pub(super) payload_type: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Rtp<'a> {
    /// A packet as the generator sends them: version 2, no padding, extension or sources.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, payload) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        (header[0] == 0x80).then_some(Self { payload_type: header[1] & 0x7f, payload })
    }
}

/// Whether a datagram is RTCP (RFC 5761 section 4).
pub(super) fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}

/// Writes the RTP header of a flow's packet: both numbers begin somewhere else for each flow.
pub(super) fn write_header(out: &mut [u8; HEADER_BYTES], payload_type: u8, stamp: Stamp, samples: u32) {
    out[0] = 0x80;
    out[1] = payload_type;
    out[2..4]
        .copy_from_slice(&first_sequence_number(stamp.flow).wrapping_add(stamp.index as u16).to_be_bytes());
    let timestamp = first_timestamp(stamp.flow).wrapping_add(stamp.index.wrapping_mul(samples));
    out[4..8].copy_from_slice(&timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&ssrc(stamp.flow).to_be_bytes());
}

pub(super) const fn first_sequence_number(flow: u32) -> u16 {
    (flow.wrapping_mul(13) & 0x3fff) as u16
}

pub(super) const fn first_timestamp(flow: u32) -> u32 {
    flow.wrapping_mul(1_000)
}

pub(super) const fn ssrc(flow: u32) -> u32 {
    0x1000_0000 + flow.wrapping_mul(7)
}

/// Each hexadecimal digit in a byte of its own, the highest in the highest byte.
pub(super) const fn spread(word: u32) -> u64 {
    let mut digits = word as u64;
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// The reverse of [`spread`]; `None` if a byte is no digit.
const fn gather(digits: u64) -> Option<u32> {
    if digits & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    let mut word = (digits | digits >> 4) & 0x00ff_00ff_00ff_00ff;
    word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
    Some((word | word >> 16) as u32)
}

/// Bytes of the RTP header.
pub(super) const HEADER_BYTES: usize = 12;
/// Bytes of the payload that change from packet to packet.
pub(super) const STAMP_BYTES: usize = 32;
pub(super) const FLOW_FACTOR: u32 = 0x9e37_79b1;
pub(super) const INDEX_FACTOR: u32 = 0x85eb_ca77;
pub(super) const SENT_FACTOR: u32 = 0xc2b2_ae3d;

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(from: Law, to: Law, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|byte| to.encode(from.decode(*byte))).collect()
    }

    #[test]
    fn a_payload_of_one_law_converts_to_that_of_the_other() {
        let stamp = Stamp { flow: 0x0123_4567, index: 0x89ab_cdef, sent: 0xfedc_ba98 };
        let payload = |law| {
            let mut payload = [vec![0; STAMP_BYTES], fixed_part(law, 160)].concat();
            stamp.write(law, &mut payload);
            payload
        };
        assert_eq!(converted(Law::Pcmu, Law::Pcma, &payload(Law::Pcmu)), payload(Law::Pcma));
        assert_eq!(converted(Law::Pcma, Law::Pcmu, &payload(Law::Pcma)), payload(Law::Pcmu));
        for law in [Law::Pcmu, Law::Pcma] {
            assert_eq!(Stamp::read(law, &payload(law)), Some(stamp));
        }
        assert_eq!(Stamp::read(Law::Pcma, &payload(Law::Pcmu)), None);
    }

    #[test]
    fn a_stamp_with_any_changed_bit_is_no_stamp() {
        let mut payload = vec![0; STAMP_BYTES];
        Stamp { flow: 5, index: 77, sent: 123_456_789 }.write(Law::Pcmu, &mut payload);
        for bit in 0..STAMP_BYTES * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(Law::Pcmu, &payload), None, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn digits_are_gathered_as_they_were_spread() {
        for word in [0, 1, 0x1234_5678, 0xdead_beef, u32::MAX] {
            assert_eq!(gather(spread(word)), Some(word));
        }
        assert_eq!(spread(0x1234_5678), 0x0102_0304_0506_0708);
        assert_eq!(gather(0x10), None);
    }
}
