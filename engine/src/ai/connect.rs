//! Reaching an AI backend: TCP, TLS, the WebSocket upgrade, and trying again.

mod error;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::{Host, Url};

use super::carrier::{AudioSocket, Socket, Transport, WebSocket};
use super::config::AiConfig;
use super::counters::AiCounters;
use super::dialect::Carrier;
use crate::time::Duration;

pub use error::ConnectError;

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
                request: Box::new(upgrade::request(config, url, &handshake)?),
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
            Err(error) => Err(upgrade::failed(self.shown.clone(), error)),
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

/// Asterisk gives an application up after two seconds without a sign of life.
const AUDIOSOCKET_SILENCE: Duration = Duration::from_secs(2);
const SEND_BUFFER_BYTES: u32 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::config::Secret;

    fn target(config: &AiConfig) -> Result<Target, ConnectError> {
        Target::new(config, &Arc::new(public_tls()?))
    }

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

    #[test]
    fn secrets_stay_out_of_what_is_shown() {
        let target = target(&AiConfig::new("wss://user:word@example.com/a?token=secret"))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(target.shown, "wss://example.com:443/a");
    }
}
