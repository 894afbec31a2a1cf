use proptest::prelude::*;

use super::cipher::{Aes, HmacSha1, Transform};
use super::keys::{SessionKeys, Stream};
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| (digit as char).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

fn key(profile: Profile) -> MasterKey {
    let key: Vec<u8> = (0..profile.key_bytes() + profile.salt_bytes()).map(|n| (n * 7 + 1) as u8).collect();
    MasterKey::new(profile, &key).expect("the right length")
}

fn pair(profile: Profile) -> (Sender, Receiver) {
    let key = key(profile);
    (Sender::new(&key).expect("valid"), Receiver::new(&key).expect("valid"))
}

/// A packet with a CSRC and a header extension.
fn rtp(sequence_number: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x91, 0];
    packet.extend_from_slice(&sequence_number.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 160, 0xCA, 0xFE, 0xBA, 0xBE]);
    packet.extend_from_slice(&[1, 2, 3, 4]);
    packet.extend_from_slice(&[0xBE, 0xDE, 0, 1, 0x10, 0x55, 0, 0]);
    packet.extend_from_slice(payload);
    packet
}

fn rtcp(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6, 0xCA, 0xFE, 0xBA, 0xBE];
    packet.extend_from_slice(payload);
    packet
}

fn protected(sender: &mut Sender, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + 40, 0xEE);
    let len = sender.protect_rtp(&mut buffer, packet.len()).expect("protected");
    buffer.truncate(len);
    buffer
}

fn protected_rtcp(sender: &mut Sender, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + 40, 0xEE);
    let len = sender.protect_rtcp(&mut buffer, packet.len()).expect("protected");
    buffer.truncate(len);
    buffer
}

/// RFC 3711 appendix B.2.
#[test]
fn counter_mode_gives_the_key_stream_of_the_rfc() {
    let aes = Aes::new(&bytes("2B7E151628AED2A6ABF7158809CF4F3C")).expect("16 bytes");
    let mut stream = vec![0; 16 * 0xFF02];
    aes.apply(0xF0F1_F2F3_F4F5_F6F7_F8F9_FAFB_FCFD_0000, &mut stream);
    let expected =
        "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream[..48], bytes(expected));
    let expected =
        "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44";
    assert_eq!(stream[16 * 0xFEFF..], bytes(expected));
}

/// RFC 3711 appendix B.3.
#[test]
fn session_keys_are_those_of_the_rfc() {
    let master = bytes("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    let master = MasterKey::new(Profile::AesCm128HmacSha1Tag80, &master).expect("30 bytes");
    let keys = master.derive(Stream::Rtp).expect("valid");
    assert_eq!(keys.cipher_key(), bytes("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(keys.salt(), bytes("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(keys.authentication_key(), bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

/// RFC 6188 section 7.2.
#[test]
fn session_keys_of_256_bits_are_those_of_the_rfc() {
    let master = bytes(
        "f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6 3b04803de51ee7c96423ab5b78d2",
    );
    let master = MasterKey::new(Profile::AesCm256HmacSha1Tag80, &master).expect("46 bytes");
    let keys = master.derive(Stream::Rtp).expect("valid");
    let expected = "5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4";
    assert_eq!(keys.cipher_key(), bytes(expected));
    assert_eq!(keys.salt(), bytes("fa31791685ca444a9e07c6c64e93"));
    assert_eq!(keys.authentication_key(), bytes("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
}

/// RFC 2202 section 3, the cases whose keys fit a block; the last four bytes go in apart.
#[test]
fn hmac_is_that_of_the_rfc() {
    for (key, message, tag) in [
        (vec![0x0B; 20], b"Hi There".to_vec(), "b617318655057264e28bc0b6fb378c8ef146be00"),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        (vec![0xAA; 20], vec![0xDD; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
    ] {
        let (message, last) = message.split_last_chunk().expect("long enough");
        assert_eq!(HmacSha1::new(&key).tag(message, *last).to_vec(), bytes(tag));
    }
}

/// The packet that libsrtp tests itself with.
#[test]
fn packet_is_protected_as_by_libsrtp() {
    let master = bytes("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let master = MasterKey::new(Profile::AesCm128HmacSha1Tag80, &master).expect("30 bytes");
    let packet = bytes("800f1234decafbadcafebabe abababababababababababababababab");
    let expected = bytes("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    let mut protected = protected(&mut Sender::new(&master).expect("valid"), &packet);
    assert_eq!(protected, expected);
    assert_eq!(Receiver::new(&master).expect("valid").unprotect_rtp(&mut protected), Ok(packet.len()));
    assert_eq!(protected[..packet.len()], packet);
}

/// RFC 7714 sections 16.1.1 and 16.2.1.
#[test]
fn gcm_packets_are_those_of_the_rfc() {
    let clear = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 \
                 696e2070 61727465 73207472 6573";
    for (profile, expected) in [
        (
            Profile::AeadAes128Gcm,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a \
             51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            Profile::AeadAes256Gcm,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 \
             76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ] {
        let key: Vec<u8> = (0..profile.key_bytes() as u8).collect();
        let keys = SessionKeys::of(&key, &bytes("517569642070726f2071756f"));
        let transform = Transform::new(profile, &keys, Stream::Rtp).expect("valid");
        let mut packet = bytes(clear);
        let len = packet.len();
        packet.resize(len + 16, 0);
        assert_eq!(sender::protect(&transform, &mut packet, len, 0x5501_A0B2, 0xF17B, 12), Ok(len + 16));
        assert_eq!(packet, bytes(expected), "{profile:?}");
    }
}

#[test]
fn every_profile_brings_packets_over() {
    for profile in Profile::ALL {
        assert_eq!(Profile::from_name(profile.name()), Some(profile));
        let (mut sender, mut receiver) = pair(profile);
        for len in (0..200).chain([1_300]) {
            let payload: Vec<u8> = (0..len).map(|n| (n * 31) as u8).collect();
            let packet = rtp(65_500u16.wrapping_add(len as u16), &payload);
            let mut wire = protected(&mut sender, &packet);
            assert_eq!(wire.len(), packet.len() + profile.rtp_trailer_bytes());
            assert_eq!(wire[..24], packet[..24], "header and extension stay in the clear");
            assert!(len < 8 || wire[24..packet.len()] != packet[24..], "the payload does not");
            assert_eq!(receiver.unprotect_rtp(&mut wire), Ok(packet.len()), "{profile:?} {len}");
            assert_eq!(wire[..packet.len()], packet);

            let packet = rtcp(&payload);
            let mut wire = protected_rtcp(&mut sender, &packet);
            assert_eq!(wire.len(), packet.len() + profile.rtcp_trailer_bytes());
            assert_eq!(receiver.unprotect_rtcp(&mut wire), Ok(packet.len()), "{profile:?} {len}");
            assert_eq!(wire[..packet.len()], packet);
        }
    }
}

#[test]
fn every_changed_bit_is_noticed_and_harms_nothing() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = pair(profile);
        let wires =
            [protected(&mut sender, &rtp(7, &[1, 2, 3])), protected_rtcp(&mut sender, &rtcp(&[9; 20]))];
        let unprotect = |receiver: &mut Receiver, number: usize, wire: &mut [u8]| match number {
            0 => receiver.unprotect_rtp(wire),
            _ => receiver.unprotect_rtcp(wire),
        };
        for (number, wire) in wires.iter().enumerate() {
            for bit in 0..8 * wire.len() {
                let mut changed = wire.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let answer = unprotect(&mut receiver, number, &mut changed);
                assert!(matches!(answer, Err(Rejection::Tag | Rejection::Malformed)), "{profile:?} {bit}");
            }
            for len in 0..wire.len() {
                assert!(unprotect(&mut receiver, number, &mut wire[..len].to_vec()).is_err());
            }
            let mut other = Receiver::new(
                &MasterKey::new(profile, &vec![5; profile.key_bytes() + profile.salt_bytes()])
                    .expect("valid"),
            )
            .expect("valid");
            assert_eq!(unprotect(&mut other, number, &mut wire.clone()), Err(Rejection::Tag));
            assert!(unprotect(&mut receiver, number, &mut wire.clone()).is_ok());
            assert_eq!(unprotect(&mut receiver, number, &mut wire.clone()), Err(Rejection::Replayed));
        }
    }
}

#[test]
fn rtcp_that_is_only_authenticated_is_taken() {
    for profile in [Profile::AesCm128HmacSha1Tag80, Profile::AeadAes128Gcm] {
        let key = key(profile);
        let transform =
            Transform::new(profile, &key.derive(Stream::Rtcp).expect("valid"), Stream::Rtcp).expect("valid");
        let packet = rtcp(&[3; 20]);
        let mut wire = packet.clone();
        match &transform {
            Transform::Counter(counter) => {
                let tag = counter.tag(&packet, 5);
                wire.extend_from_slice(&5u32.to_be_bytes());
                wire.extend_from_slice(&tag[..10]);
            }
            Transform::Gcm(gcm) => {
                let mut clear = packet.clone();
                clear.extend_from_slice(&5u32.to_be_bytes());
                wire.extend_from_slice(&gcm.seal(0xCAFE_BABE, 5, &clear, &mut []).expect("sealed"));
                wire.extend_from_slice(&5u32.to_be_bytes());
            }
        }
        let mut receiver = Receiver::new(&key).expect("valid");
        assert_eq!(receiver.unprotect_rtcp(&mut wire.clone()), Ok(packet.len()), "{profile:?}");
        assert_eq!(receiver.unprotect_rtcp(&mut wire), Err(Rejection::Replayed));
    }
}

#[test]
fn loss_reordering_and_rollover_are_followed() {
    let (mut sender, mut receiver) = pair(Profile::AesCm128HmacSha1Tag80);
    let mut wires: Vec<Vec<u8>> = (0..3 * 65_536u32)
        .step_by(500)
        .map(|n| protected(&mut sender, &rtp(n as u16, &[n as u8; 9])))
        .collect();
    for couple in wires.chunks_exact_mut(2) {
        couple.swap(0, 1);
    }
    for (number, wire) in wires.iter_mut().enumerate() {
        let expected = if number % 2 == 1 { Err(Rejection::Replayed) } else { Ok(wire.len() - 10) };
        assert_eq!(receiver.unprotect_rtp(wire), expected, "{number}: 500 back is too old to tell");
    }
    for distance in [1, 2, 127] {
        let (mut sender, mut receiver) = pair(Profile::AeadAes128Gcm);
        let [mut early, mut late] =
            [65_500, 65_500 + distance].map(|n: u32| protected(&mut sender, &rtp(n as u16, &[1; 9])));
        assert!(receiver.unprotect_rtp(&mut late).is_ok() || distance > 35);
        assert!(receiver.unprotect_rtp(&mut early).is_ok());
    }
}

#[test]
fn peer_may_change_its_ssrc() {
    let (_, mut receiver) = pair(Profile::AeadAes256Gcm);
    let mut wires = Vec::new();
    for ssrc in 0..3u8 {
        let (mut sender, _) = pair(Profile::AeadAes256Gcm);
        let mut packet = rtp(40_000, &[7; 20]);
        packet[11] = ssrc;
        wires.push(protected(&mut sender, &packet));
    }
    for wire in &wires {
        assert!(receiver.unprotect_rtp(&mut wire.clone()).is_ok());
    }
    for wire in &wires {
        assert_eq!(receiver.unprotect_rtp(&mut wire.clone()), Err(Rejection::Replayed));
    }
}

#[test]
fn no_key_stream_is_used_twice() {
    for profile in Profile::ALL {
        let (mut sender, _) = pair(profile);
        let mut buffer = rtp(100, &[1; 20]);
        let len = buffer.len();
        assert_eq!(sender.protect_rtp(&mut buffer, len), Err(ProtectError::Room));
        buffer.resize(len + profile.rtp_trailer_bytes() - 1, 0);
        assert_eq!(sender.protect_rtp(&mut buffer, len), Err(ProtectError::Room));
        let sent = protected(&mut sender, &rtp(100, &[1; 20]));
        for number in [100, 99, 40_000] {
            let mut buffer = rtp(number, &[2; 20]);
            buffer.resize(80, 0);
            assert_eq!(sender.protect_rtp(&mut buffer, 44), Err(ProtectError::Order), "{number}");
        }
        assert_ne!(protected(&mut sender, &rtp(101, &[1; 20]))[24..], sent[24..]);
    }
}

#[test]
fn what_is_no_packet_is_refused() {
    let (mut sender, mut receiver) = pair(Profile::AesCm128HmacSha1Tag80);
    let mut version = rtp(1, &[0; 40]);
    version[0] ^= 0xC0;
    let mut extension = rtp(1, &[0; 40]);
    extension[18] = 0xFF;
    for mut wrong in [vec![], vec![0x80; 11], version, extension] {
        let len = wrong.len();
        assert_eq!(sender.protect_rtp(&mut wrong.clone(), len), Err(ProtectError::Malformed));
        assert_eq!(receiver.unprotect_rtp(&mut wrong), Err(Rejection::Malformed));
    }
    assert_eq!(sender.protect_rtp(&mut [0x80; 20], 21), Err(ProtectError::Malformed));
    for mut wrong in [vec![], vec![0x80; 7], vec![0; 40]] {
        let len = wrong.len();
        assert_eq!(sender.protect_rtcp(&mut wrong.clone(), len), Err(ProtectError::Malformed));
        assert_eq!(receiver.unprotect_rtcp(&mut wrong), Err(Rejection::Malformed));
    }
    for profile in Profile::ALL {
        let right = profile.key_bytes() + profile.salt_bytes();
        for len in [0, right - 1, right + 1] {
            assert_eq!(MasterKey::new(profile, &vec![0; len]), Err(InvalidKey));
        }
        let shown = format!("{:?} {:?}", key(profile), pair(profile));
        assert!(!shown.contains("[1, 8, 15"), "keys are not shown");
    }
}

proptest! {
    #[test]
    fn garbage_is_never_believed(
        mut wires in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..120), any::<bool>()), 1..20),
        which in 0..Profile::ALL.len(),
    ) {
        let (_, mut receiver) = pair(Profile::ALL[which]);
        for (wire, is_rtcp) in &mut wires {
            if let Some(first) = wire.first_mut() {
                *first = *first & 0x3F | 0x80;
            }
            let answer = if *is_rtcp { receiver.unprotect_rtcp(wire) } else { receiver.unprotect_rtp(wire) };
            prop_assert!(answer.is_err());
        }
    }
}
