//! Reaching an AI backend: TCP, TLS, the WebSocket upgrade, and trying again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};
use url::{Host, Url};

use super::carrier::{AudioSocket, Socket, Transport, WebSocket};
use super::config::{AiConfig, Secret};
use super::counters::AiCounters;
use super::dialect::{Carrier, Handshake};
use super::recovery::Class;
use crate::time::Duration;

/// Why an AI backend could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot work.
    #[error("the AI backend's configuration is not usable: {0}")]
    Config(String),
    /// The transport failed: name resolution, refused, reset.
    #[error("cannot reach the AI backend at {url}: {error}; is it running, and does the address fit?")]
    Unreachable {
        /// Where, without the query string.
        url: String,
        /// The operating system's error.
        error: io::Error,
    },
    /// No answer in time.
    #[error("the AI backend at {url} did not answer within {} ms", .waited.as_millis())]
    Timeout {
        /// Where, without the query string.
        url: String,
        /// How long altogether.
        waited: Duration,
    },
    /// TLS failed.
    #[error(
        "TLS with the AI backend at {url} failed: {error}; check its certificate, or trust its authority"
    )]
    Tls {
        /// Where, without the query string.
        url: String,
        /// TLS's reason.
        error: io::Error,
    },
    /// The upgrade was answered by a redirect.
    #[error(
        "the AI backend at {url} redirects to {location} ({status}); redirects are not followed, configure that URL"
    )]
    Redirected {
        /// Where, without the query string.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The upgrade was refused.
    #[error("the AI backend at {url} refused the stream with HTTP status {status}")]
    Refused {
        /// Where, without the query string.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The seconds of its Retry-After.
        retry_after: Option<Duration>,
    },
    /// The upgrade's answer is malformed.
    #[error("the answer of {url} is not a WebSocket upgrade: {reason}")]
    Handshake {
        /// Where, without the query string.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The backend closed the connection before the session was set up.
    #[error("the AI backend at {url} closed the stream with code {code} before it was ready: {reason}")]
    Closed {
        /// Where, without the query string.
        url: String,
        /// The close code (RFC 6455 section 7.4); 1005 if there was none, 1006 without a close frame.
        code: u16,
        /// The backend's reason, untrusted.
        reason: String,
    },
    /// The backend answered the session's set-up with an error.
    #[error(
        "the AI backend at {url} refused the session: {code}: {text}; check its settings and credentials"
    )]
    Rejected {
        /// Where, without the query string.
        url: String,
        /// The backend's word for it, cleaned.
        code: String,
        /// Its explanation, cleaned.
        text: String,
    },
    /// The AI threads have ended.
    #[error("the AI stream threads have ended")]
    Shutdown,
}

impl ConnectError {
    /// Whether another attempt may succeed soon.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Closed { code, .. } => Class::of_code(*code) == Class::Transient,
            _ => false,
        }
    }

    fn count(&self, counters: &AiCounters) {
        match self {
            Self::Unreachable { .. } => counters.connect_refused.increment(),
            Self::Timeout { .. } => counters.connect_timeout.increment(),
            Self::Tls { .. } => counters.connect_tls.increment(),
            Self::Redirected { .. } => counters.connect_redirected.increment(),
            Self::Refused { .. } => counters.connect_http_status.increment(),
            Self::Handshake { .. } => counters.connect_handshake.increment(),
            Self::Config(_) | Self::Closed { .. } | Self::Rejected { .. } | Self::Shutdown => {}
        }
    }
}

/// What a connection needs, checked once per call.
pub(super) struct Target {
    host: Host<String>,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    opening: Opening,
    /// For messages: the URL without what may be secret.
    pub(super) shown: String,
}

/// What follows on the transport.
enum Opening {
    WebSocket { request: Box<Request>, config: WebSocketConfig },
    AudioSocket { max_message_bytes: usize, silence: Duration },
}

impl Target {
    /// Reads secrets and certificates, so it may block on the file system.
    pub(super) fn new(config: &AiConfig, public_roots: &Arc<ClientConfig>) -> Result<Self, ConnectError> {
        let bad = |reason: String| ConnectError::Config(reason);
        let url = Url::parse(&config.url).map_err(|error| bad(format!("{:?}: {error}", config.url)))?;
        let handshake = config.dialect.handshake(&config.settings);
        let secure = match (handshake.carrier, url.scheme()) {
            (Carrier::WebSocket, "ws") | (Carrier::AudioSocket, "tcp") => false,
            (Carrier::WebSocket, "wss") => true,
            (Carrier::WebSocket, other) => {
                return Err(bad(format!("the URL's scheme is {other}, not ws or wss")));
            }
            (Carrier::AudioSocket, other) => {
                return Err(bad(format!("the URL's scheme is {other}, AudioSocket has tcp://HOST:PORT")));
            }
        };
        let host = url.host().ok_or_else(|| bad("the URL has no host".into()))?.to_owned();
        let port = url.port_or_known_default().ok_or_else(|| bad("the URL has no port".into()))?;
        let shown = format!("{}://{host}:{port}{}", url.scheme(), url.path());

        let tls = if secure {
            let client = match &config.extra_ca {
                None => Arc::clone(public_roots),
                Some(file) => {
                    let mut roots = public_authorities();
                    let certificates = CertificateDer::pem_file_iter(file)
                        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                        .map_err(|error| bad(format!("{}: {error}", file.display())))?;
                    if certificates.is_empty() {
                        return Err(bad(format!("{} holds no certificate", file.display())));
                    }
                    for certificate in certificates {
                        roots
                            .add(certificate)
                            .map_err(|error| bad(format!("{}: {error}", file.display())))?;
                    }
                    Arc::new(client_config(roots)?)
                }
            };
            let name = match (&config.tls_server_name, &host) {
                (Some(name), _) => name.clone(),
                (None, Host::Domain(name)) => name.clone(),
                (None, Host::Ipv4(address)) => address.to_string(),
                (None, Host::Ipv6(address)) => address.to_string(),
            };
            let name = ServerName::try_from(name).map_err(|error| bad(format!("the TLS name: {error}")))?;
            Some((client, name))
        } else {
            None
        };

        let opening = match handshake.carrier {
            Carrier::WebSocket => Opening::WebSocket {
                request: Box::new(upgrade_request(config, url, &handshake)?),
                config: WebSocket::config(config.max_message_bytes),
            },
            Carrier::AudioSocket => Opening::AudioSocket {
                max_message_bytes: config.max_message_bytes,
                silence: config.ping_interval.min(AUDIOSOCKET_SILENCE),
            },
        };
        Ok(Self { host, port, tls, opening, shown })
    }

    /// Tries until it works, cannot work or the window is over.
    pub(super) async fn connect(
        &self,
        config: &AiConfig,
        counters: &AiCounters,
    ) -> Result<Socket, ConnectError> {
        let start = Instant::now();
        let window_end = start + config.connect_window;
        loop {
            let attempt_start = Instant::now();
            let deadline = (attempt_start + config.connect_timeout).min(window_end);
            counters.connect_attempts.increment();
            let error = match timeout_at(deadline, self.attempt(deadline)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => error,
                Err(_) => ConnectError::Timeout { url: self.shown.clone(), waited: start.elapsed() },
            };
            error.count(counters);
            let next = (attempt_start + config.retry_interval).max(Instant::now());
            if !error.is_transient() || next >= window_end {
                return Err(error);
            }
            sleep_until(next).await;
        }
    }

    async fn attempt(&self, deadline: Instant) -> Result<Socket, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable { url: self.shown.clone(), error };
        let tcp = self.tcp(deadline).await.map_err(unreachable)?;
        let (request, config) = match &self.opening {
            Opening::WebSocket { request, config } => (Request::clone(request), *config),
            Opening::AudioSocket { max_message_bytes, silence } => {
                let socket = AudioSocket::new(tcp, *max_message_bytes, *silence).map_err(unreachable)?;
                return Ok(Socket::AudioSocket(Box::new(socket)));
            }
        };
        let stream: Box<dyn Transport> = match &self.tls {
            None => Box::new(tcp),
            Some((client, name)) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(client));
                let tls = connector.connect(name.clone(), tcp).await;
                Box::new(tls.map_err(|error| ConnectError::Tls { url: self.shown.clone(), error })?)
            }
        };
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((stream, _)) => Ok(Socket::WebSocket(Box::new(WebSocket::new(stream)))),
            Err(error) => Err(self.upgrade_error(error)),
        }
    }

    /// Tries every address of the host in turn.
    async fn tcp(&self, deadline: Instant) -> io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = match &self.host {
            Host::Ipv4(address) => vec![(*address, self.port).into()],
            Host::Ipv6(address) => vec![(*address, self.port).into()],
            Host::Domain(name) => tokio::net::lookup_host((name.as_str(), self.port)).await?.collect(),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        let count = addresses.len().max(1) as u32;
        // One address that swallows packets must leave time for the others.
        let share = deadline.saturating_duration_since(Instant::now()) / count;
        for address in addresses {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_nodelay(true)?;
            // Caller audio that waits in the kernel is late audio: a small buffer shows a stalled peer soon.
            socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
            match timeout_at(Instant::now() + share, socket.connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    fn upgrade_error(&self, error: tungstenite::Error) -> ConnectError {
        let url = self.shown.clone();
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
                ConnectError::Unreachable {
                    url,
                    error: io::Error::new(io::ErrorKind::ConnectionReset, reason),
                }
            }
            other => ConnectError::Handshake { url, reason: other.to_string() },
        }
    }
}

/// The TLS configuration that trusts the public authorities, made once.
pub(super) fn public_tls() -> Result<ClientConfig, ConnectError> {
    client_config(public_authorities())
}

fn public_authorities() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, ConnectError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Config(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn upgrade_request(config: &AiConfig, mut url: Url, handshake: &Handshake) -> Result<Request, ConnectError> {
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

const AUTHORIZATION: &str = "Authorization";
/// Asterisk gives an application up after two seconds without a sign of life.
const AUDIOSOCKET_SILENCE: Duration = Duration::from_secs(2);
const SEND_BUFFER_BYTES: u32 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::dialect::Dialect;

    fn target(config: &AiConfig) -> Result<Target, ConnectError> {
        Target::new(config, &Arc::new(public_tls()?))
    }

    #[test]
    fn signature_is_the_hmac_of_the_url() {
        // printf %s wss://example.com/stream | openssl dgst -sha1 -hmac 12345 -binary | base64
        assert_eq!(twilio_signature("12345", "wss://example.com/stream"), SIGNATURE);
    }

    const SIGNATURE: &str = "KG4JbhDlv15BMlxSTOWKt9btbgg=";

    #[test]
    fn unusable_configuration_is_refused_with_its_reason() {
        for (config, part) in [
            (AiConfig::new("http://example.com/"), "scheme is http"),
            (AiConfig::new("example.com"), "relative URL"),
            (AiConfig::new("ws://"), "host"),
            (
                AiConfig { headers: vec![("bad name".into(), String::new())], ..AiConfig::new("ws://h/") },
                "name of the header field",
            ),
            (
                AiConfig { headers: vec![("X-A".into(), "a\r\nb".into())], ..AiConfig::new("ws://h/") },
                "value of the header field",
            ),
            (
                AiConfig {
                    authorization: Some(Secret::Env("SIDETONE_TEST_UNSET".into())),
                    ..AiConfig::new("ws://h/")
                },
                "SIDETONE_TEST_UNSET is not set",
            ),
            (
                AiConfig { extra_ca: Some("/nonexistent.pem".into()), ..AiConfig::new("wss://h/") },
                "nonexistent",
            ),
        ] {
            let error = target(&config).err().expect("an error").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    fn request(url: &str, handshake: &Handshake, secret: Option<&str>) -> Request {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let authorization = secret.map(|secret| {
            io::Write::write_all(&mut file, secret.as_bytes()).expect("written");
            Secret::File(file.path().to_owned())
        });
        let config = AiConfig { authorization, ..AiConfig::new(url) };
        upgrade_request(&config, Url::parse(url).expect("a URL"), handshake)
            .unwrap_or_else(|error| panic!("{error}"))
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
            assert_eq!(request(url, &handshake, None).uri().to_string(), expected);
        }
        assert_eq!(
            request("ws://example.com/", &Handshake::default(), None).uri().to_string(),
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
            let request = request("ws://example.com/", &handshake, Some(secret));
            let value = &request.headers()[field];
            assert_eq!(value.to_str().expect("text"), expected);
            assert!(value.is_sensitive() && !format!("{request:?}").contains(expected), "{request:?}");
        }
    }

    #[test]
    fn a_subprotocol_is_offered() {
        let handshake = Handshake { subprotocol: Some("media"), ..Handshake::default() };
        assert_eq!(
            request("ws://example.com/", &handshake, None).headers()["sec-websocket-protocol"],
            "media"
        );
    }

    fn upgrade(config: &AiConfig) -> Request {
        let url = Url::parse(&config.url).expect("a URL");
        upgrade_request(config, url, &config.dialect.handshake(&config.settings)).expect("a request")
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

    #[test]
    fn secrets_stay_out_of_what_is_shown() {
        let target = target(&AiConfig::new("wss://user:word@example.com/a?token=secret"))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(target.shown, "wss://example.com:443/a");
    }
}
