//! SRTP protection of one packet of G.711 (172 octets) in place against libsrtp2.

use std::hint::black_box;

use crate::pair::Side;
use crate::peers::{Srtp, SrtpProfile};

/// A packet before protection.
pub const PACKET: usize = 172;

/// Sixteen octets of key, then the salt.
pub const KEY_AND_SALT: [u8; 30] = {
    let mut key = [0; 30];
    let mut at = 0;
    while at < 30 {
        key[at] = at as u8;
        at += 1;
    }
    key
};

/// A packet with room for the trailer; the payload counts up.
pub fn packet() -> [u8; PACKET + Srtp::TRAILER] {
    let mut packet = [0; PACKET + Srtp::TRAILER];
    packet[0] = 0x80;
    packet[8..12].copy_from_slice(&1u32.to_be_bytes());
    for (at, octet) in packet[12..PACKET].iter_mut().enumerate() {
        *octet = at as u8;
    }
    packet
}

/// Every call protects the next packet; what was encrypted before is the payload.
pub fn libsrtp2(profile: SrtpProfile) -> Side {
    let mut session = Srtp::new(profile, false, &KEY_AND_SALT);
    let mut packet = packet();
    let mut sequence = 0u16;
    Side::new("libsrtp2", move || {
        sequence = sequence.wrapping_add(1);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        black_box(session.protect(black_box(&mut packet), PACKET));
    })
}

/// Whether libsrtp2 takes what we protected, packet after packet, and finds what we put in.
pub fn check(
    profile: SrtpProfile,
    mut protect: impl FnMut(&mut [u8], usize) -> Option<usize>,
) -> Result<String, String> {
    let mut receiver = Srtp::new(profile, true, &KEY_AND_SALT);
    for sequence in 1..=1000u16 {
        let mut ours = packet();
        ours[2..4].copy_from_slice(&sequence.to_be_bytes());
        let clear = ours;
        let length = protect(&mut ours, PACKET).ok_or("we refused to protect")?;
        let length = receiver.unprotect(&mut ours, length).ok_or("libsrtp2 refuses our packet")?;
        if ours[..length] != clear[..PACKET] {
            return Err(format!("packet {sequence} came back different"));
        }
    }
    Ok("1,000 packets taken by libsrtp2".to_owned())
}
