//! SIP over TLS (RFC 3261 26.3, RFC 5922): certificates and handshakes; what is inside is the same as over TCP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::tcp::{Link, TcpContext, start};
use super::{Flow, Handle};
use crate::sip::config::SipTls;
use crate::sip::incoming::Transport;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{} cannot be used for sip.tls: {reason}; it has to be PEM", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not fit.
    #[error("the certificate and key of sip.tls cannot be used: {0}; do they belong together?")]
    Pair(#[from] rustls::Error),
    /// There is nothing to show to those who connect.
    #[error("sip.tls.bind needs sip.tls.certificate and sip.tls.key")]
    NoCertificate,
}

/// What handshakes are made with.
#[derive(Clone)]
pub(in crate::sip) struct Tls {
    client: Arc<ClientConfig>,
    server: Option<Arc<ServerConfig>>,
}

impl Tls {
    pub(in crate::sip) fn new(config: &SipTls) -> Result<Self, TlsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &config.ca {
            let certificates = certificates(path)?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(file(path, "no certificate of an authority is in it"));
            }
        }
        let own = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error))?;
                Some((chain, key))
            }
            _ if !config.bind.is_empty() => return Err(TlsError::NoCertificate),
            _ => None,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let (client, server) = match own {
            Some((chain, key)) => {
                let server = ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_no_client_auth()
                    .with_single_cert(chain.clone(), key.clone_key())?;
                (client.with_client_auth_cert(chain, key)?, Some(Arc::new(server)))
            }
            None => (client.with_no_client_auth(), None),
        };
        Ok(Self { client: Arc::new(client), server })
    }

    /// Opens a connection to a peer that can prove to be `name`.
    pub(in crate::sip) async fn connect<H: Handle>(
        &self,
        remote: SocketAddr,
        name: &str,
        context: &TcpContext<H>,
    ) -> Option<Flow> {
        let server = ServerName::try_from(name.to_owned()).ok()?;
        let connecting = async {
            let stream = TcpStream::connect(remote).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let local = stream.local_addr().ok()?;
            match TlsConnector::from(self.client.clone()).connect(server, stream).await {
                Ok(stream) => Some((local, stream)),
                Err(error) => {
                    context.counters.tls_failures.increment();
                    tracing::warn!(%remote, name, "TLS with a SIP server failed: {error}; check its certificate, or \
                        trust its authority with sip.tls.ca");
                    None
                }
            }
        };
        let (local, stream) = timeout(HANDSHAKE, connecting).await.ok()??;
        let link = Link { transport: Transport::Tls, local, remote, name: name.to_owned() };
        start(tokio::io::split(stream), link, context, None).await
    }

    /// Accepts connections until the context closes. Handshakes count as connections.
    pub(in crate::sip) async fn listen<H: Handle>(self, listener: TcpListener, context: TcpContext<H>) {
        let Some(server) = self.server else { return };
        let acceptor = TlsAcceptor::from(server);
        loop {
            let accepted = tokio::select! {
                () = context.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, remote)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(admission) = context.connections.admit(remote.ip(), &context.limits) else {
                context.counters.tcp_refused.increment();
                continue;
            };
            context.counters.tcp_accepted.increment();
            let (acceptor, context) = (acceptor.clone(), context.clone());
            tokio::spawn(async move {
                let Ok(local) = stream.local_addr() else { return };
                let _ = stream.set_nodelay(true);
                let closing = context.closing.clone();
                let shaken = tokio::select! {
                    () = closing.cancelled() => return,
                    shaken = timeout(HANDSHAKE, acceptor.accept(stream)) => shaken,
                };
                let Ok(Ok(stream)) = shaken else {
                    context.counters.tls_failures.increment();
                    return;
                };
                let link = Link { transport: Transport::Tls, local, remote, name: String::new() };
                // An error means that the connection has already broken.
                let _ = start(tokio::io::split(stream), link, &context, Some(admission)).await;
            });
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("listens", &self.server.is_some()).finish_non_exhaustive()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| file(path, error))?.collect();
    let certificates = certificates.map_err(|error| file(path, error))?;
    if certificates.is_empty() {
        return Err(file(path, "no certificate is in it"));
    }
    Ok(certificates)
}

fn file(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// TCP and TLS together.
const HANDSHAKE: Duration = Duration::from_secs(5);
