//! The port table: what the program does with a datagram, by its destination port.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use rustix::time::{ClockId, clock_gettime};

use super::entry::{self, ADDRESS_WORDS, ADDRESSES, WORDS};
use crate::bpf::{Error, Hash, Overflow, SharedArray};
use crate::{FlowCounters, PayloadTypes, Rewriting, Unpromoted};

/// What the kernel needs to forward the RTP of one port by itself. Ethernet and all addresses are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFlow {
    /// The only sender.
    pub source: SocketAddr,
    /// Where packets then come from: an address of this host and a port.
    pub local: SocketAddr,
    /// Where they go to. Of the same family as `source`.
    pub remote: SocketAddr,
    /// The index of the interface that they leave by.
    pub interface: u32,
    /// Its MAC.
    pub source_mac: [u8; 6],
    /// Whose MAC they are sent to.
    pub next_hop_mac: [u8; 6],
    /// The VLAN that they leave in, 1 to 4094.
    pub vlan: Option<u16>,
    /// What is forwarded.
    pub payload_types: PayloadTypes,
    /// What changes in RTP.
    pub rewriting: Rewriting,
}

/// Why a port cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// It is open, or 0.
    #[error("the port is in use")]
    InUse,
    /// The address is not among those that [`super::XdpProgram::set_address`] was told.
    #[error("the program was not told that this address is one of this host")]
    Address,
}

/// The table: 65,536 entries, one per local UDP port, which programs and workers share. Every method is safe from any
/// thread; a port is changed by its owner only. Nothing here is a system call.
pub struct PortTable {
    pub(super) entries: SharedArray<WORDS>,
    pub(super) addresses: SharedArray<ADDRESS_WORDS>,
    /// The number of each address, for ports that are open on all.
    pub(super) numbers: Hash<[u64; 2], u32>,
    /// The address of each number; not used for packets.
    known: Mutex<Vec<Option<IpAddr>>>,
    /// The highest number that an address has had.
    highest_number: AtomicU32,
    /// Which ports forward, a bit each.
    forwarding: Vec<AtomicU64>,
    /// Packets of flows that have ended.
    ended_packets: AtomicU64,
}

impl PortTable {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            entries: SharedArray::new("sidetone_ports", 1 << 16)?,
            addresses: SharedArray::new("sidetone_addrs", ADDRESSES)?,
            numbers: Hash::new("sidetone_number", ADDRESSES, Overflow::Refuse)?,
            known: Mutex::new(vec![None; ADDRESSES as usize]),
            highest_number: AtomicU32::new(0),
            forwarding: (0..1024).map(|_| AtomicU64::new(0)).collect(),
            ended_packets: AtomicU64::new(0),
        })
    }

    /// Has datagrams to this port come to user space: those to `local`, or to any address of this host if that is
    /// unspecified (of IPv4 if it is 0.0.0.0).
    ///
    /// # Errors
    /// [`PortError`].
    pub fn open(&self, port: u16, local: IpAddr) -> Result<(), PortError> {
        let entry = self.entry(port);
        let head = entry[0].load(Relaxed);
        if port == 0 || head & entry::STATE != entry::CLOSED {
            return Err(PortError::InUse);
        }
        let local = local.to_canonical();
        // Held until the number is in the entry, where a removal looks for it.
        let known = self.known();
        let unspecified = local.is_unspecified();
        let number = if unspecified { 0 } else { self.number(&known, local).ok_or(PortError::Address)? };
        entry[1..].iter().for_each(|word| word.store(0, Release));
        let any_ipv6 = if local.is_ipv6() { entry::ANY_IPV6 } else { 0 };
        let head = next_generation(head) | entry::OPEN | any_ipv6 | number << entry::ADDRESS_IN;
        entry[0].store(head, Release);
        Ok(())
    }

    /// Has datagrams to this port go to the kernel again.
    pub fn close(&self, port: u16) {
        self.demote(port);
        let entry = self.entry(port);
        entry[0].store(next_generation(entry[0].load(Relaxed)), Release);
    }

    /// Has the program drop what comes to an open port from anyone but `remote`, or take it from anyone again. Ends a
    /// flow from somebody else.
    pub fn connect(&self, port: u16, remote: Option<SocketAddr>) {
        let remote = remote.map(canonical);
        let entry = self.entry(port);
        let head = entry[0].load(Relaxed);
        if head & entry::STATE == entry::FORWARD {
            if remote.is_some_and(|remote| source_of(entry, head) == Some(remote)) {
                return;
            }
            self.demote(port);
        }
        let head = entry[0].load(Relaxed);
        if head & entry::STATE != entry::OPEN {
            return;
        }
        let free = head & !(entry::CONNECTED | entry::SOURCE_IPV6 | 0xffff << entry::SOURCE_PORT);
        entry[0].store(free, Release);
        let Some(remote) = remote else { return };
        for (word, value) in entry[1..3].iter().zip(entry::words(remote.ip())) {
            word.store(value, Release);
        }
        entry[0].store(free | connected(remote), Release);
    }

    /// Has the senders to a port of the kernel (SIP) counted against the flood limit; the rest goes on to the kernel.
    ///
    /// # Errors
    /// [`PortError::InUse`].
    pub fn guard(&self, port: u16) -> Result<(), PortError> {
        let entry = self.entry(port);
        let head = entry[0].load(Relaxed);
        if port == 0 || head & entry::STATE != entry::CLOSED {
            return Err(PortError::InUse);
        }
        entry[0].store(next_generation(head) | entry::GUARDED, Release);
        Ok(())
    }

    /// Has the kernel forward the RTP that comes to an open port; replaces the flow that was there, whose figures are
    /// lost. The port is connected to [`KernelFlow::source`] then.
    ///
    /// # Errors
    /// [`Unpromoted::Port`] if it is not open; [`Unpromoted::Program`] for what the program cannot do: other families on
    /// the two sides, an address of the host that it was not told, a VLAN that is none.
    pub fn promote(&self, port: u16, flow: &KernelFlow) -> Result<(), Unpromoted> {
        self.demote(port);
        let entry = self.entry(port);
        let head = entry[0].load(Relaxed);
        if head & entry::STATE != entry::OPEN {
            return Err(Unpromoted::Port);
        }
        let [source, local, remote] = [flow.source, flow.local, flow.remote].map(canonical);
        if remote.is_ipv6() != source.is_ipv6()
            || local.is_ipv6() != source.is_ipv6()
            || local.ip().is_unspecified()
            || flow.vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan))
        {
            return Err(Unpromoted::Program);
        }
        // Held until the number is in the entry, where a removal looks for it.
        let known = self.known();
        let number = self.number(&known, local.ip()).ok_or(Unpromoted::Program)?;
        let arrived = head >> entry::ADDRESS_IN & 0xff;
        // 0: from the address that the packet was sent to, which saves a lookup.
        let out = if number == arrived { 0 } else { number };
        self.connect(port, Some(flow.source));
        for (word, value) in entry[3..].iter().zip(flow_words(flow)) {
            word.store(value, Release);
        }
        let head = entry[0].load(Relaxed);
        let kept = head & entry::KEPT & !entry::GENERATION;
        let mut head = next_generation(head) | kept | entry::FORWARD | out << entry::ADDRESS_OUT;
        if let Some(vlan) = flow.vlan {
            head |= entry::VLAN | entry::wire(vlan) << entry::TAG;
        }
        if flow.rewriting.ssrc.is_some() {
            head |= entry::NEW_SSRC;
        }
        if (flow.rewriting.sequence_offset, flow.rewriting.timestamp_offset) != (0, 0) {
            head |= entry::NEW_NUMBERS;
        }
        self.forwarding[usize::from(port >> 6)].fetch_or(1 << (port & 63), Relaxed);
        entry[0].store(head, Release);
        Ok(())
    }

    /// Has what comes to a port come to user space again; answers the figures of the flow, or `None` if there was none.
    /// A packet that the program is handling at this moment goes by the flow that it has read, or to user space; it may
    /// be missing in the figures.
    pub fn demote(&self, port: u16) -> Option<FlowCounters> {
        let entry = self.entry(port);
        let head = entry[0].load(Relaxed);
        if head & entry::STATE != entry::FORWARD {
            return None;
        }
        let kept = head & entry::KEPT & !entry::GENERATION;
        entry[0].store(next_generation(head) | kept | entry::OPEN, Release);
        fence(Acquire);
        let counters = flow_counters(entry);
        self.ended_packets.fetch_add(counters.packets, Relaxed);
        self.forwarding[usize::from(port >> 6)].fetch_and(!(1 << (port & 63)), Relaxed);
        Some(counters)
    }

    /// The figures of the flow of a port; `None` if there is none.
    #[must_use]
    pub fn counters(&self, port: u16) -> Option<FlowCounters> {
        let entry = self.entry(port);
        (entry[0].load(Relaxed) & entry::STATE == entry::FORWARD).then(|| flow_counters(entry))
    }

    /// How many datagrams from others the program has dropped since the port was opened or promoted.
    #[must_use]
    pub fn strangers(&self, port: u16) -> u64 {
        self.entry(port)[5].load(Relaxed)
    }

    /// Packets forwarded of all flows, past and present.
    pub(crate) fn forwarded(&self) -> u64 {
        let mut packets = self.ended_packets.load(Relaxed);
        for (at, bits) in self.forwarding.iter().enumerate() {
            let mut bits = bits.load(Relaxed);
            while bits != 0 {
                let port = at * 64 + bits.trailing_zeros() as usize;
                packets += self.entry(port as u16)[4].load(Relaxed);
                bits &= bits - 1;
            }
        }
        packets
    }

    /// Tells the program an address of this host and the MAC that packets to it are sent to.
    pub(crate) fn set_address(&self, ip: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let mut known = self.known();
        let same = known.iter().position(|known| *known == Some(ip));
        let free = || known.iter().skip(1).position(Option::is_none).map(|place| place + 1);
        let number = same.or_else(free).ok_or_else(|| {
            io::Error::new(io::ErrorKind::StorageFull, "the XDP program knows 255 addresses at most")
        })?;
        let Some(entry) = self.addresses.entry(number as u32) else { return Ok(()) };
        for (word, value) in entry.iter().zip(entry::words(ip)) {
            word.store(value, Release);
        }
        let [a, b, c, d, e, f] = mac;
        let family = if ip.is_ipv6() { 6 } else { 4 };
        entry[2].store(u64::from_ne_bytes([family, 0, a, b, c, d, e, f]), Release);
        self.numbers.set(entry::words(ip), number as u32)?;
        known[number] = Some(ip);
        self.highest_number.fetch_max(number as u32, Release);
        Ok(())
    }

    /// Whether this is an address of this host. No lock and no system call, a few loads per address.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        let [high, low] = entry::words(ip);
        let numbers = 1..=self.highest_number.load(Acquire);
        numbers.filter_map(|number| self.addresses.entry(number)).any(|[known_high, known_low, mac]| {
            known_high.load(Relaxed) == high && known_low.load(Relaxed) == low && mac.load(Relaxed) != 0
        })
    }

    /// Datagrams to this address go to the kernel from now on. Its number is not given to another address while ports
    /// are open that name it: the caller closes them first.
    pub(crate) fn remove_address(&self, ip: IpAddr) -> io::Result<()> {
        let number = {
            let known = self.known();
            let Some(number) = known.iter().position(|known| *known == Some(ip)) else { return Ok(()) };
            if let Some(entry) = self.addresses.entry(number as u32) {
                entry[2].store(0, Release);
            }
            self.numbers.remove(entry::words(ip))?;
            number
        };
        // Not under the lock, which workers take: nobody enters the number from now on unless it is set again.
        let named = (0..=u16::MAX).any(|port| {
            let head = self.entry(port)[0].load(Acquire);
            let number = number as u64;
            head & entry::STATE != entry::CLOSED
                && (head >> entry::ADDRESS_IN & 0xff == number || head >> entry::ADDRESS_OUT & 0xff == number)
        });
        let mut known = self.known();
        if !named && known[number] == Some(ip) && !self.is_set(number) {
            known[number] = None;
        }
        Ok(())
    }

    /// The number of an address that is set.
    fn number(&self, known: &[Option<IpAddr>], ip: IpAddr) -> Option<u64> {
        let number = known.iter().position(|known| *known == Some(ip)).filter(|number| self.is_set(*number));
        number.map(|number| number as u64)
    }

    /// Whether the program takes packets to the address of this number.
    fn is_set(&self, number: usize) -> bool {
        self.addresses.entry(number as u32).is_some_and(|entry| entry[2].load(Relaxed) != 0)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Option<IpAddr>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, port: u16) -> &[AtomicU64; WORDS] {
        self.entries.entry(port.into()).expect("the table has an entry for every port")
    }
}

impl fmt::Debug for PortTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PortTable").finish_non_exhaustive()
    }
}

/// The head of a closed port after this one.
const fn next_generation(head: u64) -> u64 {
    (head & entry::GENERATION).wrapping_add(entry::GENERATION_STEP) & entry::GENERATION
}

/// An IPv4 address that is written as IPv6 becomes IPv4.
const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The bits of the head that say who is believed.
fn connected(remote: SocketAddr) -> u64 {
    let family = if remote.is_ipv6() { entry::SOURCE_IPV6 } else { 0 };
    entry::CONNECTED | family | entry::wire(remote.port()) << entry::SOURCE_PORT
}

/// Whom a port is connected to.
fn source_of(entry: &[AtomicU64; WORDS], head: u64) -> Option<SocketAddr> {
    if head & entry::CONNECTED == 0 {
        return None;
    }
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(8).zip(&entry[1..3]) {
        to.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
    }
    let ip = IpAddr::from(octets);
    let ip = if head & entry::SOURCE_IPV6 == 0 { ip.to_canonical() } else { ip };
    Some(SocketAddr::new(ip, u16::from_be((head >> entry::SOURCE_PORT) as u16)))
}

/// Words 3 to 15 of a flow that has not begun.
fn flow_words(flow: &KernelFlow) -> [u64; WORDS - 3] {
    let [remote_high, remote_low] = entry::words(flow.remote.ip());
    let ports = entry::wire(flow.local.port()) | entry::wire(flow.remote.port()) << 16;
    let [a, b, c, d, e, f] = flow.next_hop_mac;
    let [g, h, i, j, k, l] = flow.source_mac;
    let source_end = u64::from(u32::from_ne_bytes([i, j, k, l]));
    let ssrc = u64::from(flow.rewriting.ssrc.unwrap_or(0).to_be());
    let [types, types_high] = entry::payload_types(flow.payload_types);
    [
        0,
        0,
        0,
        0,
        0,
        remote_high,
        remote_low,
        ports | u64::from(flow.interface) << 32,
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        source_end | u64::from(flow.rewriting.sequence_offset) << 48,
        ssrc | u64::from(flow.rewriting.timestamp_offset) << 32,
        types,
        types_high,
    ]
}

fn flow_counters(entry: &[AtomicU64; WORDS]) -> FlowCounters {
    let word = |number: usize| entry[number].load(Relaxed);
    let packets = word(4);
    FlowCounters {
        packets,
        bytes: word(3),
        strangers: word(5),
        last_seen: (packets > 0).then(|| since(word(7) as u32)),
        ssrc: word(6) as u32,
        highest_sequence: (word(6) >> 32) as u32,
        first_sequence: (word(12) >> 32) as u16,
        jitter: (word(15) >> 32) as u32,
    }
}

/// The moment on the monotonic clock that the program's ticks were at `seen`, within the last 74 hours.
fn since(seen: u32) -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
    let age = (entry::ticks(now.as_nanos() as u64) as u32).wrapping_sub(seen);
    // In the future by another CPU's clock.
    let age = if age > u32::MAX / 2 { 0 } else { age };
    now.saturating_sub(Duration::from_nanos(u64::from(age) * entry::TICK_NANOSECONDS))
}
