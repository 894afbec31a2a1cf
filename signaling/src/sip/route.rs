//! Which way our own requests leave (RFC 3261 8.1.2, 18.1.1), and how they are addressed.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use super::address::escape_user;
use super::core::{Core, random_token};
use super::incoming::Transport;
use super::message::{Message, SIP_VERSION, Uri, bracketed};
use super::resolver::{Families, Hop};
use super::target::{Target, transport_of, transport_param};
use super::transport::{Flow, connect};

impl Core {
    /// The `host:port` that peers reach us at.
    fn sent_by(&self, flow: &Flow) -> String {
        let own = self.listening_port(flow);
        let (host, port) = match &self.advertised {
            // The port that is advertised is that of UDP and TCP.
            Some((host, port)) if flow.transport != Transport::Tls => (host.clone(), port.unwrap_or(own)),
            Some((host, _)) => (host.clone(), own),
            None => (flow.local_ip().to_string(), own),
        };
        format!("{}:{port}", bracketed(&host))
    }

    /// Where a peer can connect to when the connection that it knows is gone (RFC 3261 18.1.1): a connection that we
    /// opened has a port of its own, at which nobody listens.
    fn listening_port(&self, flow: &Flow) -> u16 {
        let listening: Vec<SocketAddr> = match flow.transport {
            Transport::Udp => return flow.local.port(),
            Transport::Tcp => self.ways().iter().map(|way| way.local).collect(),
            Transport::Tls => self.secure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let leads = |at: &&SocketAddr| {
            at.is_ipv6() == flow.local.is_ipv6() && (at.ip().is_unspecified() || at.ip() == flow.local.ip())
        };
        let known = listening.iter().find(|at| leads(at) && at.port() == flow.local.port());
        known.or_else(|| listening.iter().find(leads)).unwrap_or(&flow.local).port()
    }

    /// The value of our Contact on this flow, for a request with this URI: `sips:` where that is (RFC 3261 8.1.1.8,
    /// 12.1.1).
    pub(super) fn contact(&self, flow: &Flow, user: &str, uri: &str) -> String {
        let user = if user.is_empty() { String::new() } else { format!("{}@", escape_user(user)) };
        let secure = uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"));
        let (scheme, transport) =
            if secure { ("sips", "") } else { ("sip", transport_param(flow.transport)) };
        format!("<{scheme}:{user}{}{transport}>", self.sent_by(flow))
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
            let contact = self.contact(flow, user, request.uri());
            request.push("Contact", contact);
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
        // Without a word about it, a peer is spoken to as before.
        let transport =
            transport_of(hop).or_else(|| Some(from.transport).filter(|_| from.transport.is_stream()));
        let families = Families { v4: from.remote.is_ipv4(), v6: from.remote.is_ipv6() };
        let hops = self.resolver.resolve(hop, transport, families).await;
        let Some(hop) = hops.into_iter().find(|hop| is_unicast(hop.address.ip())) else { return fallback };
        let hidden = !routed && is_private(hop.address.ip()) && !is_private(from.remote.ip());
        if hidden && stands {
            return fallback;
        }
        if hop.transport == Transport::Udp && from.transport == Transport::Udp {
            return Some(from.towards(hop.address));
        }
        self.flow_of(&hop).await.or(fallback)
    }
}

impl Core {
    /// Which addresses our sockets lead to.
    fn families(&self) -> Families {
        let has = |v6: bool| self.ways().iter().any(|way| way.local.is_ipv6() == v6);
        Families { v4: has(false), v6: has(true) }
    }

    /// Where requests to a target may go, best first.
    pub(super) async fn hops(&self, target: &Target) -> Vec<Hop> {
        if let Some((address, transport)) = target.fixed() {
            // It registered from there; its name was never proven.
            return vec![Hop { address, transport, name: String::new() }];
        }
        let Some((uri, transport)) = target.next_hop() else { return Vec::new() };
        let mut hops = self.resolver.resolve(&uri, transport, self.families()).await;
        hops.retain(|hop| is_unicast(hop.address.ip()) && self.way_to(hop.address).is_some());
        hops
    }

    /// The way to an address: one of our own sockets, or a connection.
    pub(super) async fn flow_of(self: &Arc<Self>, hop: &Hop) -> Option<Flow> {
        let address = hop.address;
        if !is_unicast(address.ip()) {
            return None;
        }
        let way = self.way_to(address)?;
        if hop.transport == Transport::Udp {
            return Some(way.towards(address));
        }
        let name = (!hop.name.is_empty()).then_some(hop.name.as_str());
        // RFC 5923: a connection that stands is used again.
        if let Some(flow) = self.tcp.open(address, hop.transport, name, &self.counters) {
            return Some(flow);
        }
        match hop.transport {
            Transport::Tls => self.tls.connect(address, name?, &self.tcp_context()).await,
            _ => connect(address, &self.tcp_context()).await,
        }
    }

    /// One of our own sockets that leads to an address.
    fn way_to(&self, address: SocketAddr) -> Option<&Flow> {
        self.ways().iter().find(|way| {
            // From loopback the kernel sends to loopback only.
            let leads = !way.local.ip().is_loopback() || address.ip().is_loopback();
            leads && way.local.is_ipv6() == address.is_ipv6()
        })
    }
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
