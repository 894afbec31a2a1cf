//! The RTP data packet (RFC 3550 section 5.1).
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::RejectReason;
use super::sequence::SequenceNumber;

/// A view of a datagram whose every length has been checked.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |V=2|P|X|  CC   |M|     PT      |       sequence number         |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                           timestamp                           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |           synchronization source (SSRC) identifier            |
/// +=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+
/// |            contributing source (CSRC) identifiers  0..15      |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |      defined by profile       |  extension length (words)     |  X = 1, section 5.3.1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                    extension, payload, padding                |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    header: Header,
    csrcs: &'a [u8],
    extension: Option<Extension<'a>>,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks version, CSRC list, header extension and padding against the length.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RejectReason> {
        let (fixed, rest) =
            datagram.split_first_chunk::<{ Header::BYTES }>().ok_or(RejectReason::TooShort)?;
        let &[first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = fixed;
        if first >> 6 != VERSION {
            return Err(RejectReason::Version);
        }
        let csrc_bytes = usize::from(first & CSRC_COUNT) * 4;
        let (csrcs, rest) = rest.split_at_checked(csrc_bytes).ok_or(RejectReason::CsrcCount)?;
        let (extension, rest) = if first & EXTENSION == 0 {
            (None, rest)
        } else {
            let (&[p0, p1, w0, w1], rest) =
                rest.split_first_chunk::<4>().ok_or(RejectReason::ExtensionLength)?;
            let bytes = usize::from(u16::from_be_bytes([w0, w1])) * 4;
            let (data, rest) = rest.split_at_checked(bytes).ok_or(RejectReason::ExtensionLength)?;
            (Some(Extension { profile: u16::from_be_bytes([p0, p1]), data }), rest)
        };
        let payload = if first & PADDING == 0 {
            rest
        } else {
            // The last octet counts itself (section 5.1), so zero is wrong.
            let padding = usize::from(*rest.last().ok_or(RejectReason::Padding)?);
            let kept = rest.len().checked_sub(padding).ok_or(RejectReason::Padding)?;
            rest.get(..kept).filter(|_| padding > 0).ok_or(RejectReason::Padding)?
        };
        let header = Header {
            marker: second & MARKER != 0,
            payload_type: second & !MARKER,
            sequence_number: SequenceNumber(u16::from_be_bytes([s0, s1])),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        Ok(Self { header, csrcs, extension, payload })
    }

    /// The fixed header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The contributing sources of a mixer, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.csrcs.as_chunks::<4>().0.iter().map(|csrc| u32::from_be_bytes(*csrc))
    }

    /// The header extension, unread.
    #[must_use]
    pub fn extension(&self) -> Option<Extension<'a>> {
        self.extension
    }

    /// What is left between the headers and the padding.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Where in the datagram the payload is, for those who change it there.
    #[must_use]
    pub fn payload_range(&self) -> std::ops::Range<usize> {
        let extension = self.extension.map_or(0, |extension| 4 + extension.data.len());
        let start = Header::BYTES + self.csrcs.len() + extension;
        start..start + self.payload.len()
    }
}

/// A header extension (RFC 3550 section 5.3.1, RFC 8285).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// 0xBEDE for one-byte elements.
    pub profile: u16,
    /// Whole 32-bit words.
    pub data: &'a [u8],
}

/// The fixed header of a packet without CSRC list, extension or padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The first packet of a talk spurt, or of a telephone-event.
    pub marker: bool,
    /// 0 to 127; the eighth bit is not written.
    pub payload_type: u8,
    /// One more with each packet.
    pub sequence_number: SequenceNumber,
    /// The sampling instant of the first sample.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
}

impl Header {
    /// The length of the fixed header.
    pub const BYTES: usize = 12;

    /// Writes the header and returns the rest of the buffer, `None` if it is too small.
    #[must_use]
    pub fn write<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (fixed, rest) = buffer.split_first_chunk_mut::<{ Self::BYTES }>()?;
        let [s0, s1] = self.sequence_number.0.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let marker = if self.marker { MARKER } else { 0 };
        let second = (self.payload_type & !MARKER) | marker;
        *fixed = [VERSION << 6, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        Some(rest)
    }
}

const VERSION: u8 = 2;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const CSRC_COUNT: u8 = 0x0F;
const MARKER: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIXED: [u8; 12] = [0x80, 0x80, 0x12, 0x34, 0, 0, 1, 0x40, 0xDE, 0xAD, 0xBE, 0xEF];

    fn with_first(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = FIXED.to_vec();
        bytes[0] = first;
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn plain_header_is_read_as_drawn() {
        let bytes = with_first(0x80, b"abc");
        let packet = Packet::parse(&bytes).expect("valid");
        let header = packet.header();
        assert!(header.marker);
        assert_eq!(header.payload_type, 0);
        assert_eq!(header.sequence_number, SequenceNumber(0x1234));
        assert_eq!((header.timestamp, header.ssrc), (320, 0xDEAD_BEEF));
        assert_eq!(packet.payload(), b"abc");
        assert_eq!(packet.extension(), None);
    }

    #[test]
    fn csrc_list_extension_and_padding_are_skipped() {
        let rest = [0, 0, 0, 7, 0, 0, 0, 9, 0xBE, 0xDE, 0, 1, 1, 2, 3, 4, b'x', b'y', 0, 2];
        let bytes = with_first(0xB2, &rest);
        let packet = Packet::parse(&bytes).expect("valid");
        assert_eq!(packet.csrcs().collect::<Vec<_>>(), [7, 9]);
        assert_eq!(packet.extension(), Some(Extension { profile: 0xBEDE, data: &[1, 2, 3, 4] }));
        assert_eq!(packet.payload(), b"xy");
    }

    #[test]
    fn every_wrong_length_has_its_reason() {
        let cases: [(Vec<u8>, RejectReason); 9] = [
            (FIXED[..11].to_vec(), RejectReason::TooShort),
            (with_first(0x00, b""), RejectReason::Version),
            (with_first(0x40, b""), RejectReason::Version),
            (with_first(0x82, &[0; 7]), RejectReason::CsrcCount),
            (with_first(0x90, &[0; 3]), RejectReason::ExtensionLength),
            (with_first(0x90, &[0, 0, 0xFF, 0xFF, 1, 2, 3, 4]), RejectReason::ExtensionLength),
            (with_first(0xA0, b""), RejectReason::Padding),
            (with_first(0xA0, &[1, 2, 3, 0]), RejectReason::Padding),
            (with_first(0xA0, &[1, 2, 3, 5]), RejectReason::Padding),
        ];
        for (bytes, reason) in cases {
            assert_eq!(Packet::parse(&bytes), Err(reason), "{bytes:02x?}");
        }
    }

    #[test]
    fn padding_may_fill_the_whole_payload() {
        let bytes = with_first(0xA0, &[0, 0, 0, 4]);
        assert_eq!(Packet::parse(&bytes).expect("valid").payload(), b"");
    }

    #[test]
    fn header_does_not_fit_a_short_buffer() {
        assert!(Header::default().write(&mut [0; 11]).is_none());
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload().len() + Header::BYTES <= bytes.len());
                prop_assert!(packet.csrcs().count() <= 15);
                prop_assert_eq!(&bytes[packet.payload_range()], packet.payload());
            }
        }

        #[test]
        fn parse_after_write_is_identity(
            marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let sequence_number = SequenceNumber(sequence);
            let header = Header { marker, payload_type, sequence_number, timestamp, ssrc };
            let mut bytes = vec![0; Header::BYTES + payload.len()];
            header.write(&mut bytes).expect("fits").copy_from_slice(&payload);
            let packet = Packet::parse(&bytes).expect("valid");
            prop_assert_eq!(packet.header(), header);
            prop_assert_eq!(packet.payload(), &payload[..]);
        }
    }
}
