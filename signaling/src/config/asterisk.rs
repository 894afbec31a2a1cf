//! Checks of `[audiosocket]` and `[chan_websocket]`.

use super::plan::Check;
use crate::asterisk::{AsteriskConfig, AudioSocketConfig, ChanWebSocketConfig, Token};
use crate::route::route;

use super::sections::{AudioSocket, ChanWebSocket};
use crate::apps::AppsConfig;

/// What the listeners start from.
pub(super) fn plan(
    check: &mut Check<'_>,
    environment: &[(String, String)],
    apps: &AppsConfig,
) -> AsteriskConfig {
    let config = &check.loaded.config;
    let silence_timeout = config.media.timeout.0;
    let (audiosocket, chan_websocket) = (config.audiosocket.clone(), config.chan_websocket.clone());
    AsteriskConfig {
        audiosocket: plan_audiosocket(check, &audiosocket, apps),
        chan_websocket: plan_chan_websocket(check, &chan_websocket, environment, apps),
        silence_timeout,
    }
}

fn plan_audiosocket(
    check: &mut Check<'_>,
    section: &AudioSocket,
    apps: &AppsConfig,
) -> Option<AudioSocketConfig> {
    let bind = section.bind.0?;
    check_user(check, "audiosocket.user", &section.user, apps);
    let mut users = std::collections::BTreeMap::new();
    for (uuid, user) in &section.users {
        let key = format!("audiosocket.users.{uuid}");
        match uuid_of(uuid) {
            Some(uuid) => {
                if users.insert(uuid, user.clone()).is_some() {
                    check.error(&key, format!("{key}: the UUID is there twice"));
                }
            }
            None => check.error(
                &key,
                format!("{key}: is no UUID; write one such as 40325ec2-5efd-4bd3-805f-53576e581d13"),
            ),
        }
        check_user(check, &key, user, apps);
    }
    let allow: Vec<_> = section.allow.iter().map(|network| network.0).collect();
    warn_unreachable(check, "audiosocket", bind, allow.is_empty());
    Some(AudioSocketConfig { bind, allow, user: section.user.clone(), users })
}

fn plan_chan_websocket(
    check: &mut Check<'_>,
    section: &ChanWebSocket,
    environment: &[(String, String)],
    apps: &AppsConfig,
) -> Option<ChanWebSocketConfig> {
    let bind = section.bind.0?;
    check_user(check, "chan_websocket.user", &section.user, apps);
    let path = section.path.trim_end_matches('/').to_owned();
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !section.path.starts_with('/') || !path.bytes().all(is_path) {
        check.error(
            "chan_websocket.path",
            format!("chan_websocket.path: `{}` is not a path; write one such as `/media`", section.path),
        );
    }
    let token = match (&section.token_env, &section.token_file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(("env", "give token_env or token_file, not both".to_owned())),
        (Some(variable), None) => {
            let value = environment.iter().find(|(name, _)| name == variable);
            let missing = || ("env", format!("the environment variable `{variable}` is not set"));
            value.map(|(_, value)| Some(value.clone())).ok_or_else(missing)
        }
        (None, Some(file)) => std::fs::read_to_string(file)
            .map(Some)
            .map_err(|error| ("file", format!("{file} cannot be read: {error}"))),
    };
    let token = token.and_then(|token| match token {
        Some(token) if token.trim().is_empty() => Err(("env", "the token is empty".to_owned())),
        token => Ok(token),
    });
    let token = token.unwrap_or_else(|(kind, message)| {
        let key = format!("chan_websocket.token_{kind}");
        check.error(&key, format!("{key}: {message}"));
        None
    });
    let allow: Vec<_> = section.allow.iter().map(|network| network.0).collect();
    warn_unreachable(check, "chan_websocket", bind, allow.is_empty());
    Some(ChanWebSocketConfig {
        bind,
        allow,
        path,
        user: section.user.clone(),
        token: token.as_deref().map(|token| Token::new(token.trim())),
        answer: section.answer,
    })
}

/// A call that no route takes would only be hung up.
fn check_user(check: &mut Check<'_>, key: &str, user: &str, apps: &AppsConfig) {
    if route(&apps.routes, user).is_none() {
        check.error(key, format!("{key}: no route matches the user `{user}`; add one to `routes`"));
    }
}

fn warn_unreachable(check: &mut Check<'_>, section: &str, bind: std::net::SocketAddr, is_local: bool) {
    if !bind.ip().is_loopback() && is_local {
        check.warn(format!(
            "{section}.bind {bind}: only this host may connect, because {section}.allow is empty; name Asterisk's network there"
        ));
    }
}

/// In the form that calls have it.
fn uuid_of(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|&character| character != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
    Some(parts.join("-"))
}
