//! JSON Web Tokens (RFC 7519): what is believed and what is in them.

use std::collections::BTreeMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use serde_json::{Map, Value, json};

use super::provider;
use crate::model::{Access, Moment, Role, TenantId};

/// What tokens must say, besides being signed by a known key and not expired.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// Who must have made it (`iss`); `None` takes any.
    pub issuer: Option<String>,
    /// For whom it must be made (`aud`); `None` takes only tokens that name nobody.
    pub audience: Option<String>,
    /// How much clocks may differ.
    pub leeway_s: u64,
    /// The claim with the tenant; `.` goes into objects.
    pub tenant_claim: String,
    /// The claim with the role, or with a list of them; `.` goes into objects.
    pub role_claim: String,
    /// The role of a token without one.
    pub default_role: Option<Role>,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            leeway_s: 30,
            tenant_claim: "tenant".to_owned(),
            role_claim: "role".to_owned(),
            default_role: None,
        }
    }
}

/// A key that tokens may be signed with.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    /// Its name in a set of keys; without one it is tried for any token.
    pub id: Option<String>,
    /// The only algorithm that it is used with.
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Short secrets can be guessed.
    #[error("a secret for HS256 must have at least 32 bytes (RFC 7518 section 3.2)")]
    ShortSecret,
    /// Not what was expected.
    #[error("no public key in PEM is there; RSA (2048 bits or more), P-256 and Ed25519 are taken")]
    Pem,
    /// A key of a kind that is not used.
    #[error("the key is of a kind that is not taken; RSA (2048 bits or more), P-256 and Ed25519 are")]
    Kind,
}

impl VerifyingKey {
    /// A secret that the makers of tokens share with us: HS256.
    ///
    /// # Errors
    /// One that is too short.
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < 32 {
            return Err(KeyError::ShortSecret);
        }
        Ok(Self { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) })
    }

    /// A public key in PEM: its kind decides the algorithm.
    ///
    /// # Errors
    /// What is no such key.
    pub fn pem(pem: &[u8]) -> Result<Self, KeyError> {
        if String::from_utf8_lossy(pem).contains("PRIVATE KEY") {
            return Err(KeyError::Pem);
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| KeyError::Pem)?;
        Self::of(None, key)
    }

    /// One of a set of keys.
    pub(super) fn of(id: Option<String>, key: DecodingKey) -> Result<Self, KeyError> {
        let algorithm = match key.family() {
            AlgorithmFamily::Rsa => Algorithm::RS256,
            // An uncompressed point of P-256.
            AlgorithmFamily::Ec if key.try_get_as_bytes().is_ok_and(|point| point.len() == 65) => {
                Algorithm::ES256
            }
            AlgorithmFamily::Ed if key.try_get_as_bytes().is_ok_and(|point| point.len() == 32) => {
                Algorithm::EdDSA
            }
            AlgorithmFamily::Ec | AlgorithmFamily::Ed | AlgorithmFamily::Hmac => return Err(KeyError::Kind),
        };
        Ok(Self { id, algorithm, key })
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Why a token is not believed. Told to who sent it: nothing in it that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token at all.
    #[error("the token is neither one of our keys nor a JSON Web Token")]
    Malformed,
    /// `none`, or one that none of our keys is used with.
    #[error("the token is signed with an algorithm that is not taken here")]
    Algorithm,
    /// Something that must be understood is not.
    #[error("the token needs an extension that is not understood here (crit)")]
    Critical,
    /// No key of that name.
    #[error("the token is signed with a key that is not known here (kid)")]
    UnknownKey,
    /// Not by our key.
    #[error("the token's signature is not good")]
    Signature,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Too early.
    #[error("the token is not valid yet (nbf)")]
    Early,
    /// By somebody else.
    #[error("the token comes from another issuer (iss)")]
    Issuer,
    /// For somebody else.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// Something is not there.
    #[error("the token lacks a claim that is needed: exp, sub, and iss or aud where they are checked")]
    MissingClaim,
    /// No tenant of ours can have that name.
    #[error("the token's tenant is missing or has a form that no tenant has")]
    Tenant,
    /// No role, or none of ours.
    #[error("the token's role is missing; viewer, operator, tenant_admin and admin are known")]
    Role,
}

/// What the head of a token says, unchecked, for finding the key.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) key: Option<String>,
    algorithm: Algorithm,
}

/// Reads the head of a token.
pub(super) fn head(token: &str) -> Result<Head, TokenError> {
    if token.len() > LONGEST_TOKEN || token.split('.').count() != 3 {
        return Err(TokenError::Malformed);
    }
    let header: Header = decode_header(token).map_err(|error| match error.kind() {
        // An algorithm that has no name here, such as `none`, does not parse.
        ErrorKind::Json(cause) if cause.to_string().contains("variant") => TokenError::Algorithm,
        _ => TokenError::Malformed,
    })?;
    if header.crit.is_some() || header.extras.inner().contains_key("b64") {
        return Err(TokenError::Critical);
    }
    if !provider::ALGORITHMS.contains(&header.alg) {
        return Err(TokenError::Algorithm);
    }
    // What the token says about where its key is (jku, jwk, x5u, x5c) is never looked at.
    Ok(Head { key: header.kid, algorithm: header.alg })
}

/// Checks a token against the `keys` that may have signed it.
pub(super) fn check<'a>(
    token: &str,
    head: &Head,
    keys: impl Iterator<Item = &'a VerifyingKey>,
    rules: &TokenRules,
) -> Result<Checked, TokenError> {
    let mut failure = None;
    for key in keys {
        if key.algorithm != head.algorithm {
            failure = failure.or(Some(TokenError::Algorithm));
            continue;
        }
        match decode::<Map<String, Value>>(token, &key.key, &validation(key.algorithm, rules)) {
            Ok(data) => return claims(&data.claims, rules),
            Err(error) => {
                let error = told(error.kind());
                // A good signature with a bad claim says more than a bad signature.
                if failure
                    .is_none_or(|before| matches!(before, TokenError::Algorithm | TokenError::Signature))
                {
                    failure = Some(error);
                }
            }
        }
    }
    Err(failure.unwrap_or(TokenError::UnknownKey))
}

/// A token that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) access: Access,
    pub(super) until: Moment,
}

fn validation(algorithm: Algorithm, rules: &TokenRules) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = rules.leeway_s;
    validation.validate_nbf = true;
    let mut required = vec!["exp", "sub"];
    if let Some(issuer) = &rules.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = &rules.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn told(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::Early,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => TokenError::MissingClaim,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

fn claims(claims: &Map<String, Value>, rules: &TokenRules) -> Result<Checked, TokenError> {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    // Nobody is called like one of our keys.
    let is_key = subject.starts_with(super::key::PREFIX);
    if is_key || subject.is_empty() || subject.len() > 200 || subject.chars().any(char::is_control) {
        return Err(TokenError::MissingClaim);
    }
    let role = match claim(claims, &rules.role_claim) {
        None => rules.default_role.ok_or(TokenError::Role)?,
        Some(Value::String(name)) => Role::named(name).ok_or(TokenError::Role)?,
        // Others' roles may be in the same list; the greatest of ours counts.
        Some(Value::Array(names)) => {
            names.iter().filter_map(|name| Role::named(name.as_str()?)).max().ok_or(TokenError::Role)?
        }
        Some(_) => return Err(TokenError::Role),
    };
    let tenant = match claim(claims, &rules.tenant_claim) {
        Some(Value::String(name)) => TenantId::named(name).ok_or(TokenError::Tenant)?,
        // Who may see all tenants need not belong to one.
        None if role == Role::Admin => TenantId::default(),
        _ => return Err(TokenError::Tenant),
    };
    let until = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the last moment")]
    let until = Moment::from_micros((until * 1e6) as i64);
    Ok(Checked { access: Access { subject: subject.to_owned(), tenant, role }, until })
}

/// The claim of that name; if there is none, `.` goes into objects (`realm_access.roles`).
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// Makes a token with our own secret, for who has no server that does.
///
/// # Errors
/// A secret that is too short.
pub fn sign(secret: &[u8], rules: &TokenRules, access: &Access, seconds: u64) -> Result<String, KeyError> {
    provider::install();
    VerifyingKey::secret(secret)?;
    let mut claims = BTreeMap::from([
        ("sub".to_owned(), json!(access.subject)),
        ("exp".to_owned(), json!(jsonwebtoken::get_current_timestamp() + seconds)),
    ]);
    let issuer = rules.issuer.as_ref().map(|issuer| ("iss".to_owned(), json!(issuer)));
    let audience = rules.audience.as_ref().map(|audience| ("aud".to_owned(), json!(audience)));
    claims.extend(issuer.into_iter().chain(audience));
    put(&mut claims, &rules.tenant_claim, json!(access.tenant));
    put(&mut claims, &rules.role_claim, json!(access.role));
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .map_err(|_| KeyError::ShortSecret)
}

fn put(claims: &mut BTreeMap<String, Value>, name: &str, value: Value) {
    claims.insert(name.to_owned(), value);
}

const LONGEST_TOKEN: usize = 8 * 1024;
