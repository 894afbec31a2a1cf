//! What is where in an entry of the port table: 16 words of 64 bits, two cache lines. The first is all that a packet to
//! user space needs; the second is read when the kernel forwards.
//!
//! ```text
//!  0  state+generation | flags | address in | address out | source port (2) | VLAN tag (2)
//!  1  source address ..
//!  2  .. as IPv6, IPv4 mapped
//!  3  bytes
//!  4  packets
//!  5  strangers
//!  6  SSRC (4) | highest sequence number with cycles (4)
//!  7  last seen in ticks (4) | transit time in ticks (4)
//!  8  new destination address ..
//!  9  .. as IPv6, IPv4 mapped
//! 10  new source port (2) | new destination port (2) | interface (4)
//! 11  new Ethernet header: destination (6) | source (2 of 6)
//! 12  source (4 of 6) | first sequence number (2) | sequence offset (2)
//! 13  new SSRC (4) | timestamp offset (4)
//! 14  payload types 0 to 63
//! 15  payload types 96 to 127 (4) | jitter (4)
//! ```
//!
//! Addresses, ports, MACs and the VLAN tag lie as on the wire, numbers as the host has them. Payload types 64 to 95 are
//! RTCP (RFC 5761 section 4) and not forwarded. The program writes words 3 to 7 and the low half of 12 and the high half
//! of 15 where they are its own; user space writes the rest while the state says that nothing is forwarded.

use std::net::IpAddr;

use crate::PayloadTypes;

/// Words of an entry.
pub(super) const WORDS: usize = 16;

// Byte offsets of fields, for the program.
pub(super) const HEAD: i16 = 0;
pub(super) const SOURCE: i16 = 8;
pub(super) const BYTES: i16 = 24;
pub(super) const PACKETS: i16 = 32;
pub(super) const STRANGERS: i16 = 40;
pub(super) const SSRC: i16 = 48;
pub(super) const HIGHEST: i16 = 52;
pub(super) const SEEN: i16 = 56;
pub(super) const TRANSIT: i16 = 60;
pub(super) const FIRST: i16 = 100;
pub(super) const TYPES: i16 = 112;
pub(super) const TYPES_HIGH: i16 = 120;
pub(super) const JITTER: i16 = 124;
/// The words that tell how to forward, `FLOW_WORDS` of them.
pub(super) const FLOW: i16 = 64;
pub(super) const FLOW_WORDS: i16 = 6;

/// States: the lower two bits of the head.
pub(super) const STATE: u64 = 3;
/// Not ours.
pub(super) const CLOSED: u64 = 0;
/// Everything goes to user space.
pub(super) const OPEN: u64 = 1;
/// RTP is forwarded.
pub(super) const FORWARD: u64 = 2;
/// A port of the kernel whose senders are limited.
pub(super) const GUARDED: u64 = 3;

/// The bits above the state count changes, so that the program sees whether an entry changed while it read it.
pub(super) const GENERATION: u64 = 0xfc;
pub(super) const GENERATION_STEP: u64 = 0x04;

/// Flags of the head.
pub(super) const CONNECTED: u64 = 1 << 8;
pub(super) const SOURCE_IPV6: u64 = 1 << 9;
pub(super) const NEW_SSRC: u64 = 1 << 10;
pub(super) const VLAN: u64 = 1 << 11;
pub(super) const NEW_NUMBERS: u64 = 1 << 12;
/// If open on any address: of IPv6, too.
pub(super) const ANY_IPV6: u64 = 1 << 13;

/// Positions of the other fields of the head.
pub(super) const ADDRESS_IN: u32 = 16;
pub(super) const ADDRESS_OUT: u32 = 24;
pub(super) const SOURCE_PORT: u32 = 32;
pub(super) const TAG: u32 = 48;
/// What stays in the head when a flow ends: state and flow flags are not among it.
pub(super) const KEPT: u64 =
    CONNECTED | SOURCE_IPV6 | 0xff << ADDRESS_IN | 0xffff << SOURCE_PORT | GENERATION;

/// An address of this host, for the program: three words.
///
/// ```text
/// 0  address as IPv6, IPv4 mapped ..
/// 1  ..
/// 2  4 or 6 (2) | MAC (6); 0 if this entry is free
/// ```
pub(super) const ADDRESS_WORDS: usize = 3;
/// The byte offset of its third word.
pub(super) const ADDRESS_MAC: i16 = 16;
/// Numbers are one byte, and 0 is none.
pub(super) const ADDRESSES: u32 = 256;

/// Values of the flood table: when the second began, packets since.
pub(super) const FLOOD_WORDS: usize = 2;

/// An address as it lies in tables.
pub(super) fn words(ip: IpAddr) -> [u64; 2] {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let (high, low) = octets.split_at(8);
    [high, low].map(|half| half.first_chunk().map_or(0, |half| u64::from_ne_bytes(*half)))
}

/// A port as it lies on the wire.
pub(super) const fn wire(port: u16) -> u64 {
    port.to_be() as u64
}

/// Words 14 and 15: what may be forwarded, and no jitter yet.
pub(super) const fn payload_types(types: PayloadTypes) -> [u64; 2] {
    [types.0 as u64, (types.0 >> 96) as u64]
}

/// Time as the program counts it: ticks of 125 us (a sample at 8 kHz), from nanoseconds, by a product because a division
/// costs ten times as much. 8 parts in a million fast.
pub(super) const TICK_SHIFT_BEFORE: u32 = 12;
pub(super) const TICK_FACTOR: u32 = 34_360;
pub(super) const TICK_SHIFT_AFTER: u32 = 20;

/// As the program does it.
pub(super) const fn ticks(nanoseconds: u64) -> u64 {
    (nanoseconds >> TICK_SHIFT_BEFORE).wrapping_mul(TICK_FACTOR as u64) >> TICK_SHIFT_AFTER
}

/// How many nanoseconds a tick has.
pub(super) const TICK_NANOSECONDS: u64 = 125_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_samples_at_8_khz() {
        for seconds in [1, 1000, 100_000_000_u64] {
            let exact = seconds * 8000;
            assert!(ticks(seconds * 1_000_000_000).abs_diff(exact) <= 1 + exact / 100_000, "{seconds}");
        }
    }

    #[test]
    fn rtcp_is_no_payload_type() {
        assert_eq!(payload_types(PayloadTypes(u128::MAX)), [u64::MAX, u32::MAX.into()]);
        let mut types = PayloadTypes::default();
        [0, 63, 64, 95, 96, 127].iter().for_each(|payload_type| types.insert(*payload_type));
        assert_eq!(payload_types(types), [1 | 1 << 63, 1 | 1 << 31]);
    }

    #[test]
    fn an_ipv4_address_is_mapped() {
        let bytes: Vec<u8> = words("192.0.2.1".parse().expect("an address"))
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    }
}
