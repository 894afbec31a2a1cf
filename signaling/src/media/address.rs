//! Which local address a call's media uses, and which one the peer is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where a stream is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAddress {
    /// What the socket is bound to.
    pub bind: IpAddr,
    /// What SDP says.
    pub advertised: IpAddr,
}

/// The media addresses of this host (`--media-address`).
#[derive(Clone, Debug, Default)]
pub struct MediaAddresses {
    configured: Vec<Configured>,
}

#[derive(Clone, Copy, Debug)]
struct Configured {
    advertised: IpAddr,
    /// Whether a socket of this host can be bound to it.
    local: bool,
}

impl MediaAddresses {
    /// Looks which of the addresses are this host's own.
    #[must_use]
    pub fn new(advertised: &[IpAddr]) -> Self {
        let configured = advertised
            .iter()
            .map(|&advertised| Configured { advertised, local: is_local(advertised) })
            .collect();
        Self { configured }
    }

    /// Whether any address of the family may be used.
    #[must_use]
    pub fn has_family(&self, ipv6: bool) -> bool {
        self.configured.is_empty() || self.configured.iter().any(|one| one.advertised.is_ipv6() == ipv6)
    }

    /// The family for an offer of ours: that of the signalling if there is a media address of it.
    #[must_use]
    pub fn preferred_family(&self, sip_local: IpAddr) -> bool {
        let same = sip_local.to_canonical().is_ipv6();
        if self.has_family(same) { same } else { !same }
    }

    /// The address for media with `peer` when nobody says which of our addresses it knows: of those configured
    /// the one that is nearest to it, else the one that the way to it begins at.
    #[must_use]
    pub fn toward(&self, ipv6: bool, peer: IpAddr) -> Option<MediaAddress> {
        if self.configured.is_empty() {
            return self.choose(ipv6, unspecified(ipv6), peer);
        }
        let of_family = self.configured.iter().filter(|one| one.advertised.is_ipv6() == ipv6);
        let one = of_family.min_by_key(|one| 128 - common_bits(one.advertised, peer))?;
        let bind = if one.local { one.advertised } else { unspecified(ipv6) };
        Some(MediaAddress { bind, advertised: one.advertised })
    }

    /// The address for a call that came in on `sip_local`: of those configured the one that is nearest to it,
    /// else `sip_local` itself, else the one that the way to `peer` begins at.
    #[must_use]
    pub fn choose(&self, ipv6: bool, sip_local: IpAddr, peer: IpAddr) -> Option<MediaAddress> {
        let sip_local = sip_local.to_canonical();
        let of_family = self.configured.iter().filter(|one| one.advertised.is_ipv6() == ipv6);
        // `min_by_key` takes the first of equals, so the order of the configuration decides among those.
        if let Some(one) = of_family.min_by_key(|one| 128 - common_bits(one.advertised, sip_local)) {
            let bind = if one.local { one.advertised } else { behind_nat(ipv6, sip_local) };
            return Some(MediaAddress { bind, advertised: one.advertised });
        }
        if !self.configured.is_empty() {
            return None;
        }
        let address = if sip_local.is_ipv6() == ipv6 && !sip_local.is_unspecified() {
            sip_local
        } else {
            way_to(peer).filter(|address| address.is_ipv6() == ipv6)?
        };
        Some(MediaAddress { bind: address, advertised: address })
    }
}

/// Whether a socket of this host can be bound to it. Sends nothing.
pub(crate) fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether one of our control sockets that are bound to no address in particular would hear `target`. This host is asked
/// which addresses are its own, but only if a port fits: they come and go.
pub(crate) fn is_on_every_address(control: &[SocketAddr], target: SocketAddr) -> bool {
    control.iter().any(|control| control.port() == target.port() && control.ip().is_unspecified())
        && is_local(target.ip().to_canonical())
}

/// What to bind to when the advertised address is a router's: where SIP arrives, unless that is only this
/// host talking to itself.
fn behind_nat(ipv6: bool, sip_local: IpAddr) -> IpAddr {
    if sip_local.is_ipv6() == ipv6 && !sip_local.is_loopback() { sip_local } else { unspecified(ipv6) }
}

const fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// The local address that the kernel would send from. Sends nothing.
fn way_to(peer: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((unspecified(peer.is_ipv6()), 0)).ok()?;
    socket.connect((peer, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// How many leading bits two addresses share; none if they are of different families.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn chosen(configured: &[&str], ipv6: bool, sip_local: &str, peer: &str) -> Option<(IpAddr, IpAddr)> {
        let configured: Vec<_> = configured.iter().map(|text| address(text)).collect();
        let chosen = MediaAddresses::new(&configured).choose(ipv6, address(sip_local), address(peer))?;
        Some((chosen.bind, chosen.advertised))
    }

    #[test]
    fn without_configuration_the_address_of_the_signalling_is_taken() {
        let loopback = address("127.0.0.1");
        assert_eq!(chosen(&[], false, "127.0.0.1", "127.0.0.1"), Some((loopback, loopback)));
        assert_eq!(chosen(&[], false, "0.0.0.0", "127.0.0.9"), Some((loopback, loopback)));
        assert_eq!(chosen(&[], false, "::ffff:127.0.0.1", "127.0.0.1"), Some((loopback, loopback)));
        assert_eq!(chosen(&[], true, "127.0.0.1", "127.0.0.1"), None);
    }

    #[test]
    fn nearest_configured_address_of_the_family_is_taken() {
        let configured = ["127.0.1.1", "127.0.0.1", "::1"];
        let pair = |text| Some((address(text), address(text)));
        assert_eq!(chosen(&configured, false, "127.0.0.1", "192.0.2.1"), pair("127.0.0.1"));
        assert_eq!(chosen(&configured, false, "127.0.1.9", "192.0.2.1"), pair("127.0.1.1"));
        assert_eq!(chosen(&configured, false, "0.0.0.0", "192.0.2.1"), pair("127.0.1.1"));
        assert_eq!(chosen(&configured[..2], true, "::1", "2001:db8::1"), None);
    }

    #[test]
    fn address_of_a_router_is_advertised_but_not_bound() {
        let outside = address("203.0.113.9");
        assert_eq!(
            chosen(&["203.0.113.9"], false, "0.0.0.0", "192.0.2.1"),
            Some((address("0.0.0.0"), outside))
        );
        assert_eq!(
            chosen(&["203.0.113.9"], false, "127.0.0.1", "192.0.2.1"),
            Some((address("0.0.0.0"), outside))
        );
        assert_eq!(
            chosen(&["203.0.113.9"], false, "10.0.0.5", "192.0.2.1"),
            Some((address("10.0.0.5"), outside))
        );
    }

    #[test]
    fn our_offers_use_the_family_of_the_signalling_if_there_is_an_address() {
        let only4 = MediaAddresses::new(&[address("127.0.0.1")]);
        assert!(!only4.preferred_family(address("::1")));
        assert!(MediaAddresses::default().preferred_family(address("::1")));
        assert!(only4.has_family(false) && !only4.has_family(true));
    }

    #[test]
    fn a_control_port_on_every_address_is_no_target_at_any_of_them() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
        let control = [address("0.0.0.0:5060"), address("192.0.2.1:8080")];
        assert!(is_on_every_address(&control, address("127.0.0.7:5060")));
        assert!(is_on_every_address(&control, address("[::ffff:127.0.0.7]:5060")));
        assert!(!is_on_every_address(&control, address("127.0.0.7:5062")));
        assert!(!is_on_every_address(&control, address("192.0.2.9:5060")), "another host");
        assert!(!is_on_every_address(&control, address("127.0.0.7:8080")), "not bound there");
    }
}
