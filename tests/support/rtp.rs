//! RTP packets as the test peers send and hear them.

use std::time::Instant;

/// One packet that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

impl Heard {
    pub(crate) fn parse(at: Instant, packet: &[u8]) -> Option<Self> {
        if packet.len() < 12 || packet[0] != 0x80 {
            return None;
        }
        Some(Self {
            at,
            payload_type: packet[1] & 0x7F,
            marker: packet[1] & 0x80 != 0,
            sequence_number: u16::from_be_bytes([packet[2], packet[3]]),
            timestamp: u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]),
            ssrc: u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]),
            payload: packet[12..].to_vec(),
        })
    }
}

/// The header of the next packet of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) sequence_number: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl Header {
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, self.payload_type | u8::from(self.marker) << 7];
        bytes.extend_from_slice(&self.sequence_number.to_be_bytes());
        bytes.extend_from_slice(&self.timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }
}

/// The payloads of one RFC 4733 event of 100 ms, 20 ms apart, the end sent three times.
pub(crate) fn telephone_event(digit: char) -> Vec<[u8; 4]> {
    let event = match digit {
        '0'..='9' => digit as u8 - b'0',
        '*' => 10,
        '#' => 11,
        'A'..='D' => digit as u8 - b'A' + 12,
        _ => panic!("{digit} is not a key"),
    };
    (1..=7u16)
        .map(|packet| {
            let duration = (packet.min(5) * 160).to_be_bytes();
            [event, if packet >= 5 { 0x8A } else { 0x0A }, duration[0], duration[1]]
        })
        .collect()
}

/// Pseudo-random mu-law payloads of 20 ms: each is unlike any other, so an echo can be told packet by packet.
pub(crate) fn noise_payloads(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Quiet enough never to clip: segments 0 to 5 of both signs; 0x7F and 0xFF are both zero.
        let byte = 0x20 | (state >> 32) as u8;
        if byte == 0x7F { 0xFF } else { byte }
    };
    (0..count).map(|_| (0..160).map(|_| next()).collect()).collect()
}
