//! Addresses as they are compared and kept.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address without the clothes of the socket it came through: IPv4-mapped IPv6 is IPv4, scope and flow
/// do not count. Half the size of a [`SocketAddr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// IPv4 is mapped (RFC 4291 section 2.5.5.2).
    ip: [u8; 16],
    port: u16,
}

impl Address {
    /// No address.
    pub(crate) const NOWHERE: Self = Self { ip: [0; 16], port: 0 };

    /// Whether both are of one host.
    pub(crate) fn has_ip_of(self, other: Self) -> bool {
        self.ip == other.ip
    }
}

impl From<SocketAddr> for Address {
    #[inline]
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Self { ip, port: address.port() }
    }
}

impl From<Address> for SocketAddr {
    #[inline]
    fn from(address: Address) -> Self {
        Self::new(IpAddr::V6(Ipv6Addr::from(address.ip)).to_canonical(), address.port)
    }
}

/// Whether an address must never get media, whatever the peer's SDP says: reflection and nonsense.
pub(crate) fn is_forbidden(address: SocketAddr) -> bool {
    let forbidden = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified(),
    };
    forbidden || address.port() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_address_is_the_same_in_either_family_and_comes_back_as_itself() {
        for text in ["192.0.2.1:4000", "[2001:db8::1]:4000", "[::1]:9"] {
            assert_eq!(SocketAddr::from(Address::from(address(text))), address(text));
        }
        assert_eq!(
            Address::from(address("[::ffff:192.0.2.1]:4000")),
            Address::from(address("192.0.2.1:4000"))
        );
        assert_ne!(Address::from(address("192.0.2.1:4000")), Address::from(address("192.0.2.1:4001")));
    }

    #[test]
    fn reflection_targets_are_forbidden() {
        let forbidden = [
            "0.0.0.0:4000",
            "0.1.2.3:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "[ff02::1]:4000",
            "[::]:4000",
            "[::ffff:224.0.0.1]:4000",
            "192.0.2.1:0",
        ];
        for text in forbidden {
            assert!(is_forbidden(address(text)), "{text}");
        }
        for text in ["192.0.2.1:4000", "127.0.0.1:4000", "[2001:db8::1]:4000", "[::1]:4000"] {
            assert!(!is_forbidden(address(text)), "{text}");
        }
    }
}
