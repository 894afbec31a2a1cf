//! Where a request of ours goes: a URI, and what it passes on the way.

use std::net::SocketAddr;

use super::address::{InvalidAddress, escape_user, plain, shown};
use super::incoming::Transport;
use super::message::{NameAddr, Uri, bracketed, host_and_port};

/// Where a request of ours goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    uri: String,
    transport: Option<Transport>,
    /// Route values, in the order in which the request lists them.
    routes: Vec<String>,
    through: Option<(SocketAddr, Transport)>,
}

impl Target {
    /// A server by its host name or address. Without a port, DNS decides (RFC 3263). For TLS the URI has
    /// `transport=tls`, which carriers expect, though RFC 3261 26.2.2 deprecates it: `sips:`, for [`Self::of_uri`], asks
    /// for TLS on all of the way, which few of them promise.
    ///
    /// # Errors
    /// [`InvalidAddress::Host`] when `host` is none.
    pub fn new(host: &str, port: Option<u16>, transport: Transport) -> Result<Self, InvalidAddress> {
        let host = plain("the host", host)?;
        let bare = host.trim_matches(['[', ']']);
        let name = match bare.parse::<std::net::Ipv6Addr>() {
            Ok(_) => bare.to_owned(),
            Err(_) => match host_and_port(host) {
                Some((name, None)) => name,
                _ => return Err(InvalidAddress::Host(shown(host))),
            },
        };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let uri = format!("sip:{}{port}{}", bracketed(&name), transport_param(transport));
        Ok(Self { uri, transport: Some(transport), routes: Vec::new(), through: None })
    }

    /// A whole `sip:` or `sips:` URI, such as a phone's Contact. Without a `transport` parameter, DNS decides.
    ///
    /// # Errors
    /// [`InvalidAddress::Uri`] when it is none.
    pub fn of_uri(uri: &str) -> Result<Self, InvalidAddress> {
        let uri = plain("the URI", uri)?.trim();
        let parsed = parsed(uri).ok_or_else(|| InvalidAddress::Uri(shown(uri)))?;
        let transport = transport_of(&parsed);
        Ok(Self { uri: uri.to_owned(), transport, routes: Vec::new(), through: None })
    }

    /// Goes by `proxy` first: a URI such as `sip:192.0.2.1:5060;lr`, or `host[:port]`. It is written as a Route with
    /// `lr` (RFC 3261 16.12.1.1).
    ///
    /// # Errors
    /// [`InvalidAddress`] when it is none.
    pub fn with_outbound_proxy(mut self, proxy: &str) -> Result<Self, InvalidAddress> {
        self.routes.insert(0, route_value(proxy)?);
        Ok(self)
    }

    /// Goes by these Route values behind the ones there are: a Service-Route (RFC 3608), or the Path of a binding
    /// (RFC 3327).
    ///
    /// # Errors
    /// [`InvalidAddress`] when one is none.
    pub fn with_routes<S: AsRef<str>>(
        mut self,
        routes: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidAddress> {
        for route in routes.into_iter().take(MAX_ROUTES) {
            let route = plain("the route", route.as_ref())?;
            let usable = NameAddr::parse(route).is_some_and(|address| parsed(&address.uri).is_some());
            if !usable {
                return Err(InvalidAddress::Uri(shown(route)));
            }
            self.routes.push(route.to_owned());
        }
        Ok(self)
    }

    /// Goes to this address whatever the URI and the routes say: where a phone behind NAT registered from. An open
    /// connection to it is used.
    #[must_use]
    pub fn through(mut self, address: SocketAddr, transport: Transport) -> Self {
        self.through = Some((address, transport));
        self
    }

    /// The URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The host of the URI, without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        Uri::parse(&self.uri).map(|uri| uri.host).unwrap_or_default()
    }

    /// The Route values.
    #[must_use]
    pub fn routes(&self) -> &[String] {
        &self.routes
    }

    /// The Request-URI for this user part; the URI as it stands without one.
    pub(super) fn request_uri(&self, user: Option<&str>) -> String {
        let Some(user) = user else { return self.uri.clone() };
        let (scheme, rest) = self.uri.split_once(':').unwrap_or(("sip", &self.uri));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        format!("{scheme}:{}@{rest}", escape_user(user))
    }

    pub(super) fn fixed(&self) -> Option<(SocketAddr, Transport)> {
        self.through
    }

    /// What has to be resolved: the topmost route, or the URI, and the transport that was asked for.
    pub(super) fn next_hop(&self) -> Option<(Uri, Option<Transport>)> {
        match self.routes.first() {
            Some(route) => {
                let uri = Uri::parse(&NameAddr::parse(route)?.uri)?;
                let transport = transport_of(&uri).or_else(|| self.transport.filter(|_| uri.port.is_none()));
                Some((uri, transport.or(self.transport)))
            }
            None => Some((Uri::parse(&self.uri)?, self.transport)),
        }
    }
}

/// The transport that a URI names; `sips` is TLS (RFC 3261 26.2.2).
pub(super) fn transport_of(uri: &Uri) -> Option<Transport> {
    if uri.scheme == "sips" {
        return Some(Transport::Tls);
    }
    match uri.param("transport")?.to_ascii_lowercase().as_str() {
        "udp" => Some(Transport::Udp),
        "tcp" => Some(Transport::Tcp),
        "tls" => Some(Transport::Tls),
        _ => None,
    }
}

/// The parameter of a URI that names a transport; UDP is what is meant without.
pub(super) fn transport_param(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    }
}

fn parsed(uri: &str) -> Option<Uri> {
    let parsed = Uri::parse(uri).filter(|_| uri.is_ascii())?;
    (matches!(parsed.scheme.as_str(), "sip" | "sips") && !parsed.host.is_empty()).then_some(parsed)
}

fn route_value(proxy: &str) -> Result<String, InvalidAddress> {
    let proxy = plain("the outbound proxy", proxy)?.trim();
    let invalid = || InvalidAddress::Uri(shown(proxy));
    let uri = if proxy.starts_with('<') {
        NameAddr::parse(proxy).ok_or_else(invalid)?.uri
    } else if proxy.starts_with("sip:") || proxy.starts_with("sips:") {
        proxy.to_owned()
    } else {
        format!("sip:{proxy}")
    };
    let parsed = parsed(&uri).ok_or_else(invalid)?;
    let lr = if parsed.param("lr").is_some() { "" } else { ";lr" };
    Ok(format!("<{uri}{lr}>"))
}

const MAX_ROUTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_uri_has_the_user_in_front_of_the_server() {
        let udp = Target::new("sip.example.com", Some(5080), Transport::Udp).unwrap();
        assert_eq!(udp.request_uri(Some("+1555 1")), "sip:+1555%201@sip.example.com:5080");
        assert_eq!(udp.request_uri(None), "sip:sip.example.com:5080");
        let tcp = Target::new("192.0.2.1", None, Transport::Tcp).unwrap();
        assert_eq!(tcp.request_uri(Some("1")), "sip:1@192.0.2.1;transport=tcp");
        let tls = Target::new("2001:db8::1", None, Transport::Tls).unwrap();
        assert_eq!(tls.request_uri(Some("1")), "sip:1@[2001:db8::1];transport=tls");
        let phone = Target::of_uri("sip:100@192.0.2.9:5062;transport=TCP;ob").unwrap();
        assert_eq!((phone.request_uri(None).as_str(), phone.transport), (phone.uri(), Some(Transport::Tcp)));
    }

    #[test]
    fn a_proxy_becomes_a_loose_route_in_front_of_others() {
        let target = Target::new("example.com", None, Transport::Udp)
            .unwrap()
            .with_routes(["<sip:s1.example.com;lr>"])
            .unwrap()
            .with_outbound_proxy("192.0.2.1:5070")
            .unwrap();
        assert_eq!(target.routes(), ["<sip:192.0.2.1:5070;lr>", "<sip:s1.example.com;lr>"]);
        assert_eq!(target.next_hop().unwrap().0.host, "192.0.2.1");
        let again = Target::of_uri("sip:a").unwrap().with_outbound_proxy("sips:p.example.com;lr").unwrap();
        assert_eq!(again.routes(), ["<sips:p.example.com;lr>"]);
        assert_eq!(again.next_hop().unwrap().1, Some(Transport::Tls));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "a b", "a:b:c", "a>", "h\r\n", "host:5060"] {
            assert!(Target::new(bad, None, Transport::Udp).is_err(), "{bad}");
        }
        for bad in ["", "tel:1", "sip:", "sip:a b", "sip:a\r\nX: y", "sip:a>"] {
            assert!(Target::of_uri(bad).is_err(), "{bad}");
            assert!(Target::of_uri("sip:a").unwrap().with_routes([bad]).is_err(), "{bad}");
        }
        assert!(Target::of_uri("sip:a").unwrap().with_outbound_proxy("p;lr\r\nX: y").is_err());
    }
}
