//! What a network interface's driver says of itself (ethtool(8), without the program).

use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use crate::sys::ethtool as sys;

/// A way to ask drivers.
#[derive(Debug)]
pub struct Ethtool {
    socket: UdpSocket,
}

/// Which driver it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its name, such as `ice`.
    pub name: String,
    /// The firmware, if the driver says.
    pub firmware: String,
    /// Where the device is, such as `0000:3b:00.0`.
    pub bus: String,
}

/// Queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues in use.
    pub receive: u32,
    /// Receive queues at most.
    pub receive_max: u32,
    /// Whether a queue receives and transmits (`combined`).
    pub combined: bool,
}

/// Descriptors per queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// To receive.
    pub receive: u32,
    /// To receive, at most.
    pub receive_max: u32,
    /// To transmit.
    pub transmit: u32,
    /// To transmit, at most.
    pub transmit_max: u32,
}

/// When the device interrupts for what it received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// At the latest after this, in microseconds.
    pub receive_us: u32,
    /// Or after so many frames.
    pub receive_frames: u32,
    /// Whether the driver changes that by itself.
    pub adaptive: bool,
}

/// How received packets are dealt to queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiveHash {
    /// The key.
    pub key: Vec<u8>,
    /// The queue by the lowest bits of the hash.
    pub table: Vec<u32>,
    /// Whether the hash is Toeplitz's, over the fields as they stand.
    pub toeplitz: bool,
}

/// Which fields of a UDP packet are hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashFields {
    /// Source and destination address.
    pub addresses: bool,
    /// Source and destination port.
    pub ports: bool,
}

/// A feature such as `rx-gro`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub on: bool,
    /// It can be switched.
    pub switchable: bool,
}

impl Ethtool {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// No socket.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::1]:0"))? })
    }

    /// Which driver it is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn driver(&self, interface: &str) -> io::Result<Driver> {
        let words = self.ask::<49>(interface, sys::GDRVINFO)?;
        let bytes = bytes_of(&words);
        let text = |from: usize, len: usize| text_of(bytes.get(from..from + len).unwrap_or_default());
        Ok(Driver { name: text(4, 32), firmware: text(68, 32), bus: text(100, 32) })
    }

    /// Queues.
    ///
    /// # Errors
    /// The kernel's.
    pub fn channels(&self, interface: &str) -> io::Result<Channels> {
        let [_, max_receive, _, _, max_combined, receive, _, _, combined] =
            self.ask(interface, sys::GCHANNELS)?;
        Ok(Channels {
            receive: receive + combined,
            receive_max: max_receive.max(max_combined),
            combined: combined > 0,
        })
    }

    /// Descriptors per queue.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rings(&self, interface: &str) -> io::Result<Rings> {
        let [_, receive_max, _, _, transmit_max, receive, _, _, transmit] =
            self.ask(interface, sys::GRINGPARAM)?;
        Ok(Rings { receive, receive_max, transmit, transmit_max })
    }

    /// When the device interrupts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn coalescing(&self, interface: &str) -> io::Result<Coalescing> {
        let words = self.ask::<23>(interface, sys::GCOALESCE)?;
        Ok(Coalescing { receive_us: words[1], receive_frames: words[2], adaptive: words[10] != 0 })
    }

    /// How received packets are dealt to queues.
    ///
    /// # Errors
    /// The kernel's, such as `EOPNOTSUPP`.
    pub fn receive_hash(&self, interface: &str) -> io::Result<ReceiveHash> {
        let mut sizes = [0; 6];
        sizes[0] = sys::GRSSH;
        sys::ethtool(self.socket.as_fd(), interface, &mut sizes)?;
        let (entries, key_bytes) = (sizes[2] as usize, sizes[3] as usize);
        if entries > 1 << 16 || key_bytes > 1 << 10 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut words = vec![0; 6 + entries + key_bytes.div_ceil(4)];
        (words[0], words[2], words[3]) = (sys::GRSSH, sizes[2], sizes[3]);
        sys::ethtool(self.socket.as_fd(), interface, &mut words)?;
        let [function, transformation, ..] = words[4].to_ne_bytes();
        let key = bytes_of(&words[6 + entries..]);
        Ok(ReceiveHash {
            key: key[..key_bytes.min(key.len())].to_vec(),
            table: words[6..6 + entries].to_vec(),
            // 0: the driver does not say, which is Toeplitz with all that have a key.
            toeplitz: matches!(function, 0 | HASH_TOEPLITZ) && transformation == 0,
        })
    }

    /// Which fields of UDP packets are hashed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hash_fields(&self, interface: &str, ipv6: bool) -> io::Result<HashFields> {
        let mut words = [0; 48];
        (words[0], words[1]) = (sys::GRXFH, if ipv6 { UDP_V6_FLOW } else { UDP_V4_FLOW });
        sys::ethtool(self.socket.as_fd(), interface, &mut words)?;
        let data = u64_at(&words, 2);
        let all = |bits: u64| data & bits == bits;
        Ok(HashFields { addresses: all(HASH_ADDRESSES), ports: all(HASH_PORTS) })
    }

    /// All features by name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn features(&self, interface: &str) -> io::Result<BTreeMap<String, Feature>> {
        let mut words = vec![0; 5];
        (words[0], words[2]) = (sys::GSSET_INFO, 1 << sys::SS_FEATURES);
        sys::ethtool(self.socket.as_fd(), interface, &mut words)?;
        let count = (words[4] as usize).min(sys::MOST_FEATURES);
        let mut names = vec![0; 3 + 8 * sys::MOST_FEATURES];
        (names[0], names[1], names[2]) = (sys::GSTRINGS, sys::SS_FEATURES, words[4]);
        sys::ethtool(self.socket.as_fd(), interface, &mut names)?;
        let names = bytes_of(&names[3..]);
        let blocks = count.div_ceil(32);
        let mut words = vec![0; 2 + 4 * blocks];
        (words[0], words[1]) = (sys::GFEATURES, blocks as u32);
        sys::ethtool(self.socket.as_fd(), interface, &mut words)?;
        let mut features = BTreeMap::new();
        for (bit, name) in names.chunks_exact(32).take(count).enumerate() {
            // available, requested, active, never changed
            let Some(&[available, _, active, never]) =
                words.get(2 + 4 * (bit / 32)..).and_then(<[u32]>::first_chunk)
            else {
                break;
            };
            let is = |mask: u32| mask >> (bit % 32) & 1 == 1;
            let feature = Feature { on: is(active), switchable: is(available) && !is(never) };
            features.insert(text_of(name), feature);
        }
        features.remove("");
        Ok(features)
    }

    /// Sends a structure of a receive rule (`struct ethtool_rxnfc`).
    pub(super) fn rule_command(&self, interface: &str, words: &mut [u32]) -> io::Result<()> {
        sys::ethtool(self.socket.as_fd(), interface, words)
    }

    fn ask<const WORDS: usize>(&self, interface: &str, command: u32) -> io::Result<[u32; WORDS]> {
        let mut words = [0; WORDS];
        words[0] = command;
        sys::ethtool(self.socket.as_fd(), interface, &mut words)?;
        Ok(words)
    }
}

/// `ETH_RSS_HASH_TOP`.
const HASH_TOEPLITZ: u8 = 1;

pub(super) const UDP_V4_FLOW: u32 = 2;
pub(super) const UDP_V6_FLOW: u32 = 6;

/// `RXH_IP_SRC`, `RXH_IP_DST`.
const HASH_ADDRESSES: u64 = 1 << 4 | 1 << 5;

/// `RXH_L4_B_0_1`, `RXH_L4_B_2_3`.
const HASH_PORTS: u64 = 1 << 6 | 1 << 7;

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The 64-bit field that begins at a word.
pub(super) fn u64_at(words: &[u32], at: usize) -> u64 {
    let bytes = bytes_of(words.get(at..at + 2).unwrap_or_default());
    bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
