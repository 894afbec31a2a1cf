//! API keys: `st_<id>_<secret>`.

use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::model::{Access, ApiKey, Moment, Role, TenantId};
use crate::store::{Store, StoreError};

/// A key that was just made. Its text is shown once and not kept.
#[derive(Debug)]
pub struct NewKey {
    /// What is kept of it, besides the digest.
    pub key: ApiKey,
    /// Of the secret, for the store.
    pub digest: String,
    /// What the user gets.
    pub text: Text,
}

/// The text of a key or a secret, which never reaches a log.
#[derive(Clone)]
pub struct Text(Zeroizing<String>);

impl Text {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Text(..)")
    }
}

impl NewKey {
    /// One for `tenant`.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn make(
        tenant: TenantId,
        role: Role,
        name: String,
        created_by: &Access,
        lifetime: Option<Duration>,
    ) -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], Zeroizing::new([0; SECRET_BYTES]));
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut *secret)?;
        let (id, secret) = (hex(&id), Zeroizing::new(hex(&*secret)));
        let now = Moment::now();
        Ok(Self {
            digest: digest(&secret),
            text: Text(Zeroizing::new(format!("{PREFIX}{id}_{}", *secret))),
            key: ApiKey {
                id,
                tenant,
                name,
                role,
                created_at: now,
                created_by: created_by.subject.clone(),
                expires_at: lifetime.map(|lifetime| now.after(lifetime)),
                last_used_at: None,
            },
        })
    }

    /// Keeps it, without any request: for the first start and the command line.
    ///
    /// # Errors
    /// The database is down.
    pub async fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let mut transaction = store.begin().await?;
        transaction.add_key(&self.key, &self.digest).await?;
        let access = Access {
            subject: self.key.created_by.clone(),
            tenant: self.key.tenant.clone(),
            role: Role::Admin,
        };
        let entry =
            crate::model::AuditEntry::new(&access, "here", "key.create", &self.key.id).after(&self.key);
        transaction.audit(&entry).await?;
        transaction.commit().await
    }
}

/// Id and secret of the text of a key; nothing if it is no key.
pub(super) fn parse(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES && is_hex(id) && is_hex(secret))
        .then_some((id, secret))
}

/// What is kept of a secret.
pub(super) fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// In a time that does not depend on where they differ.
pub(super) fn equal(one: &str, two: &str) -> bool {
    let differing = one.bytes().zip(two.bytes()).fold(0, |differing, (one, two)| differing | (one ^ two));
    one.len() == two.len() && std::hint::black_box(differing) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What tells a key from a JSON Web Token.
pub(super) const PREFIX: &str = "st_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_an_id_and_a_secret_of_256_bits_and_shows_neither_in_debug() {
        let by = Access { subject: "alice".into(), tenant: TenantId::default(), role: Role::Admin };
        let make =
            || NewKey::make(TenantId::default(), Role::Viewer, "one".into(), &by, None).expect("random");
        let (one, two) = (make(), make());
        let (id, secret) = parse(one.text.expose()).expect("a key");
        assert_eq!((id, secret.len()), (one.key.id.as_str(), 64));
        assert!(equal(&digest(secret), &one.digest) && !equal(&digest(secret), &two.digest));
        assert!(!format!("{one:?}").contains(secret));
        for bad in
            ["", "st_", "st_1_2", &format!("{}0", one.text.expose()), &one.text.expose().to_uppercase()]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
