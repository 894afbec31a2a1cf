//! Which way our own requests leave (RFC 3261 8.1.2, 18.1.1), and how they are addressed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, random_token};
use super::incoming::Transport;
use super::message::{Message, SIP_VERSION, Uri, bracketed};
use super::target::Target;
use super::transport::{Flow, connect};

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

impl Core {
    /// The `host:port` that peers reach us at.
    fn sent_by(&self, flow: &Flow) -> String {
        let (host, port) = match &self.advertised {
            Some((host, port)) => (host.clone(), port.unwrap_or(flow.local.port())),
            None => (flow.local_ip().to_string(), flow.local.port()),
        };
        format!("{}:{port}", bracketed(&host))
    }

    /// The value of our Contact on this flow.
    pub(super) fn contact(&self, flow: &Flow, user: &str) -> String {
        let user = if user.is_empty() { String::new() } else { format!("{user}@") };
        let transport = match flow.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        format!("<sip:{user}{}{transport}>", self.sent_by(flow))
    }

    /// Adds Via, Contact and User-Agent to a request that leaves by this flow.
    pub(super) fn addressed(&self, mut request: Message, flow: &Flow, user: &str) -> Message {
        let transport = match flow.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        let branch = random_token();
        let via = format!("{SIP_VERSION}/{transport} {};branch=z9hG4bK{branch};rport", self.sent_by(flow));
        request.headers.insert(0, super::message::HeaderField { name: "Via".to_owned(), value: via });
        if matches!(request.method(), "INVITE" | "UPDATE" | "REFER" | "REGISTER") {
            request.push("Contact", self.contact(flow, user));
        }
        request.push("User-Agent", &self.config.user_agent);
        request
    }

    /// The flow to the next hop of a dialog. `from` is the way its last request came: it is taken where it
    /// is a connection that still stands, where the hop cannot be reached or resolved from here (a peer
    /// behind NAT names a private address), and always for a peer that has not `proven` that it is there,
    /// so that nobody can aim our requests at others.
    pub(super) async fn route(
        self: &Arc<Self>,
        hop: Option<&Uri>,
        routed: bool,
        from: &Flow,
        proven: bool,
    ) -> Option<Flow> {
        let stands = from.is_open();
        if stands && (!proven || from.transport.is_stream()) {
            return Some(from.clone());
        }
        let fallback = stands.then(|| from.clone());
        let Some(hop) = hop else { return fallback };
        let address = resolve(hop, from.remote.is_ipv6()).await.filter(|address| is_unicast(address.ip()));
        let Some(address) = address else { return fallback };
        let hidden = !routed && is_private(address.ip()) && !is_private(from.remote.ip());
        if hidden && stands {
            return fallback;
        }
        let wants_tcp = hop.param("transport").is_some_and(|name| name.eq_ignore_ascii_case("tcp"));
        if wants_tcp || from.transport == Transport::Tcp {
            return connect(address, &self.tcp_context()).await.or(fallback);
        }
        Some(from.towards(address))
    }
}

/// One address of a target, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    /// The name that a certificate has to be for.
    pub(super) name: String,
}

impl Core {
    /// Where requests to a target may go, best first.
    pub(super) async fn hops(&self, target: &Target) -> Vec<Hop> {
        if let Some((address, transport)) = target.fixed() {
            return vec![Hop { address, transport, name: target.host() }];
        }
        let Some((uri, transport)) = target.next_hop() else { return Vec::new() };
        let transport = transport.unwrap_or(Transport::Udp);
        let mut hops = Vec::new();
        for way in self.ways() {
            if let Some(address) = resolve(&uri, way.local.is_ipv6()).await {
                hops.push(Hop { address, transport, name: uri.host.clone() });
            }
        }
        hops
    }

    /// The way to an address: one of our own sockets, or a connection.
    pub(super) async fn flow_of(self: &Arc<Self>, hop: &Hop) -> Option<Flow> {
        let address = hop.address;
        if !is_unicast(address.ip()) {
            return None;
        }
        // From loopback the kernel sends to loopback only.
        let leads = |way: &&Flow| {
            way.local.is_ipv6() == address.is_ipv6()
                && (!way.local.ip().is_loopback() || address.ip().is_loopback())
        };
        let way = self.ways().iter().find(leads)?;
        match hop.transport {
            Transport::Udp => Some(way.towards(address)),
            Transport::Tcp => connect(address, &self.tcp_context()).await,
            Transport::Tls => None,
        }
    }

    /// A flow from one of our own sockets to a server that no call has come from.
    pub(super) async fn flow_to(self: &Arc<Self>, server: &Uri) -> Option<Flow> {
        let wants_tcp = server.param("transport").is_some_and(|name| name.eq_ignore_ascii_case("tcp"));
        for way in self.ways() {
            let Some(address) = resolve(server, way.local.is_ipv6()).await else { continue };
            // From loopback the kernel sends to loopback only.
            let leads = !way.local.ip().is_loopback() || address.ip().is_loopback();
            if !leads || !is_unicast(address.ip()) {
                continue;
            }
            if wants_tcp {
                return connect(address, &self.tcp_context()).await;
            }
            return Some(way.towards(address));
        }
        None
    }
}

async fn resolve(hop: &Uri, v6: bool) -> Option<SocketAddr> {
    let port = hop.port.unwrap_or(5060);
    // An address where there is one (RFC 3261 19.1.1, maddr).
    let host = hop.param("maddr").filter(|host| !host.is_empty()).unwrap_or(&hop.host);
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return (ip.is_ipv6() == v6).then(|| SocketAddr::new(ip, port));
    }
    let lookup = tokio::net::lookup_host((host, port));
    let mut addresses = tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await.ok()?.ok()?;
    addresses.find(|address| address.is_ipv6() == v6)
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified()),
    }
}

/// Addresses that mean something else in another network.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_addresses_of_the_same_family_are_taken() {
        let hop = Uri::parse("sip:a@192.0.2.7:5080;transport=udp").unwrap();
        assert_eq!(resolve(&hop, false).await, Some("192.0.2.7:5080".parse().unwrap()));
        assert_eq!(resolve(&hop, true).await, None);
        let hop = Uri::parse("sip:[2001:db8::7]").unwrap();
        assert_eq!(resolve(&hop, true).await, Some("[2001:db8::7]:5060".parse().unwrap()));
    }

    #[test]
    fn nobody_is_sent_to_groups_or_nowhere() {
        for bad in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "0.1.2.3", "ff02::1", "::"] {
            assert!(!is_unicast(bad.parse().unwrap()), "{bad}");
        }
        for private in ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::1"]
        {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        assert!(!is_private("192.0.2.1".parse().unwrap()));
    }
}
