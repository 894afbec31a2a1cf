//! Rules by which a network interface sends UDP packets for a range of ports to one of its receive queues (n-tuple
//! filters), for as long as the value lives.

use std::io;
use std::ops::RangeInclusive;

use super::ethtool::{Ethtool, UDP_V4_FLOW, UDP_V6_FLOW, u64_at};
use crate::sys::ethtool::{GRXCLSRLALL, GRXCLSRLCNT, GRXCLSRULE, SRXCLSRLDEL, SRXCLSRLINS};

/// The rules that are set; dropped, they are removed. A process that is killed leaves them, and the next one that is
/// asked for the same takes them away first: meanwhile they do no harm, because the kernel receives by any queue.
#[derive(Debug)]
pub struct Steering {
    ethtool: Ethtool,
    interface: String,
    /// Where in the driver's table.
    locations: Vec<u32>,
}

/// Packets to these ports go to that queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortQueue {
    /// Destination ports.
    pub ports: RangeInclusive<u16>,
    /// The queue.
    pub queue: u32,
}

impl Steering {
    /// Sets the rules for IPv4 and IPv6, all or none.
    ///
    /// # Errors
    /// The driver's: most cannot (`EOPNOTSUPP`), some only in part (`EINVAL` for a range of ports), or the table is full
    /// (`ENOSPC`); `EPERM` without CAP_NET_ADMIN.
    pub fn set(ethtool: Ethtool, interface: &str, wanted: &[PortQueue]) -> io::Result<Self> {
        let mut steering = Self { ethtool, interface: interface.to_owned(), locations: Vec::new() };
        let rules: Vec<Rule> = wanted.iter().flat_map(rules_for).collect();
        let table = steering.table()?;
        if rules.len() > MOST_RULES {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let stale: Vec<u32> = table
            .rules
            .iter()
            .filter(|(_, rule)| rules.contains(rule))
            .map(|(location, _)| *location)
            .collect();
        for location in &stale {
            steering.remove(*location)?;
        }
        let taken =
            |location: &u32| table.rules.iter().any(|(at, _)| at == location) && !stale.contains(location);
        // From the end, where drivers that look at rules in order look last: an operator's rules come first.
        let mut free = (0..table.size).rev().filter(|location| !taken(location));
        for rule in rules {
            let location = if table.chooses {
                ANY_LOCATION
            } else {
                free.next().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?
            };
            // What was set so far is removed when this is dropped.
            let location = steering.insert(&rule, location)?;
            steering.locations.push(location);
        }
        Ok(steering)
    }

    /// How many rules are set.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.locations.len()
    }

    fn table(&self) -> io::Result<Table> {
        let mut words = [0; WORDS];
        words[0] = GRXCLSRLCNT;
        self.ethtool.rule_command(&self.interface, &mut words)?;
        let (count, flags) = (words[RULE_COUNT].min(1 << 16), u64_at(&words, DATA));
        let mut list = vec![0; WORDS + count as usize];
        (list[0], list[RULE_COUNT]) = (GRXCLSRLALL, count);
        let mut table = Table { chooses: flags >> 31 & 1 == 1, size: 0, rules: Vec::new() };
        self.ethtool.rule_command(&self.interface, &mut list)?;
        table.size = u64_at(&list, DATA).min(1 << 16) as u32;
        let known = (list[RULE_COUNT].min(count)) as usize;
        for &location in list.get(LOCATIONS..LOCATIONS + known).unwrap_or_default() {
            let mut words = [0; WORDS];
            (words[0], words[LOCATION]) = (GRXCLSRULE, location);
            if self.ethtool.rule_command(&self.interface, &mut words).is_ok()
                && let Some(rule) = Rule::decode(&words)
            {
                table.rules.push((location, rule));
            } else {
                // Someone else's; its place is taken.
                table.rules.push((location, Rule::FOREIGN));
            }
        }
        Ok(table)
    }

    fn insert(&self, rule: &Rule, location: u32) -> io::Result<u32> {
        let mut words = rule.encode(location);
        self.ethtool.rule_command(&self.interface, &mut words)?;
        Ok(words[LOCATION])
    }

    fn remove(&self, location: u32) -> io::Result<()> {
        let mut words = [0; WORDS];
        (words[0], words[LOCATION]) = (SRXCLSRLDEL, location);
        self.ethtool.rule_command(&self.interface, &mut words)
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        for &location in &self.locations {
            // An interface that is gone has no rules.
            let _ = self.remove(location);
        }
    }
}

struct Table {
    /// Whether the driver chooses the place of a rule (`RX_CLS_LOC_SPECIAL`).
    chooses: bool,
    size: u32,
    rules: Vec<(u32, Rule)>,
}

/// UDP packets whose destination port, as far as `mask` has bits, is `port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    ipv6: bool,
    port: u16,
    mask: u16,
    queue: u32,
}

impl Rule {
    /// No rule of ours has an empty mask.
    const FOREIGN: Self = Self { ipv6: false, port: 0, mask: 0, queue: u32::MAX };

    /// `struct ethtool_rxnfc` with SRXCLSRLINS: what is to be compared has ones in the mask (`m_u`).
    fn encode(&self, location: u32) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        words[0] = SRXCLSRLINS;
        words[FLOW] = if self.ipv6 { UDP_V6_FLOW } else { UDP_V4_FLOW };
        put_u16(&mut words, VALUES + self.port_offset(), self.port);
        put_u16(&mut words, MASKS + self.port_offset(), self.mask);
        // A queue of the device itself: the upper half, which names virtual functions, is zero.
        let cookie = u64::from(self.queue).to_ne_bytes();
        let (low, high) = cookie.split_at(4);
        for (word, bytes) in words[COOKIE..].iter_mut().zip([low, high]) {
            *word = bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        }
        words[LOCATION] = location;
        words
    }

    /// `None`: a rule that this module would not have made.
    fn decode(words: &[u32; WORDS]) -> Option<Self> {
        let ipv6 = match words[FLOW] {
            UDP_V4_FLOW => false,
            UDP_V6_FLOW => true,
            _ => return None,
        };
        let mut rule = Self { ipv6, port: 0, mask: 0, queue: u32::try_from(u64_at(words, COOKIE)).ok()? };
        rule.port = u16_at(words, VALUES + rule.port_offset());
        rule.mask = u16_at(words, MASKS + rule.port_offset());
        // Nothing else is compared.
        let (ours, theirs) = (rule.encode(words[LOCATION]), words);
        (ours[MASKS / 4..COOKIE] == theirs[MASKS / 4..COOKIE] && rule.mask != 0).then_some(rule)
    }

    /// Where `pdst` is in the values of a flow.
    const fn port_offset(&self) -> usize {
        if self.ipv6 { 34 } else { 10 }
    }
}

/// The rules for a range: one per block of ports that a mask describes.
fn rules_for(wanted: &PortQueue) -> impl Iterator<Item = Rule> {
    let queue = wanted.queue;
    blocks(&wanted.ports)
        .into_iter()
        .flat_map(move |(port, mask)| [false, true].map(|ipv6| Rule { ipv6, port, mask, queue }))
}

/// A range of ports as blocks of two to the n that begin at multiples of their size: first port and mask.
fn blocks(ports: &RangeInclusive<u16>) -> Vec<(u16, u16)> {
    let (mut from, end) = (u32::from(*ports.start()), u32::from(*ports.end()) + 1);
    let mut blocks = Vec::new();
    while from < end {
        let aligned = if from == 0 { 16 } else { from.trailing_zeros() };
        let size = 1 << aligned.min((end - from).ilog2());
        blocks.push((from as u16, !(size - 1) as u16));
        from += size;
    }
    blocks
}

fn put_u16(words: &mut [u32; WORDS], byte: usize, value: u16) {
    let mut bytes = words[byte / 4].to_ne_bytes();
    // Network byte order.
    bytes[byte % 4..byte % 4 + 2].copy_from_slice(&value.to_be_bytes());
    words[byte / 4] = u32::from_ne_bytes(bytes);
}

fn u16_at(words: &[u32; WORDS], byte: usize) -> u16 {
    let bytes = words[byte / 4].to_ne_bytes();
    u16::from_be_bytes([bytes[byte % 4], bytes[byte % 4 + 1]])
}

/// More rules than any port range takes; a driver's table is not filled with more.
const MOST_RULES: usize = 2048;

/// `RX_CLS_LOC_ANY`.
const ANY_LOCATION: u32 = 0xffff_ffff;

// `struct ethtool_rxnfc` in words, or in bytes where a field is shorter than a word.
const WORDS: usize = 48;
const DATA: usize = 2;
const FLOW: usize = 4;
const VALUES: usize = 20;
const MASKS: usize = 92;
const COOKIE: usize = 42;
const LOCATION: usize = 44;
const RULE_COUNT: usize = 46;
const LOCATIONS: usize = 47;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rule_is_laid_out_as_the_kernel_has_it() {
        let rule = Rule { ipv6: false, port: 0x4e20, mask: 0xffe0, queue: 3 };
        let bytes: Vec<u8> = rule.encode(ANY_LOCATION).iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes.len(), 192);
        // offsetof(fs.h_u) + offsetof(pdst), and the same in fs.m_u.
        assert_eq!(bytes[16 + 4 + 10..16 + 4 + 12], [0x4e, 0x20]);
        assert_eq!(bytes[16 + 76 + 10..16 + 76 + 12], [0xff, 0xe0]);
        assert_eq!(bytes[16 + 152..16 + 160], 3u64.to_ne_bytes());
        assert_eq!(bytes[16 + 160..16 + 164], [0xff; 4]);
        let rule = Rule { ipv6: true, ..rule };
        let bytes: Vec<u8> = rule.encode(5).iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes[16 + 4 + 34..16 + 4 + 36], [0x4e, 0x20]);
        assert_eq!(Rule::decode(&rule.encode(5)), Some(rule));
    }

    #[test]
    fn a_rule_that_compares_more_is_not_ours() {
        let mut words = Rule { ipv6: false, port: 20_000, mask: 0xffff, queue: 0 }.encode(1);
        words[MASKS / 4] = u32::MAX;
        assert_eq!(Rule::decode(&words), None);
        assert_eq!(Rule::decode(&[0; WORDS]), None);
    }

    #[test]
    fn a_driver_without_rules_refuses() {
        let wanted = [PortQueue { ports: 20_000..=29_999, queue: 0 }];
        let error =
            Steering::set(Ethtool::new().expect("a socket"), "lo", &wanted).expect_err("lo has no queues");
        assert!(matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)), "{error}");
    }

    proptest! {
        #[test]
        fn blocks_cover_a_range_once_and_nothing_else(one: u16, two: u16) {
            let ports = one.min(two)..=one.max(two);
            let blocks = blocks(&ports);
            prop_assert!(blocks.len() <= 30);
            for port in [0, one.saturating_sub(1), one, one / 2 + two / 2, two, two.saturating_add(1), u16::MAX] {
                let covered = blocks.iter().filter(|(first, mask)| port & mask == *first).count();
                prop_assert_eq!(covered, usize::from(ports.contains(&port)));
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(ipv6: bool, port: u16, mask in 1u16.., queue in 0u32..4096, location: u32) {
            let rule = Rule { ipv6, port, mask, queue };
            prop_assert_eq!(Rule::decode(&rule.encode(location)), Some(rule));
        }

        #[test]
        fn any_rule_of_a_driver_is_read(words in prop::collection::vec(any::<u32>(), WORDS)) {
            let words: [u32; WORDS] = words.try_into().expect("as many");
            let _ = Rule::decode(&words);
        }
    }
}
