//! SRTP protection of one packet of G.711 (172 octets) in place against libsrtp2.

use std::hint::black_box;

use engine::srtp::{MasterKey, Profile, Receiver, Sender};

use crate::pair::{Pair, Side};
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

pub fn pairs() -> Vec<Pair> {
    [("srtp_protect_cm", 4.0, SrtpProfile::AesCm), ("srtp_protect_gcm", 2.0, SrtpProfile::AesGcm)]
        .into_iter()
        .map(|(name, goal, profile)| Pair {
            name,
            goal,
            frames: 1,
            check: Box::new(move || check(profile)),
            ours: ours(profile),
            theirs: vec![libsrtp2(profile)],
            uses_kernels: false,
        })
        .collect()
}

fn ours(profile: SrtpProfile) -> Side {
    let mut sender = Sender::new(&key(profile)).expect("a key of the right length");
    let mut packet = packet();
    let mut sequence = 0u16;
    Side::new("", move || {
        sequence = sequence.wrapping_add(1);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        black_box(sender.protect_rtp(black_box(&mut packet), PACKET).is_ok());
    })
}

fn key(profile: SrtpProfile) -> MasterKey {
    let profile = match profile {
        SrtpProfile::AesCm => Profile::AesCm128HmacSha1Tag80,
        SrtpProfile::AesGcm => Profile::AeadAes128Gcm,
    };
    let len = profile.key_bytes() + profile.salt_bytes();
    MasterKey::new(profile, &KEY_AND_SALT[..len]).expect("a key of the right length")
}

/// Whether libsrtp2 takes what we protected and we take what it did, packet after packet over a rollover, and
/// both find what was put in.
fn check(profile: SrtpProfile) -> Result<String, String> {
    let mut sender = Sender::new(&key(profile)).map_err(|error| error.to_string())?;
    let mut receiver = Receiver::new(&key(profile)).map_err(|error| error.to_string())?;
    let mut their_sender = Srtp::new(profile, false, &KEY_AND_SALT);
    let mut their_receiver = Srtp::new(profile, true, &KEY_AND_SALT);
    for number in 0..1000u16 {
        let mut clear = packet();
        clear[2..4].copy_from_slice(&number.wrapping_sub(500).to_be_bytes());
        let (mut ours, mut theirs) = (clear, clear);
        let length = sender.protect_rtp(&mut ours, PACKET).map_err(|error| format!("{error:?}"))?;
        let their_length = their_sender.protect(&mut theirs, PACKET).ok_or("libsrtp2 refused to protect")?;
        if ours[..length] != theirs[..their_length] {
            return Err(format!("packet {number} is not what libsrtp2 makes of it"));
        }
        let length = their_receiver.unprotect(&mut ours, length).ok_or("libsrtp2 refuses our packet")?;
        if ours[..length] != clear[..PACKET] {
            return Err(format!("packet {number} came back different"));
        }
        let length =
            receiver.unprotect_rtp(&mut theirs[..their_length]).map_err(|error| format!("{error:?}"))?;
        if theirs[..length] != clear[..PACKET] {
            return Err(format!("packet {number} of libsrtp2 came back different"));
        }
    }
    Ok("1,000 packets each way, the same bytes as libsrtp2's".to_owned())
}
