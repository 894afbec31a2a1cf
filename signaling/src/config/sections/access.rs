//! `[access]`

use serde::Deserialize;

use super::super::types::{FilePath, Span};
use crate::model::Role;

/// `[access]`: JSON Web Tokens that are taken besides API keys; none if no key for them is given.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSection {
    /// The environment variable with the secret for HS256.
    pub jwt_secret_env: Option<String>,
    /// The file with the secret for HS256.
    pub jwt_secret_file: Option<FilePath>,
    /// Files with a public key in PEM each: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.
    pub jwt_key_files: Vec<FilePath>,
    /// The file with a set of public keys (JWKS).
    pub jwks_file: Option<FilePath>,
    /// The address of a set of public keys.
    pub jwks_url: Option<String>,
    /// The `iss` that tokens must have.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have; without it only tokens without `aud` are taken.
    pub audience: Option<String>,
    /// How much clocks may differ.
    pub leeway: Span,
    /// The claim with the tenant; `.` goes into objects.
    pub tenant_claim: String,
    /// The claim with the role, or with a list of them; `.` goes into objects.
    pub role_claim: String,
    /// The role of tokens without one; none refuses them.
    pub default_role: Option<Role>,
}

impl Default for AccessSection {
    fn default() -> Self {
        Self {
            jwt_secret_env: None,
            jwt_secret_file: None,
            jwt_key_files: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            leeway: Span::seconds(30),
            tenant_claim: "tenant".to_owned(),
            role_claim: "role".to_owned(),
            default_role: None,
        }
    }
}
