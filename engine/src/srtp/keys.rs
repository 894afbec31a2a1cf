//! Master keys, and the session keys derived from them (RFC 3711 section 4.3) with a key derivation rate of zero.

use std::fmt;

use super::Profile;
use super::cipher::Aes;

/// A master key and salt for one direction.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    profile: Profile,
    key: [u8; 32],
    /// Padded to the 14 bytes of counter mode (RFC 7714 section 11).
    salt: [u8; 14],
}

/// A master key of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the SRTP master key and salt do not have the length of the profile")]
pub struct InvalidKey;

impl MasterKey {
    /// Takes the key and the salt behind it, as `a=crypto` has them (RFC 4568 section 6.1).
    ///
    /// # Errors
    /// [`InvalidKey`] when they are not together as long as the profile wants.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Result<Self, InvalidKey> {
        if key_and_salt.len() != profile.key_bytes() + profile.salt_bytes() {
            return Err(InvalidKey);
        }
        let (from_key, from_salt) = key_and_salt.split_at(profile.key_bytes());
        let (mut key, mut salt) = ([0; 32], [0; 14]);
        key[..from_key.len()].copy_from_slice(from_key);
        salt[..from_salt.len()].copy_from_slice(from_salt);
        Ok(Self { profile, key, salt })
    }

    /// What it is for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    pub(super) fn derive(&self, stream: Stream) -> Result<SessionKeys, InvalidKey> {
        let aes = Aes::new(&self.key[..self.profile.key_bytes()])?;
        let first = match stream {
            Stream::Rtp => 0,
            Stream::Rtcp => 3,
        };
        let mut keys = SessionKeys {
            key: [0; 32],
            key_bytes: self.profile.key_bytes(),
            authentication: [0; 20],
            salt: [0; 14],
            salt_bytes: self.profile.salt_bytes(),
        };
        self.fill(&aes, first, &mut keys.key[..keys.key_bytes]);
        self.fill(&aes, first + 1, &mut keys.authentication);
        self.fill(&aes, first + 2, &mut keys.salt[..keys.salt_bytes]);
        Ok(keys)
    }

    /// The pseudorandom function with one label (section 4.3.3).
    fn fill(&self, aes: &Aes, label: u8, key: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        counter[7] ^= label;
        aes.apply(u128::from_be_bytes(counter), key);
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What keys are derived for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Rtp,
    Rtcp,
}

pub(super) struct SessionKeys {
    key: [u8; 32],
    key_bytes: usize,
    authentication: [u8; 20],
    salt: [u8; 14],
    salt_bytes: usize,
}

impl SessionKeys {
    pub(super) fn cipher_key(&self) -> &[u8] {
        &self.key[..self.key_bytes]
    }

    pub(super) fn authentication_key(&self) -> &[u8] {
        &self.authentication
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.salt[..self.salt_bytes]
    }

    #[cfg(test)]
    pub(super) fn of(key_bytes: &[u8], salt_bytes: &[u8]) -> Self {
        let (mut key, mut salt) = ([0; 32], [0; 14]);
        key[..key_bytes.len()].copy_from_slice(key_bytes);
        salt[..salt_bytes.len()].copy_from_slice(salt_bytes);
        Self { key, key_bytes: key_bytes.len(), authentication: [0; 20], salt, salt_bytes: salt_bytes.len() }
    }
}
