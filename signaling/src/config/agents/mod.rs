//! `[agents.NAME]`: what each needs to be reachable, and its secrets.

use engine::ai::dialect;

use super::ai::OnFailure;
use super::plan::{Check, DEMO_AGENT};
use super::sections::{Agent, Dialect, OnClose};
use crate::apps::{self, AgentConfig};

mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod tools;
mod url;

use secret::{Token, has_token, is_header_value, is_token};
pub(super) use url::without_query;

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
    let dialect = dialect(check, &at("dialect"), agent.dialect);
    let schemes = url::schemes(agent.dialect);
    let address = url::url(agent);
    match &address {
        None if is_demo => {}
        None => {
            check.error(&at("url"), format!("{}: missing; {}", at("url"), url::advice(agent.dialect)));
        }
        Some(address) if !url::is_address(address, schemes) => check.error(
            &at("url"),
            format!(
                "{}: `{}` is not a {}address; it must begin with {}:// and name a host",
                at("url"),
                without_query(address),
                if schemes.contains(&"ws") { "WebSocket " } else { "TCP " },
                schemes.join(":// or ")
            ),
        ),
        Some(_) => {}
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
    for (key, plays) in [
        ("on_close", agent.on_close == OnClose::PlayFallback),
        ("on_failure", agent.on_failure == Some(OnFailure::PlayFallback)),
    ] {
        if plays && agent.fallback_prompt.is_none() {
            let message = format!("{}: `play_fallback` needs {}", at(key), at("fallback_prompt"));
            check.error(&at(key), message);
        }
    }
    for fallback in &agent.fallback_agents {
        if fallback == name || !is_configured(check, fallback) {
            let message = format!("{}: `{fallback}` is no other agent of this file", at("fallback_agents"));
            check.error(&at("fallback_agents"), message);
        }
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
    let (tools, actions) = tools::plan(check, name, agent);
    let settings = settings::plan(check, name, agent, tools);
    Some(AgentConfig {
        name: name.to_owned(),
        dialect: dialect?,
        url: address.unwrap_or_default(),
        settings,
        tools: actions,
        transfers: agent.transfers.clone(),
        barge_in: settings::barge_in(check, name, &agent.barge_in),
        latency: settings::latency(&agent.latency),
        reconnect: settings::reconnect(check, name, agent),
        fallback_agents: agent.fallback_agents.clone(),
        custom_parameters: agent.parameters.clone().into_iter().collect(),
        sip_headers: agent.sip_headers.clone(),
        http_headers,
        bearer_token,
        account_sid: agent.account_sid.as_ref().map(|account| account.0.clone()).unwrap_or_default(),
        signing_token,
        ca_file: agent.ca_file.as_ref().map(|file| file.0.clone()),
        tls_server_name: agent.tls_server_name.as_ref().map(|host| host.name.clone()),
        connect_timeout: agent.connect_timeout.0,
        fallback_prompt: agent.fallback_prompt.as_ref().map(|file| file.0.clone()),
        on_close: match agent.on_close {
            OnClose::HangUp => apps::OnClose::HangUp,
            OnClose::PlayFallback => apps::OnClose::PlayFallback,
        },
        on_failure: agent.on_failure.as_ref().map(|wanted| match wanted {
            OnFailure::HangUp => apps::OnClose::HangUp,
            OnFailure::PlayFallback => apps::OnClose::PlayFallback,
            OnFailure::Transfer(target) => apps::OnClose::Transfer(target.clone()),
        }),
        playout_limit: agent.playout_limit.0,
        caller_audio_limit: agent.caller_audio_limit.0,
    })
}

/// The codec of a dialect.
fn dialect(check: &mut Check<'_>, key: &str, wanted: Dialect) -> Option<dialect::Dialect> {
    let codec = DIALECTS.iter().find(|(dialect, _)| *dialect == wanted).map(|(_, codec)| *codec);
    if codec.is_none() {
        check.error(key, format!("{key}: this version does not speak this dialect yet"));
    }
    codec
}

/// The dialects that the engine speaks.
const DIALECTS: &[(Dialect, dialect::Dialect)] = &[
    (Dialect::Twilio, dialect::Dialect::Twilio),
    (Dialect::Telnyx, dialect::Dialect::Telnyx),
    (Dialect::Plivo, dialect::Dialect::Plivo),
    (Dialect::Vonage, dialect::Dialect::Vonage),
    (Dialect::Exotel, dialect::Dialect::Exotel),
    (Dialect::Asterisk, dialect::Dialect::Asterisk),
    (Dialect::AsteriskApp, dialect::Dialect::AsteriskApp),
    (Dialect::Jambonz, dialect::Dialect::Jambonz),
    (Dialect::AudioFork, dialect::Dialect::AudioFork),
    (Dialect::AudioStream, dialect::Dialect::AudioStream),
    (Dialect::Raw, dialect::Dialect::Raw),
    (Dialect::OpenAi, dialect::Dialect::OpenAi),
    (Dialect::AzureVoiceLive, dialect::Dialect::VoiceLive),
    (Dialect::AudioSocket, dialect::Dialect::AudioSocket),
    (Dialect::Deepgram, dialect::Dialect::Deepgram),
    (Dialect::ElevenLabs, dialect::Dialect::ElevenLabs),
    (Dialect::Gemini, dialect::Dialect::Gemini),
];

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

/// Whether the configuration has an agent of this name, faulty or not.
pub(super) fn is_configured(check: &Check<'_>, name: &str) -> bool {
    check.loaded.config.agents.contains_key(name)
}
