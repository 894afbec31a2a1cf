//! `[agents.NAME]`: what each needs to be reachable, and its secrets.

use super::plan::{Check, DEMO_AGENT};
use super::sections::{Agent, Dialect, OnClose};
use super::types::FilePath;
use engine::ai::Secret;

use crate::apps::{self, AgentConfig, AgentDialect};

/// The agents that can be called. A faulty one is reported and left out.
pub(super) fn plan(check: &mut Check<'_>, environment: &[(String, String)]) -> Vec<AgentConfig> {
    let loaded = check.loaded;
    loaded.config.agents.iter().filter_map(|(name, agent)| one(check, environment, name, agent)).collect()
}

fn one(
    check: &mut Check<'_>,
    environment: &[(String, String)],
    name: &str,
    agent: &Agent,
) -> Option<AgentConfig> {
    let at = |key: &str| format!("agents.{name}.{key}");
    if name.is_empty() || name.len() > 64 {
        check.error(&format!("agents.{name}"), "agents: a name has 1 to 64 characters");
        return None;
    }
    let is_demo = name == DEMO_AGENT;
    if agent.url.is_empty() && !is_demo {
        check.error(
            &at("url"),
            format!(
                "{}: missing; write the backend's address, such as \"wss://agent.example.com/media\"",
                at("url")
            ),
        );
    } else if !agent.url.is_empty() && !is_websocket_url(&agent.url) {
        check.error(
            &at("url"),
            format!(
                "{}: `{}` is not a WebSocket address; it must begin with ws:// or wss:// and name a host",
                at("url"),
                without_query(&agent.url)
            ),
        );
    }
    if agent.playout_limit.0.as_secs() < 60 {
        check.error(&at("playout_limit"), format!("{}: at least 60s", at("playout_limit")));
    }
    if agent.connect_timeout.0.is_zero() {
        check.error(&at("connect_timeout"), format!("{}: must be longer than 0s", at("connect_timeout")));
    }
    if agent.caller_audio_limit.0.as_millis() < 100 {
        check.error(&at("caller_audio_limit"), format!("{}: at least 100ms", at("caller_audio_limit")));
    }
    for header in &agent.sip_headers {
        if !is_token(header) {
            check.error(
                &at("sip_headers"),
                format!("{}: `{header}` is not a SIP header name", at("sip_headers")),
            );
        }
    }
    for (parameter, value) in &agent.parameters {
        for template in unknown_templates(value) {
            check.warn(format!(
                "{}.{parameter}: `{{{template}}}` is sent as it stands; known are {{{}}} and {{header:NAME}}",
                at("parameters"),
                TEMPLATES.join("}, {")
            ));
        }
    }
    if agent.on_close == OnClose::PlayFallback && agent.fallback_prompt.is_none() {
        check.error(
            &at("on_close"),
            format!("{}: `play_fallback` needs {}", at("on_close"), at("fallback_prompt")),
        );
    }
    if let Some(file) = &agent.fallback_prompt {
        super::routes::audio_file(check, &at("fallback_prompt"), file);
    }

    let mut http_headers: Vec<(String, String)> = Vec::new();
    for (header, value) in &agent.http_headers {
        if !is_token(header) {
            check.error(
                &at("http_headers"),
                format!("{}: `{header}` is not a header name", at("http_headers")),
            );
        } else if !is_header_value(value) {
            // The value may be a secret: not shown.
            check.error(
                &at("http_headers"),
                format!(
                    "{}: the value of `{header}` has characters that no header can hold",
                    at("http_headers")
                ),
            );
        } else if header.eq_ignore_ascii_case("authorization") && has_token(agent) {
            check.error(
                &at("http_headers"),
                format!(
                    "{}: Authorization is already set by auth_token_env or auth_token_file",
                    at("http_headers")
                ),
            );
        } else {
            http_headers.push((header.clone(), value.clone()));
        }
    }
    let bearer = Token { kind: "auth_token", env: &agent.auth_token_env, file: &agent.auth_token_file };
    // Tokens are read for every connection, but they must be there from the start.
    let bearer_token = bearer.place(check, environment, name);
    let signing =
        Token { kind: "signing_token", env: &agent.signing_token_env, file: &agent.signing_token_file };
    let signing_token = signing.place(check, environment, name);
    if let Some(file) = &agent.ca_file
        && let Err(error) = std::fs::read(file)
    {
        check.error(&at("ca_file"), format!("{}: {file} cannot be read: {error}", at("ca_file")));
    }
    if agent.tls_server_name.as_ref().is_some_and(|host| host.port.is_some()) {
        check.error(&at("tls_server_name"), format!("{}: is a name without a port", at("tls_server_name")));
    }
    Some(AgentConfig {
        name: name.to_owned(),
        dialect: match agent.dialect {
            Dialect::Twilio => AgentDialect::Twilio,
        },
        url: agent.url.clone(),
        custom_parameters: agent.parameters.clone().into_iter().collect(),
        sip_headers: agent.sip_headers.clone(),
        http_headers,
        bearer_token,
        signing_token,
        ca_file: agent.ca_file.as_ref().map(|file| file.0.clone()),
        tls_server_name: agent.tls_server_name.as_ref().map(|host| host.name.clone()),
        connect_timeout: agent.connect_timeout.0,
        fallback_prompt: agent.fallback_prompt.as_ref().map(|file| file.0.clone()),
        on_close: match agent.on_close {
            OnClose::HangUp => apps::OnClose::HangUp,
            OnClose::PlayFallback => apps::OnClose::PlayFallback,
        },
        playout_limit: agent.playout_limit.0,
        caller_audio_limit: agent.caller_audio_limit.0,
    })
}

/// The words in braces that mean nothing, as far as they look like a template.
fn unknown_templates(value: &str) -> impl Iterator<Item = &str> {
    let words = value.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(word, _)| word));
    words.filter(|word| {
        let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_word && !TEMPLATES.contains(word)
    })
}

/// What is filled in, besides `{header:NAME}`.
const TEMPLATES: [&str; 6] = ["call_id", "from", "to", "from_display", "from_uri", "to_uri"];

const fn has_token(agent: &Agent) -> bool {
    agent.auth_token_env.is_some() || agent.auth_token_file.is_some()
}

/// A token by the name of a variable or a file.
struct Token<'a> {
    kind: &'static str,
    env: &'a Option<String>,
    file: &'a Option<FilePath>,
}

impl Token<'_> {
    /// Where the token is, if it is there and can be sent.
    fn place(&self, check: &mut Check<'_>, environment: &[(String, String)], name: &str) -> Option<Secret> {
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

/// RFC 3986, as far as a mistake can be told from an address.
fn is_websocket_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    matches!(scheme, "ws" | "wss")
        && !host.is_empty()
        && !host.starts_with(':')
        && !url.chars().any(|character| character.is_whitespace() || character.is_control())
}

/// A URL without what may hold a secret, for messages.
pub(super) fn without_query(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 section 5.5, without obsolete text.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte))
}

/// Whether the configuration has an agent of this name, faulty or not.
pub(super) fn is_configured(check: &Check<'_>, name: &str) -> bool {
    check.loaded.config.agents.contains_key(name)
}
