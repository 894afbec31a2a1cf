//! Transfers by REFER (RFC 3515): where to, and what became of it.

use std::fmt;
use std::str::FromStr;

use super::message::Uri;

/// An address that a call can be transferred to: a `sip:`, `sips:` or `tel:` URI that is safe in a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransferTarget(String);

impl TransferTarget {
    /// The URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user part, or the number.
    #[must_use]
    pub fn user(&self) -> String {
        Uri::parse(&self.0).map(|uri| uri.user).unwrap_or_default()
    }
}

/// How a transfer succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// The peer reported that the target has answered.
    Answered,
    /// The peer took the referral over and hung up without telling more.
    Left,
}

/// Why a transfer did not succeed. The session goes on, except after [`TransferError::Closed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The peer does not transfer.
    #[error("the peer refused the transfer: {status} {reason}")]
    Refused {
        /// Its status code.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// The peer tried and the target did not take the call.
    #[error("the target did not take the call: {status} {reason}")]
    Failed {
        /// The target's status code.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// The peer took the referral and told nothing final in time.
    #[error("the peer never told what became of the transfer")]
    NoNews,
    /// Another transfer is on its way.
    #[error("another transfer is on its way")]
    Pending,
    /// The session is over, or not acknowledged yet.
    #[error("the session is over or not acknowledged")]
    Closed,
}

impl FromStr for TransferTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let uri = Uri::parse(text).filter(|_| text.len() <= MAX_BYTES && text.is_ascii());
        let usable = uri.is_some_and(|uri| match uri.scheme.as_str() {
            "sip" | "sips" => !uri.host.is_empty(),
            "tel" => uri.user.bytes().any(|byte| byte.is_ascii_digit()),
            _ => false,
        });
        if usable {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{text}` is not an address to transfer to; write one such as `sip:operator@example.com`"
        ))
    }
}

impl fmt::Display for TransferTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const MAX_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_a_phone_can_call_are_targets() {
        for good in [
            "sip:operator@example.com",
            "sips:a@192.0.2.1:5061;transport=tcp",
            "tel:+4930123456",
            "sip:example.com",
        ] {
            assert_eq!(good.parse::<TransferTarget>().map(|target| target.to_string()), Ok(good.to_owned()));
        }
        let long = format!("sip:{}@example.com", "a".repeat(600));
        for bad in [
            "",
            "operator",
            "http://example.com",
            "sip:",
            "sip:a b@example.com",
            "sip:a@example.com>\r\nX: y",
            "sip:\"a@example.com",
            "tel:nobody",
            long.as_str(),
        ] {
            assert!(bad.parse::<TransferTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_user_part_is_told() {
        let user = |text: &str| text.parse::<TransferTarget>().expect("a target").user();
        assert_eq!(user("sip:+4930@example.com;user=phone"), "+4930");
        assert_eq!(user("tel:+4930"), "+4930");
    }
}
