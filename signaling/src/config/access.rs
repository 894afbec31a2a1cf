//! From `[access]` to what the gate checks.

use std::time::Duration;

use super::plan::Check;
use super::types::FilePath;
use crate::access::{AccessConfig, KeySource, Text, TokenRules, VerifyingKey};

pub(super) fn plan(check: &mut Check<'_>, environment: &[(String, String)]) -> AccessConfig {
    let section = check.loaded.config.access.clone();
    let mut keys = Vec::new();
    let secret = secret(check, &section.jwt_secret_env, &section.jwt_secret_file, environment);
    if let Some((key, secret)) = &secret {
        match VerifyingKey::secret(secret.expose().as_bytes()) {
            Ok(key) => keys.push(key),
            Err(error) => check.error(key, format!("{key}: {error}")),
        }
    }
    for file in &section.jwt_key_files {
        let read = std::fs::read(file).map_err(|error| error.to_string());
        match read.and_then(|pem| VerifyingKey::pem(&pem).map_err(|error| error.to_string())) {
            Ok(key) => keys.push(key),
            Err(error) => {
                check.error("access.jwt_key_files", format!("access.jwt_key_files: {file}: {error}"))
            }
        }
    }
    let key_set = match (&section.jwks_file, &section.jwks_url) {
        (Some(_), Some(_)) => {
            check.error("access.jwks_url", "access.jwks_url: give jwks_file or jwks_url, not both");
            None
        }
        (Some(file), None) => Some(KeySource::File(file.0.clone())),
        (None, Some(url)) => match KeySource::url(url) {
            Ok(source) => Some(source),
            Err(reason) => {
                check.error("access.jwks_url", format!("access.jwks_url: {reason}"));
                None
            }
        },
        (None, None) => None,
    };
    if section.leeway.0 > Duration::from_secs(600) {
        check.error("access.leeway", "access.leeway: at most 10m; more makes expiry pointless");
    }
    for (key, name) in [("tenant_claim", &section.tenant_claim), ("role_claim", &section.role_claim)] {
        if name.is_empty() {
            check.error(&format!("access.{key}"), format!("access.{key}: must not be empty"));
        }
    }
    let rules_alone =
        section.issuer.is_some() || section.audience.is_some() || section.default_role.is_some();
    if rules_alone && keys.is_empty() && key_set.is_none() {
        check.warn(
            "access: issuer, audience and default_role do nothing without a key for JSON Web Tokens; see access.jwks_url",
        );
    }
    if key_set.is_some() && section.issuer.is_none() && section.audience.is_none() {
        check.warn(
            "access: every token that is signed with one of the set's keys is taken; access.issuer and access.audience \
             say which are meant for this server",
        );
    }
    AccessConfig {
        rules: TokenRules {
            issuer: section.issuer,
            audience: section.audience,
            leeway_s: section.leeway.0.as_secs(),
            tenant_claim: section.tenant_claim,
            role_claim: section.role_claim,
            default_role: section.default_role,
        },
        keys,
        key_set,
        signing_secret: secret.map(|(_, secret)| secret),
    }
}

/// The secret for HS256, with the key that names it.
fn secret(
    check: &mut Check<'_>,
    variable: &Option<String>,
    file: &Option<FilePath>,
    environment: &[(String, String)],
) -> Option<(&'static str, Text)> {
    let (key, found) = match (variable, file) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            ("access.jwt_secret_env", Err("give jwt_secret_env or jwt_secret_file, not both".to_owned()))
        }
        (Some(variable), None) => {
            let value = environment.iter().find(|(name, _)| name == variable).map(|(_, value)| value.clone());
            let missing = || format!("the environment variable `{variable}` is not set");
            ("access.jwt_secret_env", value.ok_or_else(missing))
        }
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            ("access.jwt_secret_file", text.map_err(|error| format!("{file} cannot be read: {error}")))
        }
    };
    match found {
        Ok(text) => Some((key, Text::new(text.trim_end_matches(['\r', '\n'])))),
        Err(message) => {
            check.error(key, format!("{key}: {message}"));
            None
        }
    }
}
