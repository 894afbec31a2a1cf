//! URLs with passwords in them.

use std::fmt;

use zeroize::Zeroizing;

/// A URL that is used and never printed whole.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Zeroizing<String>);

impl SecretUrl {
    /// Wraps `url`.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self(Zeroizing::new(url))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with whatever of this URL it repeats left out, for the log.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for url in self.0.split(',') {
            text = text.replace(url.trim(), "URL");
            if let Some(account) = account(url) {
                for secret in [account, account.split_once(':').map_or("", |(_, password)| password)] {
                    // Short ones would also be found where they mean something else.
                    if secret.len() >= 4 {
                        text = text.replace(secret, "..");
                    }
                }
            }
        }
        super::clean(&text, 200)
    }
}

/// What stands before the `@`.
fn account(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit_once('@').map(|(account, _)| account)
}

/// The URL without user and password.
impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, url) in self.0.split(',').enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let url = url.trim();
            let shown = account(url)
                .map_or_else(|| url.to_owned(), |account| url.replace(&format!("{account}@"), ""));
            f.write_str(shown.split('?').next().unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_not_shown() {
        for (url, shown) in [
            ("nats://user:pass-word@nats.example.com:4222", "nats://nats.example.com:4222"),
            ("tls://a:first-one@n1, tls://b:second@n2", "tls://n1,tls://n2"),
            ("nats://token-of-ours@n1", "nats://n1"),
            ("amqps://u:p%40ss/word@h/%2f?x=key", "amqps://u:p%40ss/word@h/%2f"),
            ("amqp://h/vhost?auth=key", "amqp://h/vhost"),
            ("nats://h", "nats://h"),
        ] {
            let url = SecretUrl::new(url.to_owned());
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("key"));
        }
        let url = SecretUrl::new("nats://user:pass-word@n1".to_owned());
        assert_eq!(
            url.scrub("no way to nats://user:pass-word@n1: pass-word\r\nwrong"),
            "no way to URL: ..  wrong"
        );
    }
}
