//! `[registration]`: the account at a SIP server, or the voice gateway's variables for it.

use serde::Deserialize;

use super::plan::Check;
use super::types::{FilePath, Host, Span};
use crate::sip::{Account, Credentials, Transport};

/// `[registration]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationSection {
    /// Whether to register.
    pub enabled: bool,
    /// The SIP server, `host` or `host:port`.
    pub server: Option<Host>,
    /// How it is reached.
    pub transport: SipTransport,
    /// The user part of the address that calls come for.
    pub user: String,
    /// The name shown with it.
    pub display_name: Option<String>,
    /// The user name for authentication; `user` if not given.
    pub auth_user: Option<String>,
    /// The only realm that the password is used for.
    pub realm: Option<String>,
    /// The environment variable with the password.
    pub password_env: Option<String>,
    /// The file with the password.
    pub password_file: Option<FilePath>,
    /// How long a registration is asked to hold.
    pub expires: Span,
}

impl Default for RegistrationSection {
    fn default() -> Self {
        Self {
            enabled: false,
            server: None,
            transport: SipTransport::Udp,
            user: String::new(),
            display_name: None,
            auth_user: None,
            realm: None,
            password_env: None,
            password_file: None,
            expires: Span::seconds(3600),
        }
    }
}

/// What SIP goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SipTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
}

/// The account to register, if there is one to register.
pub(super) fn plan(check: &mut Check<'_>, environment: &[(String, String)]) -> Option<Account> {
    let section = check.loaded.config.registration.clone();
    if !section.enabled {
        if section.server.is_some() {
            check.warn(
                "registration.server is set, registration.enabled is not: the server must send calls to sip.bind by \
                 itself (REGISTER_WITH_SIP_SERVER=true registers)",
            );
        }
        return None;
    }
    let mut missing = |key: &str, variable: &str| {
        let key = format!("registration.{key}");
        check.error(&key, format!("{key}: missing; needed to register ({variable})"));
    };
    if section.server.is_none() {
        missing("server", "SIP_SERVER");
    }
    if section.user.is_empty() {
        missing("user", "SIP_USER");
    }
    // RFC 3261 25.1, user, without what would have to be escaped.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,;?/".contains(c);
    if !section.user.chars().all(plain) {
        let message =
            format!("registration.user: `{}` has characters that a SIP user cannot have", section.user);
        check.error("registration.user", message);
    }
    let password = password(check, &section, environment)?;
    let server = section.server?;
    let loopback = |host: &str| host == "localhost" || host.starts_with("127.") || host == "::1";
    let only_loopback = check.loaded.config.sip.bind.iter().all(|address| address.0.ip().is_loopback());
    if only_loopback && !loopback(&server.name) {
        check.error(
            "sip.bind",
            format!(
                "sip.bind: {} cannot be reached from a loopback address; set sip.bind (SIP_LOCAL_ADDRESS) to an \
                 address of this host, or 0.0.0.0:5060",
                server.name
            ),
        );
    }
    Some(Account {
        server: server.name,
        port: server.port,
        transport: match section.transport {
            SipTransport::Udp => Transport::Udp,
            SipTransport::Tcp => Transport::Tcp,
            SipTransport::Tls => Transport::Tls,
        },
        credentials: password.map(|password| Credentials {
            user: section.auth_user.unwrap_or_else(|| section.user.clone()),
            password,
            realm: section.realm,
        }),
        user: section.user,
        display_name: section.display_name,
        contact_user: None,
        expires: section.expires.0,
        domain: None,
        outbound_proxy: None,
    })
}

/// The password; `None` if what names it is wrong, `Some(None)` if nothing does.
fn password(
    check: &mut Check<'_>,
    section: &RegistrationSection,
    environment: &[(String, String)],
) -> Option<Option<String>> {
    let (key, found) = match (&section.password_env, &section.password_file) {
        (None, None) => return Some(None),
        (Some(_), Some(_)) => {
            ("password_env", Err("give password_env or password_file, not both".to_owned()))
        }
        (Some(variable), None) => {
            let value = environment.iter().find(|(name, _)| name == variable).map(|(_, value)| value.clone());
            ("password_env", value.ok_or_else(|| format!("the environment variable `{variable}` is not set")))
        }
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            ("password_file", text.map_err(|error| format!("{file} cannot be read: {error}")))
        }
    };
    match found {
        Ok(password) => Some(Some(password.trim_end_matches(['\r', '\n']).to_owned())),
        Err(message) => {
            let key = format!("registration.{key}");
            check.error(&key, format!("{key}: {message}"));
            None
        }
    }
}
