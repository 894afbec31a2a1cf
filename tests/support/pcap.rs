//! Capture files for SIPp's `play_pcap_audio`: one RTP stream as Ethernet, IPv4, UDP.

use std::path::Path;
use std::time::Duration;

/// Writes the packets with their send times.
pub(crate) fn write(path: &Path, packets: &[(Duration, Vec<u8>)]) {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0xA1B2_C3D4u32.to_le_bytes());
    bytes.extend_from_slice(&2u16.to_le_bytes());
    bytes.extend_from_slice(&4u16.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&65_535u32.to_le_bytes());
    bytes.extend_from_slice(&ETHERNET.to_le_bytes());
    for (at, payload) in packets {
        let udp = u16::try_from(payload.len() + 8).expect("a small packet");
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let mut ip = vec![0x45, 0];
        ip.extend_from_slice(&(udp + 20).to_be_bytes());
        ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let checksum = !(u16::try_from((sum & 0xFFFF) + (sum >> 16)).expect("small header sums fit"));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend_from_slice(&ip);
        // SIPp puts its own ports in; the checksum may be absent with IPv4.
        for word in [6000, 6000, udp, 0] {
            frame.extend_from_slice(&u16::to_be_bytes(word));
        }
        frame.extend_from_slice(payload);
        let length = u32::try_from(frame.len()).expect("a small frame");
        bytes.extend_from_slice(&u32::try_from(at.as_secs()).expect("a short capture").to_le_bytes());
        bytes.extend_from_slice(&at.subsec_micros().to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&frame);
    }
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

const ETHERNET: u32 = 1;
