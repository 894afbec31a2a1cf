//! RTP packets (RFC 3550 section 5.1) and telephone events (RFC 4733 section 2.3), no more than a caller needs.

/// What a received datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) payload_type: u8,
    pub(super) sequence_number: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for anything that is not version 2 RTP with consistent lengths.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        if header[0] >> 6 != 2 {
            return None;
        }
        rest = rest.get(usize::from(header[0] & 0x0f) * 4..)?;
        if header[0] & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>()?;
            rest = after.get(usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4..)?;
        }
        if header[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last()?);
            if padding == 0 {
                return None;
            }
            rest = rest.get(..rest.len().checked_sub(padding)?)?;
        }
        Some(Self {
            payload_type: header[1] & 0x7f,
            sequence_number: u16::from_be_bytes([header[2], header[3]]),
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            payload: rest,
        })
    }
}

/// Bytes of the fixed header.
pub(super) const HEADER_LEN: usize = 12;

/// Writes the fixed header.
pub(super) fn write_header(
    out: &mut [u8; HEADER_LEN],
    marker: bool,
    payload_type: u8,
    sequence_number: u16,
    timestamp: u32,
    ssrc: u32,
) {
    out[0] = 0x80;
    out[1] = payload_type | if marker { 0x80 } else { 0 };
    out[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    out[4..8].copy_from_slice(&timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// The four bytes of a telephone event.
pub(super) fn telephone_event(event: u8, end: bool, duration: u16) -> [u8; 4] {
    let [high, low] = duration.to_be_bytes();
    [event, if end { 0x8a } else { 0x0a }, high, low]
}

/// The event number of a DTMF digit (RFC 4733 section 3.2).
pub(super) fn event_of_digit(digit: char) -> Option<u8> {
    match digit.to_ascii_uppercase() {
        '0'..='9' => Some(digit as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        letter @ 'A'..='D' => Some(letter as u8 - b'A' + 12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_header_parses_back() {
        let mut datagram = [0u8; HEADER_LEN + 3];
        let (header, payload) = datagram.split_first_chunk_mut::<HEADER_LEN>().unwrap();
        write_header(header, true, 8, 65_535, 0xdead_beef, 42);
        payload.copy_from_slice(&[1, 2, 3]);
        let packet = Packet::parse(&datagram).unwrap();
        let expected = Packet {
            payload_type: 8,
            sequence_number: 65_535,
            timestamp: 0xdead_beef,
            ssrc: 42,
            payload: &[1, 2, 3],
        };
        assert_eq!(packet, expected);
    }

    #[test]
    fn contributors_extension_and_padding_are_taken_off() {
        let mut datagram = vec![0xb1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        datagram.extend([9, 9, 9, 9]); // one CSRC
        datagram.extend([0xbe, 0xde, 0, 1, 7, 7, 7, 7]); // extension of one word
        datagram.extend([5, 6, 0, 2]); // two bytes of audio, two of padding
        assert_eq!(Packet::parse(&datagram).unwrap().payload, [5, 6]);
        for cut in 0..datagram.len() {
            let _ = Packet::parse(&datagram[..cut]);
        }
        datagram[0] = 0x40;
        assert_eq!(Packet::parse(&datagram), None);
    }
}
