//! The table that workers read and one thread writes: sets of slots, each slot a sequence lock of plain atomics.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::{NextHop, Request, Way};
use crate::wire::{Hop, MacAddress};

/// Answers by remote address.
#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    seed: Seed,
    round: AtomicU32,
}

/// One answer, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// Odd while it is being written.
    version: AtomicU32,
    /// The round in which it was last looked up.
    used: AtomicU32,
    /// The address, IPv4 as mapped IPv6: upper and lower half.
    key: [AtomicU64; 2],
    /// State in the upper 16 bits, destination MAC; VLAN in the upper 16 bits, source MAC.
    hop: [AtomicU64; 2],
    /// The source address, like the key; zero for none.
    source: [AtomicU64; 2],
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotIndex(u32);

impl Table {
    pub(super) fn new() -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(SETS * WAYS).collect();
        Self { slots, seed: Seed::new(), round: AtomicU32::new(0) }
    }

    /// What is known of `remote`; `None` if it is not in the table. Marks it as in use.
    #[inline]
    pub(super) fn lookup(&self, remote: IpAddr, interface: u32) -> Option<Way> {
        let key = key(remote);
        for slot in self.set(key) {
            let [upper, lower] = &slot.key;
            if (upper.load(Ordering::Relaxed), lower.load(Ordering::Relaxed)) != halves(key) {
                continue;
            }
            for _ in 0..TRIES {
                let version = slot.version.load(Ordering::Acquire);
                let found = slot.key.each_ref().map(|half| half.load(Ordering::Relaxed));
                let hop = slot.hop.each_ref().map(|half| half.load(Ordering::Relaxed));
                let source = slot.source.each_ref().map(|half| half.load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if version & 1 == 1 || slot.version.load(Ordering::Relaxed) != version {
                    std::hint::spin_loop();
                    continue;
                }
                if (found[0], found[1]) != halves(key) || hop[0] >> 48 == EMPTY {
                    break;
                }
                let round = self.round.load(Ordering::Relaxed);
                if slot.used.load(Ordering::Relaxed) != round {
                    slot.used.store(round, Ordering::Relaxed);
                }
                return Some(to_way(hop, source, interface));
            }
        }
        None
    }

    /// A slot for a new entry: a free one, or else that of its set which was looked up the longest ago, with the
    /// address that must go from there.
    pub(super) fn place(&self, remote: IpAddr) -> (SlotIndex, Option<IpAddr>) {
        let start = self.set_start(key(remote));
        let round = self.round.load(Ordering::Relaxed);
        let free = |index: &usize| self.slots[*index].hop[0].load(Ordering::Relaxed) >> 48 == EMPTY;
        if let Some(index) = (start..start + WAYS).find(free) {
            return (SlotIndex(index as u32), None);
        }
        let age = |index: &usize| round.wrapping_sub(self.slots[*index].used.load(Ordering::Relaxed));
        let index = (start..start + WAYS).max_by_key(age).unwrap_or(start);
        let [upper, lower] = self.slots[index].key.each_ref().map(|half| half.load(Ordering::Relaxed));
        (SlotIndex(index as u32), Some(to_ip(upper, lower)))
    }

    /// Writes an entry. To be called by one thread only.
    pub(super) fn write(&self, index: SlotIndex, remote: IpAddr, way: &Way) {
        let (state, hop, source) = match way {
            Way::Known(hop) => (KNOWN, hop.hop, hop.source),
            Way::Elsewhere => (ELSEWHERE, NO_HOP, None),
            Way::Unknown => (UNKNOWN, NO_HOP, None),
        };
        let vlan = hop.vlan.map_or(0, |vlan| TAGGED | u64::from(vlan & VLAN_ID));
        let (upper, lower) = source.map_or((0, 0), |ip| halves(key(ip)));
        let hop = [state << 48 | from_mac(hop.destination_mac), vlan << 48 | from_mac(hop.source_mac)];
        self.store(index, halves(key(remote)), hop, (upper, lower));
    }

    /// Frees a slot. To be called by the thread that writes.
    pub(super) fn clear(&self, index: SlotIndex) {
        self.store(index, (0, 0), [EMPTY << 48, 0], (0, 0));
    }

    fn store(&self, index: SlotIndex, key: (u64, u64), hop: [u64; 2], source: (u64, u64)) {
        let slot = &self.slots[index.0 as usize];
        let version = slot.version.load(Ordering::Relaxed);
        slot.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // What follows is not seen before the odd version.
        fence(Ordering::Release);
        slot.key[0].store(key.0, Ordering::Relaxed);
        slot.key[1].store(key.1, Ordering::Relaxed);
        slot.hop[0].store(hop[0], Ordering::Relaxed);
        slot.hop[1].store(hop[1], Ordering::Relaxed);
        slot.source[0].store(source.0, Ordering::Relaxed);
        slot.source[1].store(source.1, Ordering::Relaxed);
        slot.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Begins a round.
    pub(super) fn next_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    /// How many rounds ago an entry was last looked up.
    pub(super) fn idle_rounds(&self, index: SlotIndex) -> u32 {
        let used = self.slots[index.0 as usize].used.load(Ordering::Relaxed);
        self.round.load(Ordering::Relaxed).wrapping_sub(used)
    }

    /// Marks an entry as in use.
    pub(super) fn touch(&self, index: SlotIndex) {
        let round = self.round.load(Ordering::Relaxed);
        self.slots[index.0 as usize].used.store(round, Ordering::Relaxed);
    }

    fn set_start(&self, key: u128) -> usize {
        self.seed.hash(key) as usize % SETS * WAYS
    }

    #[inline]
    fn set(&self, key: u128) -> &[Slot] {
        let start = self.set_start(key);
        &self.slots[start..start + WAYS]
    }
}

/// What has been asked of the thread and is not answered yet, so that it is asked once. Two requests in the same place
/// are asked for in turn.
#[derive(Debug)]
pub(super) struct Asked {
    marks: Box<[AtomicU64]>,
    seed: Seed,
}

impl Asked {
    pub(super) fn new() -> Self {
        let marks = std::iter::repeat_with(AtomicU64::default).take(MARKS).collect();
        Self { marks, seed: Seed::new() }
    }

    /// Whether it was not marked yet.
    pub(super) fn mark(&self, request: &Request) -> bool {
        let (mark, hash) = self.place(request);
        // Read first: a line that many workers ask for stays shared.
        mark.load(Ordering::Relaxed) != hash && mark.swap(hash, Ordering::AcqRel) != hash
    }

    pub(super) fn clear(&self, request: &Request) {
        let (mark, hash) = self.place(request);
        let _ = mark.compare_exchange(hash, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn place(&self, request: &Request) -> (&AtomicU64, u64) {
        let hash = match request {
            Request::Resolve(ip) => self.seed.hash(key(*ip)),
            Request::Learn(ip, mac) => self.seed.hash(key(*ip) ^ u128::from(from_mac(*mac) << 16 | 1)),
        };
        // Zero means no mark.
        (&self.marks[hash as usize % MARKS], hash | 1 << 63)
    }
}

/// A keyed hash, so that nobody outside can choose addresses that fall into one set.
#[derive(Debug)]
struct Seed([u64; 3]);

impl Seed {
    fn new() -> Self {
        let random = RandomState::new();
        Self([1u8, 2, 3].map(|number| random.hash_one(number)))
    }

    #[inline]
    fn hash(&self, key: u128) -> u64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        let [a, b, c] = self.0;
        let (upper, lower) = halves(key);
        fold(fold(upper ^ a, lower ^ b) ^ c, ODD)
    }
}

#[inline]
pub(super) fn key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn to_ip(upper: u64, lower: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower))).to_canonical()
}

#[inline]
pub(super) const fn halves(key: u128) -> (u64, u64) {
    ((key >> 64) as u64, key as u64)
}

#[inline]
fn to_way(hop: [u64; 2], source: [u64; 2], interface: u32) -> Way {
    match hop[0] >> 48 {
        KNOWN => {
            let vlan = hop[1] >> 48;
            Way::Known(NextHop {
                hop: Hop {
                    source_mac: to_mac(hop[1]),
                    destination_mac: to_mac(hop[0]),
                    vlan: (vlan & TAGGED != 0).then_some(vlan as u16 & VLAN_ID),
                },
                interface,
                source: (source != [0; 2]).then(|| to_ip(source[0], source[1])),
            })
        }
        ELSEWHERE => Way::Elsewhere,
        _ => Way::Unknown,
    }
}

#[inline]
pub(super) const fn from_mac(mac: MacAddress) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[inline]
pub(super) const fn to_mac(bits: u64) -> MacAddress {
    let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
    MacAddress([a, b, c, d, e, f])
}

/// With 16,384 peers two in a set of eight on average: one in some ten thousand finds its set full.
const SETS: usize = 8192;
const WAYS: usize = 8;

/// Requests that can be told apart.
const MARKS: usize = 4096;

/// Looks at an entry that is just being written.
const TRIES: usize = 4;

const EMPTY: u64 = 0;
const KNOWN: u64 = 1;
const ELSEWHERE: u64 = 2;
const UNKNOWN: u64 = 3;

/// In the upper 16 bits of the source MAC: that there is a tag.
const TAGGED: u64 = 1 << 15;
const VLAN_ID: u16 = 0xfff;

const NO_HOP: Hop = Hop { source_mac: MacAddress([0; 6]), destination_mac: MacAddress([0; 6]), vlan: None };

/// The golden ratio's fraction, an odd number of mixed bits.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
