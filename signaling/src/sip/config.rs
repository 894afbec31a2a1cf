//! What a [`super::SipEndpoint`] is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen, what to advertise and how much to take.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// Local addresses; each is opened for UDP and for TCP. With port 0 both get the same free port.
    pub bind: Vec<SocketAddr>,
    /// `host` or `host:port` for Via and Contact, where the host is behind NAT (`SIP_VIA_ADDR`). Without
    /// it the local address is used.
    pub advertised: Option<String>,
    /// The Server and User-Agent header.
    pub user_agent: String,
    /// The session interval asked for when the peer supports session timers but names none (RFC 4028).
    pub session_expires: Duration,
    /// The smallest session interval taken; shorter ones are answered 422. At least 90 s (RFC 4028 5).
    pub min_session_expires: Duration,
    /// The name servers to ask; those of the system if there are none.
    pub name_servers: Vec<SocketAddr>,
    /// SIP over TLS.
    pub tls: SipTls,
    /// RFC 3261 T1, the estimate of the round-trip time that all retransmission timers are made of.
    pub t1: Duration,
    /// Caps on what peers can make us hold.
    pub limits: SipLimits,
}

impl Default for SipConfig {
    fn default() -> Self {
        Self {
            bind: vec![SocketAddr::from(([127, 0, 0, 1], 5060))],
            advertised: None,
            user_agent: concat!("sidetone/", env!("CARGO_PKG_VERSION")).to_owned(),
            session_expires: Duration::from_secs(1800),
            min_session_expires: Duration::from_secs(90),
            name_servers: Vec::new(),
            tls: SipTls::default(),
            t1: Duration::from_millis(500),
            limits: SipLimits::default(),
        }
    }
}

/// SIP over TLS. Connections to others need none of it.
#[derive(Clone, Debug, Default)]
pub struct SipTls {
    /// Local addresses.
    pub bind: Vec<SocketAddr>,
    /// Our certificate and its chain (PEM), for those who connect, and for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// Authorities to trust besides the public ones (PEM).
    pub ca: Option<PathBuf>,
}

/// Caps on what peers can make us hold. What exceeds them is answered 503 with Retry-After, or dropped
/// and counted where no answer is due.
#[derive(Clone, Debug)]
pub struct SipLimits {
    /// Calls, from INVITE to the end of BYE.
    pub calls: usize,
    /// Calls, ringing or answered, whose ACK has not come. A source that has more than a few may have only
    /// as many as are left for all others, and a fifth is kept for those who have few: so two fifths of
    /// this when it is alone.
    pub unacknowledged: usize,
    /// Transactions, running and remembered for retransmissions.
    pub transactions: usize,
    /// New INVITEs per second from one source address, sustained; 0 takes any number.
    pub invites_per_second_per_source: u32,
    /// New INVITEs at once from one source address.
    pub invite_burst_per_source: u32,
    /// Source addresses remembered for that.
    pub sources: usize,
    /// TCP connections in all.
    pub tcp_connections: usize,
    /// TCP connections from one source address.
    pub tcp_connections_per_source: usize,
    /// A TCP connection without a whole message for this long is closed, unless a call uses it.
    pub tcp_idle: Duration,
    /// A message that began on a TCP connection must be complete within this time.
    pub tcp_message: Duration,
}

impl Default for SipLimits {
    fn default() -> Self {
        Self {
            calls: 4000,
            unacknowledged: 1000,
            transactions: 40_000,
            invites_per_second_per_source: 100,
            invite_burst_per_source: 300,
            sources: 4096,
            tcp_connections: 1024,
            tcp_connections_per_source: 64,
            tcp_idle: Duration::from_secs(120),
            tcp_message: Duration::from_secs(10),
        }
    }
}
