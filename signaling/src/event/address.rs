//! Which addresses a webhook may reach: those of the public internet, and what the operator allows besides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Tells addresses that anybody may reach from those that only we can.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    allowed: Vec<IpNet>,
}

impl Reach {
    /// The public internet and `allowed`.
    #[must_use]
    pub const fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether a webhook may go there.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => self.allows_v6(address),
        }
    }

    fn allows_v4(&self, address: Ipv4Addr) -> bool {
        self.names(address.into()) || !REFUSED_V4.iter().any(|network| network.contains(&address))
    }

    fn allows_v6(&self, address: Ipv6Addr) -> bool {
        // The kernel connects to the IPv4 host, so that one is judged.
        if let Some(address) = address.to_ipv4_mapped() {
            return self.allows_v4(address);
        }
        // Behind a NAT64 (RFC 6052) is an IPv4 host, too: to allow the prefix does not allow what is private behind it.
        if NAT64.contains(&address) {
            let [.., a, b, c, d] = address.octets();
            return self.names(address.into()) && self.allows_v4(Ipv4Addr::new(a, b, c, d));
        }
        self.names(address.into())
            || GLOBAL_V6.contains(&address) && !REFUSED_V6.iter().any(|network| network.contains(&address))
    }

    fn names(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(&address))
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, third: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), length)
}

/// The IANA registry of special-purpose IPv4 addresses, multicast, and one cloud's address for its machines.
const REFUSED_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(168, 63, 129, 16, 32),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// All that is routed on the internet is in here (RFC 4291 section 2.4): no loopback, unique local, link-local or
/// multicast address is.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is special in it: protocol assignments with Teredo, documentation, 6to4, segment routing.
const REFUSED_V6: &[Ipv6Net] = &[
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x2002, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
    v6(0x2620, 0x4f, 0x8000, 48),
];

/// The well-known prefix (RFC 6052 section 2.1). The local-use prefix 64:ff9b:1::/48 is outside of [`GLOBAL_V6`].
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(reach: &Reach, address: &str) -> bool {
        reach.allows(address.parse().expect("an address"))
    }

    #[test]
    fn only_the_public_internet_is_reached() {
        let reach = Reach::default();
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::808:808",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!allows(&reach, refused), "{refused}");
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
        ] {
            assert!(allows(&reach, public), "{public}");
        }
    }

    #[test]
    fn the_operator_may_allow_networks_and_nothing_beside_them() {
        let networks = ["10.1.0.0/16", "fd00::/8", "64:ff9b::/96", "127.0.0.1/32"];
        let reach = Reach::new(networks.map(|network| network.parse().expect("a network")).to_vec());
        for allowed in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "fd00:ec2::254",
            "64:ff9b::808:808",
            "64:ff9b::a01:203",
            "127.0.0.1",
        ] {
            assert!(allows(&reach, allowed), "{allowed}");
        }
        for refused in ["10.2.0.1", "127.0.0.2", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:2", "fe80::1", "::1"] {
            assert!(!allows(&reach, refused), "{refused}");
        }
    }
}
