//! The WebSocket upgrade: the request with its credentials, and what the answer means.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};
use url::Url;

use super::super::config::{AiConfig, Secret};
use super::super::dialect::Handshake;
use super::ConnectError;
use crate::time::Duration;

/// The request for `url`, as the configuration and the dialect want it. May block on the file system.
pub(super) fn request(
    config: &AiConfig,
    mut url: Url,
    handshake: &Handshake,
) -> Result<Request, ConnectError> {
    let missing = |(name, _): &&(&str, String)| !url.query_pairs().any(|(there, _)| there == *name);
    let added: Vec<_> = handshake.query.iter().filter(missing).collect();
    let full = if added.is_empty() {
        // As the operator wrote it: what is signed must be what is sent.
        config.url.clone()
    } else {
        url.query_pairs_mut().extend_pairs(added);
        url.into()
    };
    let mut request =
        full.as_str().into_client_request().map_err(|error| ConnectError::Config(error.to_string()))?;
    let mut set = |name: &str, value: &str, secret: bool| {
        let bad =
            |what| ConnectError::Config(format!("the {what} of the header field {name:?} is not allowed"));
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad("value"))?;
        value.set_sensitive(secret);
        request.headers_mut().insert(field, value);
        Ok(())
    };
    for (name, value) in &config.headers {
        set(name, value, false)?;
    }
    let read = |secret: &Secret| secret.read().map_err(ConnectError::Config);
    if let Some(secret) = &config.authorization {
        let (field, value) = credential(read(secret)?, handshake.credential);
        set(field, &value, true)?;
    }
    if let Some(subprotocol) = handshake.subprotocol {
        set("Sec-WebSocket-Protocol", subprotocol, false)?;
    }
    if let Some(secret) = &config.auth_token {
        set("X-Twilio-Signature", &twilio_signature(&read(secret)?, &full), true)?;
    }
    Ok(request)
}

/// The header field of a secret. One that names its scheme goes into `Authorization` as it is; a token alone is a bearer token
/// (RFC 6750 section 2.1) unless the dialect has its own way.
fn credential(secret: String, wanted: Option<(&'static str, &'static str)>) -> (&'static str, String) {
    if secret.contains(' ') {
        return (AUTHORIZATION, secret);
    }
    match wanted.unwrap_or((AUTHORIZATION, "Bearer")) {
        (field, "") => (field, secret),
        (field, scheme) => (field, format!("{scheme} {secret}")),
    }
}

/// The base64 of the HMAC-SHA1 of the URL.
fn twilio_signature(auth_token: &str, url: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    BASE64.encode(ring::hmac::sign(&key, url.as_bytes()))
}

/// Why the upgrade at `url` failed.
pub(super) fn failed(url: String, error: tungstenite::Error) -> ConnectError {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status();
            let field = |name| {
                let value: Option<&HeaderValue> = response.headers().get(name);
                value.and_then(|value| value.to_str().ok())
            };
            if status.is_redirection() {
                let location: String = field("location").unwrap_or("nowhere").chars().take(200).collect();
                return ConnectError::Redirected { url, status: status.as_u16(), location };
            }
            let retry_after = field("retry-after").and_then(|value| value.trim().parse().ok());
            let retry_after = retry_after.map(Duration::from_secs);
            if status == StatusCode::OK || status == StatusCode::SWITCHING_PROTOCOLS {
                return ConnectError::Handshake { url, reason: format!("HTTP status {status}") };
            }
            ConnectError::Refused { url, status: status.as_u16(), retry_after }
        }
        tungstenite::Error::Io(error) => ConnectError::Unreachable { url, error },
        // The peer went away in the middle of the upgrade: it may be restarting.
        tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            let reason = "the connection was closed during the upgrade";
            ConnectError::Unreachable { url, error: io::Error::new(io::ErrorKind::ConnectionReset, reason) }
        }
        other => ConnectError::Handshake { url, reason: other.to_string() },
    }
}

const AUTHORIZATION: &str = "Authorization";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::dialect::Dialect;

    #[test]
    fn signature_is_the_hmac_of_the_url() {
        // printf %s wss://example.com/stream | openssl dgst -sha1 -hmac 12345 -binary | base64
        assert_eq!(twilio_signature("12345", "wss://example.com/stream"), SIGNATURE);
    }

    const SIGNATURE: &str = "KG4JbhDlv15BMlxSTOWKt9btbgg=";

    fn request_to(url: &str, handshake: &Handshake, secret: Option<&str>) -> Request {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let authorization = secret.map(|secret| {
            io::Write::write_all(&mut file, secret.as_bytes()).expect("written");
            Secret::File(file.path().to_owned())
        });
        let config = AiConfig { authorization, ..AiConfig::new(url) };
        request(&config, Url::parse(url).expect("a URL"), handshake).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_dialect_adds_to_the_query_what_is_not_there() {
        let query = vec![("model", "a b&c".to_owned()), ("api-version", "2026-04-10".to_owned())];
        let handshake = Handshake { query, ..Handshake::default() };
        for (url, expected) in [
            ("wss://example.com/x", "wss://example.com/x?model=a+b%26c&api-version=2026-04-10"),
            ("wss://example.com/x?model=own", "wss://example.com/x?model=own&api-version=2026-04-10"),
            (
                "wss://example.com/x?a=%20&model=&api-version=1",
                "wss://example.com/x?a=%20&model=&api-version=1",
            ),
        ] {
            assert_eq!(request_to(url, &handshake, None).uri().to_string(), expected);
        }
        assert_eq!(
            request_to("ws://example.com/", &Handshake::default(), None).uri().to_string(),
            "ws://example.com/"
        );
    }

    #[test]
    fn a_credential_goes_where_the_dialect_wants_it_and_is_never_shown() {
        for (wanted, secret, field, expected) in [
            (None, "hunter2", "authorization", "Bearer hunter2"),
            (None, "Basic dTpw", "authorization", "Basic dTpw"),
            (Some(("api-key", "")), "hunter2", "api-key", "hunter2"),
            (Some(("api-key", "")), "Bearer token", "authorization", "Bearer token"),
            (Some(("Authorization", "Token")), "hunter2", "authorization", "Token hunter2"),
            (Some(("x-goog-api-key", "")), "hunter2", "x-goog-api-key", "hunter2"),
        ] {
            let handshake = Handshake { credential: wanted, ..Handshake::default() };
            let request = request_to("ws://example.com/", &handshake, Some(secret));
            let value = &request.headers()[field];
            assert_eq!(value.to_str().expect("text"), expected);
            assert!(value.is_sensitive() && !format!("{request:?}").contains(expected), "{request:?}");
        }
    }

    #[test]
    fn a_subprotocol_is_offered() {
        let handshake = Handshake { subprotocol: Some("media"), ..Handshake::default() };
        assert_eq!(
            request_to("ws://example.com/", &handshake, None).headers()["sec-websocket-protocol"],
            "media"
        );
    }

    fn upgrade(config: &AiConfig) -> Request {
        let url = Url::parse(&config.url).expect("a URL");
        request(config, url, &config.dialect.handshake(&config.settings)).expect("a request")
    }

    #[test]
    fn dialect_adds_its_query_and_names_the_field_of_the_credential() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("secret");
        for (dialect, secret, url, field, value) in [
            (Dialect::OpenAi, "k", "ws://h/v1/realtime?model=gpt-realtime-2.1", "authorization", "Bearer k"),
            (
                Dialect::VoiceLive,
                "k",
                "ws://h/v1/realtime?api-version=2026-07-15&model=gpt-realtime",
                "api-key",
                "k",
            ),
            (Dialect::VoiceLive, "Bearer t", "", "authorization", "Bearer t"),
        ] {
            std::fs::write(&file, secret).expect("a file");
            let authorization = Some(Secret::File(file.clone()));
            let config = AiConfig { dialect, authorization, ..AiConfig::new("ws://h/v1/realtime") };
            let request = upgrade(&config);
            assert_eq!(request.headers()[field], value);
            assert_eq!(request.headers().contains_key("authorization"), field == "authorization");
            assert!(url.is_empty() || request.uri() == url, "{}", request.uri());
        }
        let own =
            AiConfig { dialect: Dialect::VoiceLive, ..AiConfig::new("ws://h/?model=m%20n&api-version=1") };
        assert_eq!(upgrade(&own).uri(), "ws://h/?model=m%20n&api-version=1");
    }
}
