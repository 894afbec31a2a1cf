//! `[sip]` and `[sip.limits]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::super::types::{BindAddress, FilePath, Host, Span};
use crate::trunk::UnknownCallers;

/// `[sip]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    /// Local addresses, each for UDP and TCP.
    pub bind: Vec<BindAddress>,
    /// The host in Via and Contact when peers see another one than the local address (NAT).
    pub via_address: Option<Host>,
    /// The Server and User-Agent header.
    pub user_agent: String,
    /// What happens to calls that belong to no trunk.
    pub unknown_callers: UnknownCallers,
    /// The realm that callers are asked for passwords of.
    pub realm: String,
    /// The session interval asked for (RFC 4028).
    pub session_expires: Span,
    /// The shortest session interval taken; at least 90 s.
    pub min_session_expires: Span,
    /// The name servers to ask; those of the system if there are none.
    pub name_servers: Vec<BindAddress>,
    /// SIP over TLS.
    pub tls: SipTls,
    /// RFC 3261 T1, the base of all retransmission timers.
    pub t1: Span,
    /// Caps on what peers can make us hold.
    pub limits: SipLimits,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            bind: vec![BindAddress(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060))],
            via_address: None,
            user_agent: concat!("sidetone/", env!("CARGO_PKG_VERSION")).to_owned(),
            unknown_callers: UnknownCallers::Accept,
            realm: "sidetone".to_owned(),
            session_expires: Span::seconds(1800),
            min_session_expires: Span::seconds(90),
            name_servers: Vec::new(),
            tls: SipTls::default(),
            t1: Span(std::time::Duration::from_millis(500)),
            limits: SipLimits::default(),
        }
    }
}

/// `[sip.tls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SipTls {
    /// Local addresses for SIP over TLS.
    pub bind: Vec<BindAddress>,
    /// Our certificate and its chain (PEM), for those who connect, and for servers that ask for one.
    pub certificate: Option<FilePath>,
    /// Its key (PEM).
    pub key: Option<FilePath>,
    /// Authorities to trust besides the public ones (PEM).
    pub ca: Option<FilePath>,
}

/// `[sip.limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SipLimits {
    /// Dialogs, from INVITE to the end of BYE.
    pub dialogs: usize,
    /// Calls, ringing or answered, whose ACK has not come; a lone source may have two fifths of it.
    pub unacknowledged: usize,
    /// Transactions, running and remembered.
    pub transactions: usize,
    /// New INVITEs per second from one source address; 0 takes any number.
    pub invites_per_second_per_source: u32,
    /// New INVITEs at once from one source address.
    pub invite_burst_per_source: u32,
    /// Source addresses remembered for that.
    pub sources: usize,
    /// TCP connections in all.
    pub tcp_connections: usize,
    /// TCP connections from one source address.
    pub tcp_connections_per_source: usize,
    /// An unused TCP connection is closed after this.
    pub tcp_idle: Span,
    /// A message begun on TCP must be complete within this.
    pub tcp_message: Span,
}

impl Default for SipLimits {
    fn default() -> Self {
        Self {
            dialogs: 4000,
            unacknowledged: 1000,
            transactions: 40_000,
            invites_per_second_per_source: 100,
            invite_burst_per_source: 300,
            sources: 4096,
            tcp_connections: 1024,
            tcp_connections_per_source: 64,
            tcp_idle: Span::seconds(120),
            tcp_message: Span::seconds(10),
        }
    }
}
