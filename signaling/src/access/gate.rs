//! The gate: from a token to who sent it.

use std::net::IpAddr;

use super::provider;
use super::token::{self, TokenRules, VerifyingKey};
use crate::model::Access;

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// What JSON Web Tokens must say.
    pub rules: TokenRules,
    /// Keys that they may be signed with.
    pub keys: Vec<VerifyingKey>,
}

/// Lets in who has a good token.
#[derive(Debug)]
pub struct Gate {
    config: AccessConfig,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not good, in a sentence for who sent it.
    Invalid(String),
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
    #[must_use]
    pub fn new(config: AccessConfig) -> Self {
        provider::install();
        Self { config }
    }

    /// Who sent `token`, from `source`.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn admit(&self, token: &str, source: IpAddr) -> Result<Access, Refusal> {
        let _ = source;
        let refused = |error: token::TokenError| Refusal::Invalid(error.to_string());
        let head = token::head(token).map_err(refused)?;
        let checked =
            token::check(token, &head, self.config.keys.iter(), &self.config.rules).map_err(refused)?;
        Ok(checked.access)
    }

    /// A request came without any token.
    pub fn count_missing(&self) {}
}
