//! The voice gateway's environment variables, accepted as they stand: each sets a key of the configuration.

use std::net::{IpAddr, SocketAddr};

use super::error::{ConfigError, Origin};

/// A variable, the key that it sets and the value for it.
pub(super) type GatewaySetting = (&'static str, &'static str, String);

/// Reads the variables.
///
/// # Errors
/// Values that cannot be meant.
pub(super) fn settings(environment: &[(String, String)]) -> Result<Vec<GatewaySetting>, ConfigError> {
    let read = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let mut errors = ConfigError::default();
    let mut settings = Vec::new();
    let from = |name: &str| Origin::Environment(name.to_owned());

    if let Some(register) = read("REGISTER_WITH_SIP_SERVER") {
        let enabled = match register.to_ascii_lowercase().as_str() {
            "false" | "0" | "no" | "off" => Some(false),
            "true" | "1" | "yes" | "on" => Some(true),
            other => {
                let message = format!("`{other}` is neither true nor false");
                errors.push(from("REGISTER_WITH_SIP_SERVER"), message);
                None
            }
        };
        let enabled = enabled.map(|enabled| enabled.to_string());
        settings.extend(enabled.map(|value| ("REGISTER_WITH_SIP_SERVER", "registration.enabled", value)));
    }
    let port = read("SIP_PORT").and_then(|text| match text.parse::<u16>() {
        Ok(port) if port > 0 => Some(port),
        _ => {
            errors.push(from("SIP_PORT"), format!("`{text}` is not a port, 1 to 65535"));
            None
        }
    });
    if let Some(server) = read("SIP_SERVER") {
        let is_v6 = server.parse::<std::net::Ipv6Addr>().is_ok();
        let host = if is_v6 { format!("[{server}]") } else { server };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let server = match port.filter(|_| !has_port) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        settings.push(("SIP_SERVER", "registration.server", server));
    }
    if let Some(text) = read("SIP_LOCAL_ADDRESS") {
        let address = text
            .parse::<SocketAddr>()
            .or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, SIP_PORT)));
        match address {
            Ok(address) => settings.push(("SIP_LOCAL_ADDRESS", "sip.bind", address.to_string())),
            Err(_) => errors.push(
                from("SIP_LOCAL_ADDRESS"),
                format!("`{text}` is not an address; write `127.0.0.1` or `127.0.0.1:5060`"),
            ),
        }
    }
    for (name, key) in [
        ("SIP_USER", "registration.user"),
        ("AUTH_USER", "registration.auth_user"),
        ("AUTH_REALM", "registration.realm"),
        ("DISPLAY_NAME", "registration.display_name"),
        ("MEDIA_ADDRESS", "media.address"),
        ("SIP_VIA_ADDR", "sip.via_address"),
    ] {
        settings.extend(read(name).map(|value| (name, key, value)));
    }
    if read(PASSWORD).is_some() {
        // Its name; the value stays where it is.
        settings.push((PASSWORD, "registration.password_env", PASSWORD.to_owned()));
    }
    errors.or_ok(settings)
}

/// Where Azure Voice Live is; with it and no agent or route in the file, every call reaches Voice Live.
pub const AZURE_ENDPOINT: &str = "AZURE_VOICELIVE_ENDPOINT";

/// The agent and the routes of the voice gateway, as a configuration file would have them; `None` if the environment
/// does not ask for it.
pub(super) fn voice_live(environment: &[(String, String)]) -> Option<toml::Table> {
    let read = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let endpoint = read(AZURE_ENDPOINT)?;
    // Portals show it as the address of a web page.
    let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let mut agent = toml::Table::new();
    let mut set = |key: &str, value: String| drop(agent.insert(key.to_owned(), value.into()));
    set("dialect", "azure_voice_live".to_owned());
    if endpoint.starts_with("ws://") || endpoint.starts_with("wss://") {
        set("url", endpoint.clone());
    } else {
        set("endpoint", host.to_owned());
    }
    set("auth_token_env", AZURE_KEY.to_owned());
    for (variable, key, default) in [
        ("AZURE_VOICELIVE_MODEL", "model", "gpt-realtime"),
        ("AZURE_VOICELIVE_VOICE", "voice", "en-US-Ava:DragonHDLatestNeural"),
        ("AZURE_VOICELIVE_INSTRUCTIONS", "instructions", "You answer phone calls. Be brief and friendly."),
        ("AZURE_VOICELIVE_GREETING", "greeting", "Hello, how can I help you?"),
    ] {
        set(key, read(variable).unwrap_or_else(|| default.to_owned()));
    }
    let route = |what: &str, value: &str, app: &str| {
        let mut route = toml::Table::new();
        route.insert(what.to_owned(), value.into());
        route.insert("app".to_owned(), app.into());
        route
    };
    let mut calls = route("regex", ".*", "agent");
    calls.insert("agent".to_owned(), AGENT.into());
    let routes = vec![route("match", "echo", "echo").into(), calls.into()];
    let agents = toml::Table::from_iter([(AGENT.to_owned(), agent.into())]);
    Some(toml::Table::from_iter([
        ("agents".to_owned(), agents.into()),
        ("routes".to_owned(), toml::Value::Array(routes)),
    ]))
}

/// The key of the resource, or `Bearer` and a token.
const AZURE_KEY: &str = "AZURE_VOICELIVE_API_KEY";
/// What the gateway's agent is called.
const AGENT: &str = "voice_live";
const SIP_PORT: u16 = 5060;
const PASSWORD: &str = "AUTH_PASSWORD";
