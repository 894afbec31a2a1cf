//! The transforms: AES in counter mode with HMAC-SHA1 (RFC 3711 section 4, RFC 6188), and AES-GCM (RFC 7714).

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256Enc, Block};
use ring::aead;
use sha1::block_api::compress;
use subtle::ConstantTimeEq;

use super::keys::{SessionKeys, Stream};
use super::{InvalidKey, Profile};

/// The keys of one direction of RTP or of RTCP, expanded.
pub(super) enum Transform {
    Counter(Box<Counter>),
    Gcm(Box<Gcm>),
}

impl Transform {
    pub(super) fn new(profile: Profile, keys: &SessionKeys, stream: Stream) -> Result<Self, InvalidKey> {
        let (key, salt) = (keys.cipher_key(), keys.salt());
        if profile.is_aead() {
            let algorithm = if key.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
            let key = aead::UnboundKey::new(algorithm, key).map_err(|_| InvalidKey)?;
            let salt = *salt.first_chunk().ok_or(InvalidKey)?;
            return Ok(Self::Gcm(Box::new(Gcm { key: aead::LessSafeKey::new(key), salt })));
        }
        let tag_bytes = match stream {
            Stream::Rtp => profile.rtp_trailer_bytes(),
            Stream::Rtcp => profile.rtcp_tag_bytes(),
        };
        let mut counter_salt = [0; 16];
        counter_salt[..14].copy_from_slice(salt);
        Ok(Self::Counter(Box::new(Counter {
            aes: Aes::new(key)?,
            salt: u128::from_be_bytes(counter_salt),
            hmac: HmacSha1::new(keys.authentication_key()),
            tag_bytes,
        })))
    }
}

pub(super) struct Counter {
    aes: Aes,
    salt: u128,
    hmac: HmacSha1,
    pub(super) tag_bytes: usize,
}

impl Counter {
    /// Encrypts or decrypts (section 4.1.1).
    pub(super) fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        self.aes.apply(self.salt ^ (u128::from(ssrc) << 64) ^ (u128::from(index) << 16), data);
    }

    /// The tag of `message` and a last word (section 4.2): the rollover counter, or the index of RTCP.
    pub(super) fn tag(&self, message: &[u8], last: u32) -> [u8; 20] {
        self.hmac.tag(message, last.to_be_bytes())
    }

    /// Whether `tag`, shortened, is that of `message` and a last word; takes the same time for any answer.
    pub(super) fn is_authentic(&self, message: &[u8], last: u32, tag: &[u8]) -> bool {
        self.tag(message, last)[..self.tag_bytes].ct_eq(tag).into()
    }
}

pub(super) struct Gcm {
    key: aead::LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    /// Encrypts and gives the tag; `low` is the rollover counter and sequence number, or the index of RTCP
    /// (RFC 7714 sections 8.1 and 9.1).
    pub(super) fn seal(&self, ssrc: u32, low: u64, clear: &[u8], data: &mut [u8]) -> Option<[u8; 16]> {
        let clear = aead::Aad::from(clear);
        let tag = self.key.seal_in_place_separate_tag(self.nonce(ssrc, low), clear, data).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts `data`, the tag at its end, if it is authentic.
    pub(super) fn open(&self, ssrc: u32, low: u64, clear: &[u8], data: &mut [u8]) -> bool {
        self.key.open_in_place(self.nonce(ssrc, low), aead::Aad::from(clear), data).is_ok()
    }

    fn nonce(&self, ssrc: u32, low: u64) -> aead::Nonce {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&low.to_be_bytes()[2..]);
        for (byte, salt) in nonce.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

pub(super) enum Aes {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

impl Aes {
    pub(super) fn new(key: &[u8]) -> Result<Self, InvalidKey> {
        match key.len() {
            16 => Ok(Self::Aes128(Aes128Enc::new_from_slice(key).map_err(|_| InvalidKey)?)),
            32 => Ok(Self::Aes256(Aes256Enc::new_from_slice(key).map_err(|_| InvalidKey)?)),
            _ => Err(InvalidKey),
        }
    }

    /// Adds the key stream from `counter` on, a multiple of 2^16.
    pub(super) fn apply(&self, counter: u128, data: &mut [u8]) {
        let mut blocks = [Block::default(); BLOCKS];
        let mut next = counter;
        for data in data.chunks_mut(16 * BLOCKS) {
            let blocks = &mut blocks[..data.len().div_ceil(16)];
            for block in &mut *blocks {
                *block = next.to_be_bytes().into();
                next = next.wrapping_add(1);
            }
            match self {
                Self::Aes128(aes) => aes.encrypt_blocks(blocks),
                Self::Aes256(aes) => aes.encrypt_blocks(blocks),
            }
            for (data, stream) in data.chunks_mut(16).zip(blocks) {
                for (byte, stream) in data.iter_mut().zip(stream.iter()) {
                    *byte ^= stream;
                }
            }
        }
    }
}

/// HMAC (RFC 2104) with the key's blocks hashed already.
pub(super) struct HmacSha1 {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl HmacSha1 {
    /// `key` is not longer than a block.
    pub(super) fn new(key: &[u8]) -> Self {
        let padded = |pad: u8| {
            let mut block = [pad; 64];
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = SHA1;
            compress(&mut state, &[block]);
            state
        };
        Self { inner: padded(0x36), outer: padded(0x5C) }
    }

    /// The tag of a message and the four bytes after it.
    pub(super) fn tag(&self, message: &[u8], last: [u8; 4]) -> [u8; 20] {
        let (blocks, rest) = message.as_chunks::<64>();
        let mut state = self.inner;
        compress(&mut state, blocks);
        let mut tail = [[0; 64]; 2];
        let bytes = tail.as_flattened_mut();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()..][..4].copy_from_slice(&last);
        bytes[rest.len() + 4] = 0x80;
        let end = if rest.len() + 4 + 9 <= 64 { 1 } else { 2 };
        let bits = 8 * (64 + message.len() as u64 + 4);
        bytes[64 * end - 8..][..8].copy_from_slice(&bits.to_be_bytes());
        compress(&mut state, &tail[..end]);

        let mut block = [0; 64];
        block[..20].copy_from_slice(&bytes_of(state));
        block[20] = 0x80;
        block[56..].copy_from_slice(&(8u64 * (64 + 20)).to_be_bytes());
        let mut state = self.outer;
        compress(&mut state, &[block]);
        bytes_of(state)
    }
}

fn bytes_of(state: [u32; 5]) -> [u8; 20] {
    let mut bytes = [0; 20];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

/// Blocks of key stream that are made at one time: 160 bytes of G.711 are 10.
const BLOCKS: usize = 16;
/// The initial state (FIPS 180-4 section 5.3.1).
const SHA1: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
