//! Tokens and header fields of the handshake.

use engine::ai::Secret;

use super::super::plan::Check;
use super::super::sections::Agent;
use super::super::types::FilePath;

pub(super) const fn has_token(agent: &Agent) -> bool {
    agent.auth_token_env.is_some() || agent.auth_token_file.is_some()
}

/// A token by the name of a variable or a file.
pub(super) struct Token<'a> {
    pub(super) kind: &'static str,
    pub(super) env: &'a Option<String>,
    pub(super) file: &'a Option<FilePath>,
}

impl Token<'_> {
    /// Where the token is, if it is there and can be sent.
    pub(super) fn place(
        &self,
        check: &mut Check<'_>,
        environment: &[(String, String)],
        name: &str,
    ) -> Option<Secret> {
        let kind = self.kind;
        let (suffix, found) = match (self.env, self.file) {
            (None, None) => return None,
            (Some(_), Some(_)) => ("env", Err(format!("give {kind}_env or {kind}_file, not both"))),
            (Some(variable), None) => {
                let value = environment.iter().find(|(known, _)| known == variable);
                let missing = || format!("the environment variable `{variable}` is not set");
                ("env", value.map(|(_, value)| value.clone()).ok_or_else(missing))
            }
            (None, Some(file)) => {
                let unreadable = |error| format!("{file} cannot be read: {error}");
                ("file", std::fs::read_to_string(file).map_err(unreadable))
            }
        };
        let found = found.and_then(|token| {
            if token.trim().is_empty() {
                Err("the token is empty".to_owned())
            } else if is_header_value(token.trim()) {
                Ok(())
            } else {
                Err("the token has characters that no header can hold".to_owned())
            }
        });
        if let Err(message) = found {
            let key = format!("agents.{name}.{kind}_{suffix}");
            check.error(&key, format!("{key}: {message}"));
            return None;
        }
        let env = self.env.clone().map(Secret::Env);
        env.or_else(|| self.file.as_ref().map(|file| Secret::File(file.0.clone())))
    }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 section 5.5, without obsolete text.
pub(super) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte))
}
