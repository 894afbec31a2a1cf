//! The voice gateway's environment variables, accepted as they stand.

use std::net::{IpAddr, SocketAddr};

use super::error::{ConfigError, Origin};
use super::types::Secret;

/// The account at a SIP server. Kept for registration, which is not in this version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// `SIP_SERVER`
    pub server: Option<String>,
    /// `SIP_PORT`
    pub port: Option<u16>,
    /// `SIP_USER`
    pub user: Option<String>,
    /// `AUTH_USER`
    pub auth_user: Option<String>,
    /// `AUTH_REALM`
    pub auth_realm: Option<String>,
    /// `AUTH_PASSWORD`
    pub auth_password: Option<Secret>,
    /// `DISPLAY_NAME`
    pub display_name: Option<String>,
}

/// A variable, the key that it sets and the value for it.
pub(super) type GatewaySetting = (&'static str, &'static str, String);

impl Gateway {
    /// Reads the variables; those that mean a configuration key are returned as such.
    pub(super) fn from_environment(
        environment: &[(String, String)],
    ) -> Result<(Self, Vec<GatewaySetting>), ConfigError> {
        let read = |name: &str| {
            let found = environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let mut errors = ConfigError::default();
        let from = |name: &str| Origin::Environment(name.to_owned());

        if let Some(register) = read("REGISTER_WITH_SIP_SERVER") {
            match register.to_ascii_lowercase().as_str() {
                "false" | "0" | "no" | "off" => {}
                "true" | "1" | "yes" | "on" => errors.push(
                    from("REGISTER_WITH_SIP_SERVER"),
                    "registration with a SIP server is not in this version; set it to false and let the server send calls to sip.bind",
                ),
                other => errors.push(
                    from("REGISTER_WITH_SIP_SERVER"),
                    format!("`{other}` is neither true nor false"),
                ),
            }
        }
        let port = read("SIP_PORT").and_then(|text| match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                errors.push(from("SIP_PORT"), format!("`{text}` is not a port, 1 to 65535"));
                None
            }
        });

        let mut settings = Vec::new();
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
        if let Some(text) = read("MEDIA_ADDRESS") {
            settings.push(("MEDIA_ADDRESS", "media.address", text));
        }
        if let Some(text) = read("SIP_VIA_ADDR") {
            settings.push(("SIP_VIA_ADDR", "sip.via_address", text));
        }
        let gateway = Self {
            server: read("SIP_SERVER"),
            port,
            user: read("SIP_USER"),
            auth_user: read("AUTH_USER"),
            auth_realm: read("AUTH_REALM"),
            auth_password: read("AUTH_PASSWORD").map(Secret::new),
            display_name: read("DISPLAY_NAME"),
        };
        errors.or_ok((gateway, settings))
    }

    /// Whether any of the account's variables is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

const SIP_PORT: u16 = 5060;
