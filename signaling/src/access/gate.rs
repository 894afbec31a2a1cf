//! The gate: from a token to who sent it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::attempts::Attempts;
use super::counters::AccessCounters;
use super::key::{self, Text};
use super::key_set::{KeySet, KeySource};
use super::token::{self, TokenError, TokenRules, VerifyingKey};
use super::{KeySetError, provider};
use crate::model::{Access, Moment, TenantId};
use crate::store::{Store, StoreError};

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// What JSON Web Tokens must say.
    pub rules: TokenRules,
    /// Keys that they may be signed with.
    pub keys: Vec<VerifyingKey>,
    /// Where further ones are.
    pub key_set: Option<KeySource>,
    /// The secret of ours among them, for making tokens with.
    pub signing_secret: Option<Text>,
}

/// Lets in who has a good token.
#[derive(Debug)]
pub struct Gate {
    store: Store,
    rules: TokenRules,
    keys: Vec<VerifyingKey>,
    key_set: Option<KeySet>,
    attempts: Attempts,
    /// What was found good a moment ago, by the digest of the token.
    admitted: Mutex<HashMap<[u8; 32], Admitted>>,
    tenants: Mutex<HashMap<TenantId, (bool, Instant)>>,
    counters: AccessCounters,
}

#[derive(Clone, Debug)]
struct Admitted {
    access: Access,
    /// No longer than this without asking the store again.
    fresh_until: Instant,
    /// The token ends then.
    until: Option<Moment>,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not good, in a sentence for who sent it.
    Invalid(String),
    /// The token is good, but not what it is for.
    Forbidden(String),
    /// Too many bad tokens came from there.
    TooMany {
        /// When to try again.
        retry_after_s: u32,
    },
    /// It cannot be checked now.
    Unavailable(String),
}

impl Gate {
    /// One with these rules.
    ///
    /// # Errors
    /// The file with keys cannot be read. A server that does not answer is asked again later.
    pub fn new(config: AccessConfig, store: Store) -> Result<Self, KeySetError> {
        provider::install();
        Ok(Self {
            store,
            rules: config.rules,
            keys: config.keys,
            key_set: config.key_set.map(KeySet::open).transpose()?,
            attempts: Attempts::default(),
            admitted: Mutex::default(),
            tenants: Mutex::default(),
            counters: AccessCounters::default(),
        })
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &AccessCounters {
        &self.counters
    }

    /// Who sent `token`, from `source`.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn admit(&self, token: &str, source: IpAddr) -> Result<Access, Refusal> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = Instant::now();
        if let Some(access) = self.remembered(&digest, now) {
            self.counters.admitted.increment();
            return Ok(access);
        }
        // Behind those who were let in a moment ago: they may share the address with who guesses.
        if let Some(retry_after_s) = self.attempts.wait(source, now) {
            self.counters.throttled.increment();
            return Err(Refusal::TooMany { retry_after_s });
        }
        let checked =
            if token.starts_with(key::PREFIX) { self.key(token).await } else { self.token(token).await };
        match checked {
            Ok((access, until)) => {
                self.counters.admitted.increment();
                self.remember(digest, &access, until, now);
                Ok(access)
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Invalid(_)) {
                    self.attempts.failed(source, now);
                }
                Err(refusal)
            }
        }
    }

    /// Whether there is such a tenant, and its tokens are taken; known for some seconds.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn is_active(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let now = Instant::now();
        let known = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied();
        if let Some((active, until)) = known
            && until > now
        {
            return Ok(active);
        }
        let active = self.store.tenant(tenant).await?.is_some_and(|tenant| tenant.active);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= REMEMBERED {
            tenants.clear();
        }
        tenants.insert(tenant.clone(), (active, now + FRESH));
        Ok(active)
    }

    /// A key or a tenant was changed: what was found good must be looked at again.
    pub fn forget(&self) {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn remembered(&self, digest: &[u8; 32], now: Instant) -> Option<Access> {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = admitted.get(digest).filter(|known| known.fresh_until > now)?;
        // A clock that differs a little was allowed for when the token was checked; here there is no need to.
        known.until.is_none_or(|until| until > Moment::now()).then(|| known.access.clone())
    }

    fn remember(&self, digest: [u8; 32], access: &Access, until: Option<Moment>, now: Instant) {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.len() >= REMEMBERED {
            admitted.retain(|_, known| known.fresh_until > now);
            if admitted.len() >= REMEMBERED {
                admitted.clear();
            }
        }
        admitted.insert(digest, Admitted { access: access.clone(), fresh_until: now + FRESH, until });
    }

    async fn key(&self, token: &str) -> Result<(Access, Option<Moment>), Refusal> {
        let refused = |why: &str| {
            self.counters.refused_keys.increment();
            Err(Refusal::Invalid(why.to_owned()))
        };
        let Some((id, secret)) = key::parse(token) else {
            self.counters.refused_malformed.increment();
            return Err(Refusal::Invalid("the key is not complete: st_, 16 digits, _, 64 digits".to_owned()));
        };
        let kept = self.store.kept_key(id).await.map_err(|error| self.unavailable(&error))?;
        let now = Moment::now();
        // One answer for both: who guesses does not learn which ids there are.
        let Some(kept) = kept.filter(|kept| key::equal(&kept.digest, &key::digest(secret))) else {
            return refused("there is no such key");
        };
        let key = kept.key;
        if kept.revoked {
            return refused("the key was revoked");
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return refused("the key has expired");
        }
        if !kept.tenant_active {
            return refused("the key's tenant is not active");
        }
        if key.last_used_at.is_none_or(|last| now.since(last) >= COARSE) {
            let (store, id) = (self.store.clone(), key.id.clone());
            // Nobody waits for it, and it matters little.
            tokio::spawn(async move {
                if let Err(error) = store.note_key_use(&id, now).await {
                    tracing::debug!(%error, "the last use of a key is not noted");
                }
            });
        }
        let access =
            Access { subject: format!("{}{}", key::PREFIX, key.id), tenant: key.tenant, role: key.role };
        Ok((access, key.expires_at))
    }

    async fn token(&self, token: &str) -> Result<(Access, Option<Moment>), Refusal> {
        let refused = |error: TokenError| {
            match error {
                TokenError::Malformed => self.counters.refused_malformed.increment(),
                _ => self.counters.refused_tokens.increment(),
            }
            Refusal::Invalid(error.to_string())
        };
        let head = token::head(token).map_err(refused)?;
        let mut keys: Vec<VerifyingKey> = self.keys.clone();
        if let Some(set) = &self.key_set {
            match set.keys(head.key.as_deref(), &self.counters).await {
                Ok(more) => keys.extend(more),
                Err(error) if keys.is_empty() => {
                    self.counters.unavailable.increment();
                    return Err(Refusal::Unavailable(error.to_string()));
                }
                Err(error) => tracing::debug!(%error, "keys for tokens are not there"),
            }
        }
        let checked = token::check(token, &head, keys.iter(), &self.rules).map_err(refused)?;
        let tenant = &checked.access.tenant;
        if !self.is_active(tenant).await.map_err(|error| self.unavailable(&error))? {
            self.counters.refused_tenants.increment();
            let text = format!(
                "the tenant {tenant} is not known here or not active; an admin can add it at /api/tenants"
            );
            return Err(Refusal::Forbidden(text));
        }
        Ok((checked.access, Some(checked.until)))
    }

    fn unavailable(&self, error: &StoreError) -> Refusal {
        self.counters.unavailable.increment();
        tracing::warn!(%error, "a token cannot be checked");
        Refusal::Unavailable("tokens cannot be checked now; try again".to_owned())
    }
}

/// For so long a token is good without another look: how late a change made by another process is seen.
const FRESH: Duration = Duration::from_secs(5);
/// Tokens, and tenants, remembered.
const REMEMBERED: usize = 4096;
/// How exactly the last use of a key is known.
const COARSE: Duration = Duration::from_secs(300);
