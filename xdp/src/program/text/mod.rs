//! The XDP program as instructions. `xdp/bpf/xdp.c` says the same in C.
//!
//! The text is written out once per shape of a packet (IPv4 or IPv6, with or without a VLAN tag), so that every offset
//! is a constant. What a packet of a forwarded flow runs through has no jump back, one lookup in the port table, one
//! for the local address, and one call for the time.
//!
//! Registers that are kept: `R6` context, `R7` frame, `R8` its end, `R9` entry of the port table.

mod forward;

use super::counters::Event;
use super::entry;
use super::maps::Maps;
use crate::bpf::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use crate::bpf::{
    Assembler, Atomic, BuildError, Code, Condition, Helper, Label, Mode, Register, Size, Verdict, Width,
};

/// Where packets of one shape have their headers.
#[derive(Clone, Copy, Debug)]
struct Shape {
    vlan: bool,
    ipv6: bool,
}

impl Shape {
    const fn ip(self) -> i16 {
        if self.vlan { 18 } else { 14 }
    }

    const fn udp(self) -> i16 {
        self.ip() + if self.ipv6 { 40 } else { 20 }
    }

    const fn rtp(self) -> i16 {
        self.udp() + 8
    }

    /// The first byte of the source address; the destination follows.
    const fn source(self) -> i16 {
        self.ip() + if self.ipv6 { 8 } else { 12 }
    }

    const fn destination(self) -> i16 {
        self.source() + if self.ipv6 { 16 } else { 4 }
    }
}

// The stack, down from R10.
/// A key of 4 or 8 bytes.
const KEY: i16 = -8;
/// A key or value of 16 bytes.
const WIDE: i16 = -24;
/// The head of the entry as it was read first.
const HEAD: i16 = -32;
/// UDP length.
const LENGTH: i16 = -40;
/// The new source address; of IPv4 the last four bytes.
const SOURCE: i16 = -56;
/// How to forward: a copy of the entry's words.
const FLOW: i16 = -104;

/// Whether a CPU loads in the order of the program, which comparing an entry's head before and after relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loads {
    /// It does.
    Ordered,
    /// It may not.
    Unordered,
}

impl Loads {
    /// Of the CPU that this is compiled for.
    pub(super) const HERE: Self =
        if cfg!(any(target_arch = "x86_64", target_arch = "x86")) { Self::Ordered } else { Self::Unordered };
}

/// Places that all shapes share.
struct Text<'m> {
    code: Assembler<'m>,
    maps: &'m Maps,
    flood_limit: Option<i32>,
    mode: Mode,
    loads: Loads,
    /// One per event, in their order.
    events: Vec<Label>,
    stranger: Label,
    limited: Label,
    send: Label,
}

/// Writes the program for one way of attaching it. Senders to ports that are not connected may send `flood_limit` packets per second.
pub(super) fn text(
    maps: &Maps,
    flood_limit: Option<i32>,
    mode: Mode,
    loads: Loads,
) -> Result<Code<'_>, BuildError> {
    let mut code = Assembler::new();
    let events = Event::ALL.iter().map(|_| code.label()).collect();
    let [stranger, limited, send] = std::array::from_fn(|_| code.label());
    let mut text = Text { code, maps, flood_limit, mode, loads, events, stranger, limited, send };
    text.shapes();
    text.strangers();
    text.floods();
    text.sending();
    text.ends();
    text.code.build()
}

impl<'m> Text<'m> {
    /// Tells the four shapes apart.
    fn shapes(&mut self) {
        let short = self.event(Event::PassedShort);
        let code = &mut self.code;
        code.mov(R6, R1).load(Size::Word, R7, R6, 0).load(Size::Word, R8, R6, 4);
        code.mov(R1, R7).add(R1, 42).branch(Condition::Greater, R1, R8, short);
        code.load(Size::Half, R1, R7, 12);
        let [other, tagged, ipv6, tagged_ipv6] = std::array::from_fn(|_| code.label());
        code.branch(Condition::NotEqual, R1, IPV4, other);
        self.shape(Shape { vlan: false, ipv6: false });

        let ethertype = self.event(Event::PassedEthertype);
        let code = &mut self.code;
        code.bind(other).branch(Condition::Equal, R1, IPV6, ipv6);
        code.branch(Condition::NotEqual, R1, VLAN, ethertype).load(Size::Half, R1, R7, 16);
        code.branch(Condition::Equal, R1, IPV4, tagged).branch(Condition::Equal, R1, IPV6, tagged_ipv6);
        code.jump(ethertype);
        for (label, shape) in [
            (tagged, Shape { vlan: true, ipv6: false }),
            (ipv6, Shape { vlan: false, ipv6: true }),
            (tagged_ipv6, Shape { vlan: true, ipv6: true }),
        ] {
            self.code.bind(label).address(R1, R7, shape.rtp());
            self.code.branch(Condition::Greater, R1, R8, short);
            self.shape(shape);
        }
    }

    /// One shape; the UDP header is known to be there.
    fn shape(&mut self, shape: Shape) {
        let [guarded, known, free, forward] = std::array::from_fn(|_| self.code.label());
        self.headers(shape);
        self.port(shape, guarded);
        self.local_address(shape, known);

        // Is it from the one that the port is connected to?
        let (stranger, expected) = (self.stranger, if shape.ipv6 { BOTH } else { CONNECTED });
        let code = &mut self.code;
        code.load(Size::Double, R3, R10, HEAD);
        code.mov(R1, R3).and(R1, BOTH).branch(Condition::NotEqual, R1, expected, free);
        self.compare(shape, R9, entry::SOURCE, shape.source(), stranger);
        let code = &mut self.code;
        code.load(Size::Half, R1, R7, shape.udp()).mov(R2, R3).shr(R2, entry::SOURCE_PORT as i32);
        code.and(R2, 0xffff).branch(Condition::NotEqual, R1, R2, stranger);
        code.and(R3, entry::STATE as i32).branch(Condition::Equal, R3, entry::FORWARD as i32, forward);
        self.end(Event::Redirected);

        // Not connected, or to an address of the other family.
        self.code.bind(free).branch(Condition::AnyBit, R3, CONNECTED, stranger).bind(guarded);
        self.limit(shape);

        self.code.bind(forward);
        self.forward(shape);
    }

    /// Whether it is UDP that is whole in this frame.
    fn headers(&mut self, shape: Shape) {
        let [protocol, options, fragment] =
            [Event::PassedProtocol, Event::PassedOptions, Event::PassedFragment]
                .map(|event| self.event(event));
        let (code, ip) = (&mut self.code, shape.ip());
        if shape.ipv6 {
            code.load(Size::Byte, R1, R7, ip + 6).branch(Condition::NotEqual, R1, UDP, protocol);
            code.load(Size::Byte, R1, R7, ip).and(R1, 0xf0);
            code.branch(Condition::NotEqual, R1, 0x60, options);
        } else {
            code.load(Size::Byte, R1, R7, ip + 9).branch(Condition::NotEqual, R1, UDP, protocol);
            code.load(Size::Byte, R1, R7, ip).branch(Condition::NotEqual, R1, 0x45, options);
            code.load(Size::Half, R1, R7, ip + 6).branch(Condition::AnyBit, R1, FRAGMENT, fragment);
        }
    }

    /// Looks the port up: `R9` is its entry, its head is on the stack. Then the lengths.
    fn port(&mut self, shape: Shape, guarded: Label) {
        let [port, length] = [Event::PassedPort, Event::PassedLength].map(|event| self.event(event));
        let code = &mut self.code;
        code.load(Size::Half, R1, R7, shape.udp() + 2).big_endian(R1, 16).store(Size::Word, R10, KEY, R1);
        code.address(R2, R10, KEY).load_map(R1, &self.maps.ports.entries);
        code.call(Helper::MapLookup).branch(Condition::Equal, R0, 0, port).mov(R9, R0);
        code.load(Size::Double, R3, R9, entry::HEAD).store(Size::Double, R10, HEAD, R3);
        code.mov(R1, R3).and(R1, entry::STATE as i32);
        code.branch(Condition::Equal, R1, entry::CLOSED as i32, port);
        code.branch(Condition::Equal, R1, entry::GUARDED as i32, guarded);

        // The masks tell old verifiers that a half is at most 65,535.
        code.load(Size::Half, R5, R7, shape.udp() + 4).big_endian(R5, 16).and(R5, 0xffff);
        if shape.ipv6 {
            code.load(Size::Half, R2, R7, shape.ip() + 4).big_endian(R2, 16);
        } else {
            code.load(Size::Half, R2, R7, shape.ip() + 2).big_endian(R2, 16).and(R2, 0xffff).sub(R2, 20);
        }
        code.branch(Condition::NotEqual, R2, R5, length).branch(Condition::Less, R5, 8, length);
        code.address(R1, R7, shape.udp()).add(R1, R5);
        code.branch(Condition::Greater, R1, R8, length).store(Size::Double, R10, LENGTH, R5);
    }

    /// Whether it was sent to the address that the port is open on, and to that address's MAC. `R3` is the head.
    fn local_address(&mut self, shape: Shape, known: Label) {
        let address = self.event(Event::PassedAddress);
        let code = &mut self.code;
        code.mov(R1, R3).shr(R1, entry::ADDRESS_IN as i32).and(R1, 0xff).branch(
            Condition::NotEqual,
            R1,
            0,
            known,
        );
        // Open on any address: which number has this one?
        if shape.ipv6 {
            code.and(R3, entry::ANY_IPV6 as i32).branch(Condition::Equal, R3, 0, address);
            code.load(Size::Double, R1, R7, shape.destination()).store(Size::Double, R10, WIDE, R1);
            code.load(Size::Double, R1, R7, shape.destination() + 8).store(Size::Double, R10, WIDE + 8, R1);
        } else {
            code.store(Size::Double, R10, WIDE, 0).store(Size::Word, R10, WIDE + 8, MAPPED);
            code.load(Size::Word, R1, R7, shape.destination()).store(Size::Word, R10, WIDE + 12, R1);
        }
        code.address(R2, R10, WIDE).load_map(R1, &self.maps.ports.numbers);
        code.call(Helper::MapLookup).branch(Condition::Equal, R0, 0, address).load(Size::Word, R1, R0, 0);
        code.bind(known);
        self.address_entry(address);
        self.compare(shape, R0, 0, shape.destination(), address);
        let code = &mut self.code;
        code.load(Size::Double, R1, R7, 0).shl(R1, 16).or(R1, if shape.ipv6 { 6 } else { 4 });
        code.load(Size::Double, R2, R0, entry::ADDRESS_MAC).branch(Condition::NotEqual, R1, R2, address);
    }

    /// `R0` becomes the entry of the address number in `R1`.
    fn address_entry(&mut self, missing: Label) {
        let code = &mut self.code;
        code.store(Size::Word, R10, KEY, R1).address(R2, R10, KEY);
        code.load_map(R1, &self.maps.ports.addresses).call(Helper::MapLookup);
        code.branch(Condition::Equal, R0, 0, missing);
    }

    /// Goes to `different` unless the packet has at `place` the address that `base` has at `offset`. Families are
    /// compared elsewhere.
    fn compare(&mut self, shape: Shape, base: Register, offset: i16, place: i16, different: Label) {
        let code = &mut self.code;
        if shape.ipv6 {
            for part in [0, 8] {
                code.load(Size::Double, R1, R7, place + part).load(Size::Double, R2, base, offset + part);
                code.branch(Condition::NotEqual, R1, R2, different);
            }
        } else {
            code.load(Size::Word, R1, R7, place).load(Size::Word, R2, base, offset + 12);
            code.branch(Condition::NotEqual, R1, R2, different);
        }
    }

    /// To the flood limit, with the sender as the key: the IPv4 address, or the first half of the IPv6 address, because
    /// everyone has a whole /64.
    fn limit(&mut self, shape: Shape) {
        let (code, limited) = (&mut self.code, self.limited);
        if self.flood_limit.is_some() {
            if shape.ipv6 {
                code.load(Size::Double, R1, R7, shape.source());
            } else {
                code.load(Size::Word, R1, R7, shape.source()).mov(R2, 0xffff).shl(R2, 32).or(R1, R2);
            }
            code.store(Size::Double, R10, KEY, R1);
        }
        code.jump(limited);
    }

    /// Counts packets per sender and second, where that is wanted.
    fn floods(&mut self) {
        let [guarded, redirected, dropped] =
            [Event::PassedGuarded, Event::Redirected, Event::DroppedFloods].map(|event| self.event(event));
        self.code.bind(self.limited);
        if let Some(limit) = self.flood_limit {
            let code = &mut self.code;
            let [new, restart, fine] = std::array::from_fn(|_| code.label());
            code.address(R2, R10, KEY).load_map(R1, &self.maps.floods).call(Helper::MapLookup);
            code.mov(R7, R0).call(Helper::Time).branch(Condition::Equal, R7, 0, new);
            code.load(Size::Double, R1, R7, 0).mov(R2, R0).sub(R2, R1);
            code.branch(Condition::Greater, R2, 1_000_000_000, restart);
            code.load(Size::Double, R1, R7, 8).branch(Condition::GreaterOrEqual, R1, limit, dropped);
            code.mov(R1, 1).atomic(Width::Bits64, Atomic::Add, R7, 8, R1).jump(fine);
            code.bind(restart).store(Size::Double, R7, 0, R0).store(Size::Double, R7, 8, 1).jump(fine);
            code.bind(new).store(Size::Double, R10, WIDE, R0).store(Size::Double, R10, WIDE + 8, 1);
            code.load_map(R1, &self.maps.floods).address(R2, R10, KEY);
            code.address(R3, R10, WIDE).mov(R4, 0).call(Helper::MapUpdate);
            code.bind(fine);
        }
        let code = &mut self.code;
        code.load(Size::Double, R3, R10, HEAD).and(R3, entry::STATE as i32);
        code.branch(Condition::Equal, R3, entry::GUARDED as i32, guarded).jump(redirected);
    }

    fn strangers(&mut self) {
        let dropped = self.event(Event::DroppedStrangers);
        self.code.bind(self.stranger).mov(R1, 1);
        self.code.atomic(Width::Bits64, Atomic::Add, R9, entry::STRANGERS, R1).jump(dropped);
    }

    /// A rewritten frame leaves by the flow's interface.
    fn sending(&mut self) {
        let code = &mut self.code;
        let elsewhere = code.label();
        code.bind(self.send).load(Size::Word, R1, R10, FLOW + 20).load(Size::Word, R2, R6, INGRESS);
        code.branch(Condition::NotEqual, R1, R2, elsewhere).mov(R0, Verdict::Transmit as i32).exit();
        code.bind(elsewhere).mov(R2, 0).call(Helper::Redirect).exit();
    }

    /// One place per event, which counts it, and the verdicts.
    fn ends(&mut self) {
        let [pass, redirect, drop, count] = std::array::from_fn(|_| self.code.label());
        for event in Event::ALL {
            // The verifier refuses what cannot be reached.
            if *event == Event::DroppedFloods && self.flood_limit.is_none() {
                continue;
            }
            let label = self.event(*event);
            let verdict = match event.verdict() {
                Verdict::Redirect => redirect,
                Verdict::Drop => drop,
                _ => pass,
            };
            self.code.bind(label).mov(R7, *event as i32).jump(verdict);
        }
        let unclaimed = self.event(Event::PassedUnclaimed);
        self.code.bind(redirect);
        self.count();
        let code = &mut self.code;
        code.load_map(R1, &self.maps.sockets).load(Size::Word, R2, R6, QUEUE);
        code.mov(R3, Verdict::Pass as i32).call(Helper::RedirectMap);
        code.branch(Condition::Equal, R0, Verdict::Pass as i32, unclaimed).exit();
        code.bind(drop).mov(R8, Verdict::Drop as i32).jump(count);
        code.bind(pass).mov(R8, Verdict::Pass as i32).bind(count);
        self.count();
        self.code.mov(R0, R8).exit();
    }

    /// Adds one to the event in `R7`, which is lost.
    fn count(&mut self) {
        let code = &mut self.code;
        let uncounted = code.label();
        code.store(Size::Word, R10, KEY, 0).address(R2, R10, KEY);
        code.load_map(R1, &self.maps.events).call(Helper::MapLookup);
        code.branch(Condition::Equal, R0, 0, uncounted).shl(R7, 3).add(R0, R7);
        code.load(Size::Double, R1, R0, 0).add(R1, 1).store(Size::Double, R0, 0, R1).bind(uncounted);
    }

    fn end(&mut self, event: Event) {
        let label = self.event(event);
        self.code.jump(label);
    }

    fn event(&self, event: Event) -> Label {
        self.events[event as usize]
    }

    /// Folds a sum of 16-bit words, below 2^40, into 16 bits. `spare` is lost.
    fn fold(&mut self, sum: Register, spare: Register) {
        for _ in 0..3 {
            self.code.mov(spare, sum).shr(spare, 16).and(sum, 0xffff).add(sum, spare);
        }
    }
}

// As a load from the frame gives them: the byte order of the network on a little-endian machine.
const IPV4: i32 = 0x0008;
const IPV6: i32 = 0xdd86;
const VLAN: i32 = 0x0081;
/// More fragments, and the fragment's offset.
const FRAGMENT: i32 = 0xff3f;
/// Bytes 8 to 11 of an IPv4 address that is mapped to IPv6: 00 00 ff ff.
const MAPPED: i32 = 0xffff_0000_u32.cast_signed();
const UDP: i32 = 17;
const CONNECTED: i32 = entry::CONNECTED as i32;
const BOTH: i32 = (entry::CONNECTED | entry::SOURCE_IPV6) as i32;
// struct xdp_md.
const INGRESS: i16 = 12;
const QUEUE: i16 = 16;
