//! The SIP side of the process: sockets in, calls out.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::config::SipConfig;
use super::core::{Core, SharedCore};
use super::counters::SipCounters;
use super::incoming::{IncomingCall, Transport};
use super::message::host_and_port;
use super::outgoing::{self, Answer, DialError, Method, OutgoingCall, OutgoingInvite, OutgoingRequest};
use super::registration::{Account, Registration};
use super::request::IncomingRequest;
use super::target::Target;
use super::transport::{Tls, TlsError, UdpListener, bind_tcp, listen, receive};

/// Why an endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub enum SipError {
    /// A local address could not be opened.
    #[error("cannot listen for SIP on {transport} {address}: {source}; is another process using it?")]
    Bind {
        /// `udp`, `tcp` or `tls`.
        transport: &'static str,
        /// The address from the configuration.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The advertised address is not `host` or `host:port`.
    #[error("cannot advertise {0:?} in Via and Contact; give a host name or address, or host:port")]
    Advertised(String),
    /// TLS cannot be used as it is configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There was no local address.
    #[error("no SIP address to listen on; give at least one")]
    NoAddress,
}

/// How much an endpoint holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SipLoad {
    /// Calls, from INVITE to the end of BYE.
    pub calls: usize,
    /// Calls, ringing or answered, whose ACK has not come.
    pub unacknowledged: usize,
    /// Transactions, running and remembered.
    pub transactions: usize,
    /// Open TCP connections.
    pub tcp_connections: usize,
}

/// What everybody who makes calls or sends requests holds of an endpoint. It keeps nothing alive: when the endpoint has
/// ended, all that it is asked for fails.
#[derive(Clone)]
pub struct SipHandle {
    core: Arc<Core>,
}

impl SipHandle {
    /// Makes a call. How it goes is told by [`OutgoingCall::next`].
    ///
    /// # Errors
    /// See [`DialError`]; nothing was sent then.
    pub fn invite(&self, invite: OutgoingInvite) -> Result<OutgoingCall, DialError> {
        outgoing::start(&self.core, invite)
    }

    /// Sends a request outside of dialogs and waits for its final response.
    ///
    /// # Errors
    /// See [`DialError`]. A refusal is no error.
    pub async fn request(&self, request: OutgoingRequest) -> Result<Answer, DialError> {
        outgoing::request(self.core.clone(), request).await
    }

    /// Requests outside of dialogs with this method (MESSAGE or REGISTER) go to the receiver from now on; until then, and
    /// when it is dropped, they are answered 405. When 256 wait in it, further ones are refused with 503.
    #[must_use]
    pub fn requests(&self, method: Method) -> mpsc::Receiver<IncomingRequest> {
        self.core.take_requests(method)
    }

    /// Keeps us registered at a SIP server, until the result is dropped or the endpoint shut down.
    #[must_use]
    pub fn register(&self, account: Account) -> Registration {
        self.core.register(account)
    }

    /// Where a target is now, best first; nowhere if its name does not resolve.
    pub async fn addresses(&self, target: &Target) -> Vec<SocketAddr> {
        self.core.hops(target).await.into_iter().map(|hop| hop.address).collect()
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<SipCounters> {
        &self.core.counters
    }
}

impl std::fmt::Debug for SipHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SipHandle").finish_non_exhaustive()
    }
}

/// A running SIP endpoint. Dropping it ends its calls and closes its sockets without waiting.
pub struct SipEndpoint {
    core: Arc<Core>,
    addresses: Vec<(Transport, SocketAddr)>,
}

impl SipEndpoint {
    /// Opens the sockets and serves them on the current tokio runtime until [`Self::shutdown`].
    ///
    /// The receiver must be read: when 256 calls wait in it, further ones are refused with 503.
    ///
    /// # Errors
    /// See [`SipError`].
    pub async fn start(config: SipConfig) -> Result<(Self, mpsc::Receiver<IncomingCall>), SipError> {
        if config.bind.is_empty() {
            return Err(SipError::NoAddress);
        }
        let advertised = match &config.advertised {
            None => None,
            Some(text) => Some(host_and_port(text).ok_or_else(|| SipError::Advertised(text.clone()))?),
        };
        let (incoming, calls) = mpsc::channel(INCOMING_QUEUE);
        let (bind, secure) = (config.bind.clone(), config.tls.bind.clone());
        let tls = Tls::new(&config.tls)?;
        let core = Arc::new(Core::new(config, tls.clone(), advertised, incoming));
        let mut sockets = Vec::new();
        for address in bind {
            sockets.push(open(address, &core).await?);
        }
        core.set_ways(sockets.iter().map(|(udp, _)| udp.flow(udp.local())).collect());
        let mut addresses = Vec::new();
        for (udp, tcp) in sockets {
            addresses.push((Transport::Udp, udp.local()));
            addresses.push((Transport::Tcp, udp.local()));
            let closing = core.closing.clone();
            let handler = Arc::new(SharedCore(core.clone()));
            tokio::spawn(async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = receive(Arc::new(udp), handler) => {}
                }
            });
            tokio::spawn(listen(tcp, core.tcp_context()));
        }
        for address in secure {
            let failed = |source| SipError::Bind { transport: "tls", address, source };
            let listener = bind_tcp(address).map_err(failed)?;
            let local = listener.local_addr().map_err(failed)?;
            addresses.push((Transport::Tls, local));
            core.secure.lock().unwrap_or_else(PoisonError::into_inner).push(local);
            tokio::spawn(tls.clone().listen(listener, core.tcp_context()));
        }
        let timers = core.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = timers.closing.cancelled() => {}
                () = timers.transactions.serve_timers() => {}
            }
        });
        Ok((Self { core, addresses }, calls))
    }

    /// What others make calls and send requests with.
    #[must_use]
    pub fn handle(&self) -> SipHandle {
        SipHandle { core: self.core.clone() }
    }

    /// [`SipHandle::invite`].
    ///
    /// # Errors
    /// See [`DialError`].
    pub fn invite(&self, invite: OutgoingInvite) -> Result<OutgoingCall, DialError> {
        self.handle().invite(invite)
    }

    /// With `true`, new calls and OPTIONS are answered 503 with Retry-After; running calls go on.
    pub fn set_draining(&self, draining: bool) {
        self.core.draining.store(draining, Ordering::Relaxed);
    }

    /// Keeps us registered at a SIP server, until the result is dropped or the endpoint shut down.
    #[must_use]
    pub fn register(&self, account: Account) -> Registration {
        self.core.register(account)
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<SipCounters> {
        &self.core.counters
    }

    /// What is held now.
    #[must_use]
    pub fn load(&self) -> SipLoad {
        SipLoad {
            calls: self.core.call_count(),
            unacknowledged: self.core.lock_unacknowledged().total(),
            transactions: self.core.transactions.count(),
            tcp_connections: self.core.tcp.count(),
        }
    }

    /// The addresses in use, after port 0 was replaced.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(Transport, SocketAddr)> {
        self.addresses.clone()
    }

    /// Ends what still runs with BYE (or 503), waits up to 2 s for the answers and closes the sockets.
    pub async fn shutdown(self) {
        self.set_draining(true);
        self.core.ending.cancel();
        self.core.tasks.close();
        // Peers that do not answer a BYE are left alone.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, self.core.tasks.wait()).await;
    }
}

impl Drop for SipEndpoint {
    fn drop(&mut self) {
        self.core.ending.cancel();
        self.core.closing.cancel();
    }
}

impl std::fmt::Debug for SipEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SipEndpoint").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Opens one address for UDP and TCP; with port 0 both get the same port.
async fn open(address: SocketAddr, core: &Core) -> Result<(UdpListener, TcpListener), SipError> {
    let failed = |transport: &'static str| move |source| SipError::Bind { transport, address, source };
    let mut attempts = if address.port() == 0 { 16 } else { 1 };
    loop {
        attempts -= 1;
        let udp = UdpListener::bind(address, core.counters.clone()).map_err(failed("udp"))?;
        match bind_tcp(udp.local()) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(_) if attempts > 0 => {}
            Err(source) => return Err(failed("tcp")(source)),
        }
    }
}

const INCOMING_QUEUE: usize = 256;
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
