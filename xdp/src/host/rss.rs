//! Which receive queue a packet goes to (receive side scaling): the Toeplitz hash over addresses and ports.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::ethtool::{Ethtool, HashFields, ReceiveHash};

/// How a network interface deals UDP packets to its receive queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    key: Vec<u8>,
    table: Vec<u32>,
    ipv4: HashFields,
    ipv6: HashFields,
}

impl Rss {
    /// Asks the driver.
    ///
    /// # Errors
    /// In words: what the driver does not say, or does in another way.
    pub fn read(ethtool: &Ethtool, interface: &str) -> Result<Self, &'static str> {
        let hash = ethtool.receive_hash(interface).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => "the driver's key is shown with CAP_NET_ADMIN only",
            _ => "the driver does not say how it deals packets to queues",
        })?;
        let fields = |ipv6| -> io::Result<HashFields> { ethtool.hash_fields(interface, ipv6) };
        let (Ok(ipv4), Ok(ipv6)) = (fields(false), fields(true)) else {
            return Err("the driver does not say which fields of UDP packets it hashes");
        };
        Self::new(hash, ipv4, ipv6)
    }

    /// From what a driver says.
    ///
    /// # Errors
    /// In words: why queues cannot be foretold from it.
    pub fn new(hash: ReceiveHash, ipv4: HashFields, ipv6: HashFields) -> Result<Self, &'static str> {
        if hash.table.is_empty() {
            return Err("the driver has no table of queues");
        }
        if !hash.toeplitz {
            return Err("the driver's hash is not Toeplitz's");
        }
        // 36 bytes of input take 40 of the key.
        if hash.key.len() < 40 || hash.key.iter().all(|&byte| byte == 0) {
            return Err("the driver does not show its key");
        }
        if !ipv4.ports && !ipv6.ports {
            return Err("ports of UDP packets are not hashed: all packets of a peer come to one queue");
        }
        Ok(Self { key: hash.key, table: hash.table, ipv4, ipv6 })
    }

    /// The receive queue of what `remote` sends to `local`; `None` where the ports are not hashed, or of addresses of
    /// different families.
    #[must_use]
    pub fn queue(&self, remote: SocketAddr, local: SocketAddr) -> Option<u32> {
        let mut input = [0; 36];
        let (fields, addresses) = match (remote.ip().to_canonical(), local.ip().to_canonical()) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                input[..4].copy_from_slice(&remote.octets());
                input[4..8].copy_from_slice(&local.octets());
                (self.ipv4, 8)
            }
            (IpAddr::V6(remote), IpAddr::V6(local)) => {
                input[..16].copy_from_slice(&remote.octets());
                input[16..32].copy_from_slice(&local.octets());
                (self.ipv6, 32)
            }
            _ => return None,
        };
        if !fields.addresses || !fields.ports || local.ip().is_unspecified() {
            return None;
        }
        input[addresses..addresses + 2].copy_from_slice(&remote.port().to_be_bytes());
        input[addresses + 2..addresses + 4].copy_from_slice(&local.port().to_be_bytes());
        let hash = toeplitz(&self.key, &input[..addresses + 4]);
        self.table.get(hash as usize % self.table.len()).copied()
    }

    /// The queues that packets can come to.
    #[must_use]
    pub fn queues(&self) -> Vec<u32> {
        let mut queues = self.table.clone();
        queues.sort_unstable();
        queues.dedup();
        queues
    }
}

/// The hash of `input`: for each of its bits that is set, the 32 bits of the key that begin at the same place
/// (Microsoft, "RSS hashing functions").
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let byte = |at: usize| u64::from(key.get(at).copied().unwrap_or(0));
    let mut hash = 0;
    for (at, bits) in input.iter().enumerate() {
        // The key from this byte on: 32 bits and as many more as there are bits in a byte.
        let window = (0..5).fold(0, |window, next| window << 8 | byte(at + next));
        for bit in 0..8 {
            if bits & 0x80 >> bit != 0 {
                hash ^= (window >> (8 - bit)) as u32;
            }
        }
    }
    hash
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The key of Microsoft's "Verifying the RSS hash calculation".
    pub(crate) const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination, source, hash over addresses and ports, hash over addresses (same place).
    const VECTORS: [(&str, &str, u32, u32); 8] = [
        ("161.142.100.80:1766", "66.9.149.187:2794", 0x51cc_c178, 0x323e_8fc2),
        ("65.69.140.83:4739", "199.92.111.2:14230", 0xc626_b0ea, 0xd718_262a),
        ("12.22.207.184:38024", "24.19.198.95:12898", 0x5c2b_394a, 0xd2d0_a5de),
        ("209.142.163.6:2217", "38.27.205.30:48228", 0xafc7_327f, 0x8298_9176),
        ("202.188.127.2:1303", "153.39.163.191:44251", 0x10e8_28a2, 0x5d18_09c5),
        ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x4020_7d3d, 0x2cc1_8cd5),
        ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0xdde5_1bbf, 0x0f0c_461c),
        (
            "[fe80::200:f8ff:fe21:67cf]:38024",
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    const ALL: HashFields = HashFields { addresses: true, ports: true };

    fn rss(table: Vec<u32>) -> Rss {
        Rss::new(ReceiveHash { key: KEY.to_vec(), table, toeplitz: true }, ALL, ALL).expect("complete")
    }

    #[test]
    fn hashes_are_those_of_the_published_vectors() {
        for (destination, source, with_ports, without) in VECTORS {
            let (local, remote): (SocketAddr, SocketAddr) =
                (destination.parse().expect("an address"), source.parse().expect("an address"));
            let mut input = match (remote.ip(), local.ip()) {
                (IpAddr::V4(remote), IpAddr::V4(local)) => [remote.octets(), local.octets()].concat(),
                (IpAddr::V6(remote), IpAddr::V6(local)) => [remote.octets(), local.octets()].concat(),
                _ => unreachable!("one family per vector"),
            };
            assert_eq!(toeplitz(&KEY, &input), without, "{destination}");
            input.extend([remote.port().to_be_bytes(), local.port().to_be_bytes()].concat());
            assert_eq!(toeplitz(&KEY, &input), with_ports, "{destination}");
            let table: Vec<u32> = (0..128).map(|entry| entry % 7).collect();
            assert_eq!(rss(table).queue(remote, local), Some(with_ports % 128 % 7), "{destination}");
        }
    }

    #[test]
    fn a_driver_that_does_not_say_enough_is_refused_in_words() {
        let good = ReceiveHash { key: KEY.to_vec(), table: vec![0, 1], toeplitz: true };
        let none = HashFields::default();
        let cases = [
            (ReceiveHash { table: Vec::new(), ..good.clone() }, ALL, "no table"),
            (ReceiveHash { toeplitz: false, ..good.clone() }, ALL, "not Toeplitz"),
            (ReceiveHash { key: vec![0; 40], ..good.clone() }, ALL, "not show its key"),
            (ReceiveHash { key: vec![1; 8], ..good.clone() }, ALL, "not show its key"),
            (good, none, "not hashed"),
        ];
        for (hash, fields, words) in cases {
            let refused = Rss::new(hash, fields, fields).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_queue_is_not_guessed_without_the_whole_address() {
        let rss = rss(vec![0, 1]);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(rss.queue(address("192.0.2.1:4000"), address("0.0.0.0:20000")), None);
        assert_eq!(rss.queue(address("192.0.2.1:4000"), address("[2001:db8::1]:20000")), None);
        let mapped = rss.queue(address("[::ffff:192.0.2.1]:4000"), address("192.0.2.2:20000"));
        assert_eq!(mapped, rss.queue(address("192.0.2.1:4000"), address("192.0.2.2:20000")));
        assert!(mapped.is_some());
    }

    proptest! {
        #[test]
        fn the_hash_is_linear_and_reads_any_key(key: Vec<u8>, one: [u8; 12], two: [u8; 12]) {
            let sum: Vec<u8> = one.iter().zip(&two).map(|(one, two)| one ^ two).collect();
            prop_assert_eq!(toeplitz(&key, &sum), toeplitz(&key, &one) ^ toeplitz(&key, &two));
        }

        #[test]
        fn the_queue_is_one_of_the_table(remote: [u8; 4], ports: [u16; 2], table in prop::collection::vec(0u32..64, 1..200)) {
            let rss = rss(table.clone());
            let queue = rss.queue((remote, ports[0]).into(), ([198, 51, 100, 1], ports[1]).into());
            prop_assert!(queue.is_some_and(|queue| table.contains(&queue)));
            prop_assert!(rss.queues().windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
