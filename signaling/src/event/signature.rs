//! Signatures of webhooks after the Standard Webhooks specification: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The key that a receiver and we share, written `whsec_` and base64.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl SigningSecret {
    /// One of 32 random bytes.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new(vec![0; 32]);
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    /// Reads its written form; the specification asks for 24 to 64 bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = Zeroizing::new(BASE64.decode(text.strip_prefix(PREFIX)?).ok()?);
        (24..=64).contains(&key.len()).then_some(Self(key))
    }

    /// The written form, for the one answer that shows it and for the store, which seals it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&*self.0)))
    }

    /// The value of `webhook-signature` for a message sent at `timestamp`, seconds since 1970.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length (RFC 2104 section 2).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

const PREFIX: &str = "whsec_";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_generated_secret_comes_back_and_is_never_printed() {
        let secret = SigningSecret::generate().expect("random numbers");
        let written = secret.reveal();
        let again = SigningSecret::parse(&written).expect("a secret");
        assert_eq!(again.sign("a", 1, b"b"), secret.sign("a", 1, b"b"));
        assert_ne!(SigningSecret::generate().expect("another").reveal(), written);
        assert_eq!(format!("{secret:?}"), "SigningSecret(..)");
        for wrong in ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert!(SigningSecret::parse(wrong).is_none(), "{wrong}");
        }
    }
}
