//! Forwarding: from the check that it is RTP of the flow to the frame that leaves.

use super::{FLOW, HEAD, IPV4, IPV6, LENGTH, Loads, SOURCE, Shape, Text, VLAN, WIDE};
use crate::bpf::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use crate::bpf::{Assembler, Atomic, Condition, Helper, Instruction, Label, Mode, Register, Size, Width};
use crate::program::counters::Event;
use crate::program::entry;

impl Text<'_> {
    pub(super) fn forward(&mut self, shape: Shape) {
        self.rtp(shape);
        self.flow();
        self.new_source(shape);
        self.account(shape);
        let [partial, checked] = std::array::from_fn(|_| self.code.label());
        self.rewrite_ip(shape);
        self.rewrite_udp(shape);
        self.update_checksum(shape, partial, checked);
        self.code.bind(checked);
        self.rewrite_ethernet(shape);
        self.code.bind(partial);
        self.whole_checksum(shape, checked);
    }

    /// RTP version 2 of a payload type that is forwarded, and not too long.
    fn rtp(&mut self, shape: Shape) {
        let [other, control, payload_type] =
            [Event::RaisedOther, Event::RaisedControl, Event::RaisedPayloadType]
                .map(|event| self.event(event));
        let (code, rtp) = (&mut self.code, shape.rtp());
        let [listed, allowed] = std::array::from_fn(|_| code.label());
        code.load(Size::Double, R5, R10, LENGTH).branch(Condition::Less, R5, 8 + RTP_BYTES, other);
        code.branch(Condition::Greater, R5, LONGEST, other);
        code.mov(R1, R7).add(R1, i32::from(rtp) + RTP_BYTES).branch(Condition::Greater, R1, R8, other);
        code.load(Size::Byte, R1, R7, rtp).and(R1, 0xc0).branch(Condition::NotEqual, R1, 0x80, other);
        code.load(Size::Byte, R1, R7, rtp + 1).and(R1, 0x7f).load(Size::Double, R2, R9, entry::TYPES);
        code.branch(Condition::Less, R1, 64, listed).branch(Condition::Less, R1, 96, control);
        code.sub(R1, 96).load(Size::Word, R2, R9, entry::TYPES_HIGH);
        code.bind(listed).shr(R2, R1).branch(Condition::AnyBit, R2, 1, allowed).jump(payload_type);
        code.bind(allowed);
        if shape.ipv6 {
            // RFC 8200 section 8.1: IPv6 has no datagrams without a checksum.
            code.load(Size::Half, R1, R7, shape.udp() + 6).branch(Condition::Equal, R1, 0, other);
        }
    }

    /// Copies the words of the flow to the stack. If the head has changed since it was read, they may be of two flows.
    fn flow(&mut self) {
        let other = self.event(Event::RaisedOther);
        self.order();
        let code = &mut self.code;
        for word in 0..entry::FLOW_WORDS {
            code.load(Size::Double, R1, R9, entry::FLOW + word * 8);
            code.store(Size::Double, R10, FLOW + word * 8, R1);
        }
        self.order();
        let code = &mut self.code;
        code.load(Size::Double, R1, R9, entry::HEAD).load(Size::Double, R3, R10, HEAD);
        code.branch(Condition::NotEqual, R1, R3, other);
    }

    /// What is loaded before is older than what is loaded after. On x86 that is so of itself; elsewhere an atomic that
    /// fetches is a full barrier (the kernel's memory model for eBPF), which is there since Linux
    /// 5.12 (on ARM 5.18); loads that acquire are since 6.15.
    fn order(&mut self) {
        if self.loads == Loads::Unordered {
            let code = &mut self.code;
            code.store(Size::Double, R10, WIDE, 0).mov(R1, 0);
            code.atomic(Width::Bits64, Atomic::FetchAdd, R10, WIDE, R1);
        }
    }

    /// The address that it leaves from: the one that it came to, or one of the table. `R3` is the head.
    fn new_source(&mut self, shape: Shape) {
        let other = self.event(Event::RaisedOther);
        let code = &mut self.code;
        let [table, done] = std::array::from_fn(|_| code.label());
        code.mov(R1, R3).shr(R1, entry::ADDRESS_OUT as i32).and(R1, 0xff);
        code.branch(Condition::NotEqual, R1, 0, table);
        copy_address(&mut self.code, shape, R7, shape.destination());
        self.code.jump(done).bind(table);
        self.address_entry(other);
        // An address that was taken away has no MAC.
        self.code.load(Size::Double, R1, R0, entry::ADDRESS_MAC).branch(Condition::Equal, R1, 0, other);
        copy_address(&mut self.code, shape, R0, if shape.ipv6 { 0 } else { 12 });
        self.code.bind(done);
    }

    /// Counts it, with what RTCP wants to know (RFC 3550 appendices A.1 and A.8).
    fn account(&mut self, shape: Shape) {
        let (code, rtp) = (&mut self.code, shape.rtp());
        let [restart, reordered, positive, done] = std::array::from_fn(|_| code.label());
        code.call(Helper::Time).shr(R0, entry::TICK_SHIFT_BEFORE as i32).mul(R0, entry::TICK_FACTOR as i32);
        code.shr(R0, entry::TICK_SHIFT_AFTER as i32).store(Size::Word, R9, entry::SEEN, R0);
        // R2: how much the transit time has changed.
        code.load(Size::Word, R1, R7, rtp + 4).big_endian(R1, 32).mov32(R2, R0).sub32(R2, R1);
        code.load(Size::Word, R3, R9, entry::TRANSIT).store(Size::Word, R9, entry::TRANSIT, R2).sub32(R2, R3);
        code.load(Size::Double, R1, R10, LENGTH).sub(R1, 8).load(Size::Double, R3, R9, entry::BYTES);
        code.add(R3, R1).store(Size::Double, R9, entry::BYTES, R3);
        code.load(Size::Double, R4, R9, entry::PACKETS).add(R4, 1).store(
            Size::Double,
            R9,
            entry::PACKETS,
            R4,
        );
        code.load(Size::Half, R1, R7, rtp + 2).big_endian(R1, 16);
        code.load(Size::Word, R5, R7, rtp + 8).big_endian(R5, 32).load(Size::Word, R3, R9, entry::SSRC);
        code.branch(Condition::NotEqual, R3, R5, restart).branch(Condition::Equal, R4, 1, restart);

        // Ahead by less than half of the numbers: the sum carries into the cycles by itself.
        code.load(Size::Word, R3, R9, entry::HIGHEST).mov32(R5, R1).sub32(R5, R3).and(R5, 0xffff);
        code.branch(Condition::GreaterOrEqual, R5, 0x8000, reordered);
        code.add32(R3, R5).store(Size::Word, R9, entry::HIGHEST, R3).bind(reordered);

        code.branch32(Condition::SignedGreaterOrEqual, R2, 0, positive);
        code.push(Instruction::Negate { width: Width::Bits32, target: R2 }).bind(positive);
        code.load(Size::Word, R3, R9, entry::JITTER).mov32(R4, R3).add32(R4, 8).shr32(R4, 4);
        code.sub32(R3, R4).add32(R3, R2).store(Size::Word, R9, entry::JITTER, R3).jump(done);

        // The first packet, or another SSRC.
        code.bind(restart).store(Size::Word, R9, entry::SSRC, R5).store(Size::Word, R9, entry::HIGHEST, R1);
        code.store(Size::Half, R9, entry::FIRST, R1).bind(done);
    }

    /// New addresses and hop limit. `R1` becomes the sum of the old addresses, `R2` that of the new ones, `R5` the UDP
    /// checksum as it was, or [`PARTIAL`].
    fn rewrite_ip(&mut self, shape: Shape) {
        let code = &mut self.code;
        code.mov(R1, 0).mov(R2, 0);
        let words = if shape.ipv6 { 8 } else { 2 };
        for word in 0..words {
            code.load(Size::Word, R3, R7, shape.source() + word * 4).add(R1, R3);
        }
        let (source, remote) = if shape.ipv6 { (SOURCE, FLOW) } else { (SOURCE + 12, FLOW + 12) };
        for word in 0..words {
            let from = if word < words / 2 { source + word * 4 } else { remote + (word - words / 2) * 4 };
            code.load(Size::Word, R3, R10, from).add(R2, R3);
            code.store(Size::Word, R7, shape.source() + word * 4, R3);
        }
        if shape.ipv6 {
            code.store(Size::Byte, R7, shape.ip() + 7, HOP_LIMIT);
        } else {
            // The sum changes by the addresses and by the half word of hop limit and protocol (RFC 1624).
            code.load(Size::Half, R3, R7, shape.ip() + 8).mov(R4, R3).and(R4, 0xff00).or(R4, HOP_LIMIT);
            code.store(Size::Half, R7, shape.ip() + 8, R4).sub(R4, R3);
            code.load(Size::Half, R3, R7, shape.ip() + 10)
                .xor(R3, 0xffff)
                .add(R3, R4)
                .add(R3, R2)
                .sub(R3, R1);
            code.load_number(R4, ZERO).add(R3, R4);
            self.fold(R3, R4);
            self.code.xor(R3, 0xffff).store(Size::Half, R7, shape.ip() + 10, R3);
        }
        // Offloads leave the sum over the pseudo-header in place of the checksum.
        let code = &mut self.code;
        let [kind, whole] = std::array::from_fn(|_| code.label());
        code.load(Size::Half, R5, R7, shape.udp() + 6);
        if !shape.ipv6 {
            code.branch(Condition::Equal, R5, 0, kind);
        }
        code.load(Size::Half, R3, R7, shape.udp() + 4).add(R3, R1).add(R3, PSEUDO_PROTOCOL);
        self.fold(R3, R4);
        self.code.branch(Condition::NotEqual, R3, R5, whole).mov(R5, PARTIAL).bind(whole).bind(kind);
    }

    /// New ports and what is new in RTP, added to the sums `R1` and `R2`.
    fn rewrite_udp(&mut self, shape: Shape) {
        let (code, rtp) = (&mut self.code, shape.rtp());
        let [same_ssrc, same_numbers] = std::array::from_fn(|_| code.label());
        code.load(Size::Word, R3, R7, shape.udp()).add(R1, R3);
        code.load(Size::Word, R3, R10, FLOW + 16).store(Size::Word, R7, shape.udp(), R3).add(R2, R3);
        code.load(Size::Double, R0, R10, HEAD);
        code.mov(R3, R0).and(R3, entry::NEW_SSRC as i32).branch(Condition::Equal, R3, 0, same_ssrc);
        code.load(Size::Word, R3, R7, rtp + 8).add(R1, R3);
        code.load(Size::Word, R3, R10, FLOW + 40).store(Size::Word, R7, rtp + 8, R3).add(R2, R3);
        code.bind(same_ssrc);
        code.mov(R3, R0).and(R3, entry::NEW_NUMBERS as i32).branch(Condition::Equal, R3, 0, same_numbers);
        code.load(Size::Half, R3, R7, rtp + 2).add(R1, R3).big_endian(R3, 16);
        code.load(Size::Half, R4, R10, FLOW + 38).add(R3, R4).big_endian(R3, 16);
        code.store(Size::Half, R7, rtp + 2, R3).add(R2, R3);
        code.load(Size::Word, R3, R7, rtp + 4).add(R1, R3).big_endian(R3, 32);
        code.load(Size::Word, R4, R10, FLOW + 44).add32(R3, R4).big_endian(R3, 32);
        code.store(Size::Word, R7, rtp + 4, R3).add(R2, R3).bind(same_numbers);
    }

    /// The UDP checksum from the old one and the sums (RFC 1624); none stays none.
    fn update_checksum(&mut self, shape: Shape, partial: Label, checked: Label) {
        let code = &mut self.code;
        if !shape.ipv6 {
            code.branch(Condition::Equal, R5, 0, checked);
        }
        code.branch(Condition::Equal, R5, PARTIAL, partial);
        code.xor(R5, 0xffff).add(R5, R2).sub(R5, R1).load_number(R4, ZERO).add(R5, R4);
        self.store_checksum(shape, R5, R4);
    }

    /// Folds, complements and stores a sum as the UDP checksum; 0 means none and is sent as all ones (RFC 768).
    fn store_checksum(&mut self, shape: Shape, sum: Register, spare: Register) {
        self.fold(sum, spare);
        let code = &mut self.code;
        let some = code.label();
        code.xor(sum, 0xffff).branch(Condition::NotEqual, sum, 0, some).mov(sum, 0xffff).bind(some);
        code.store(Size::Half, R7, shape.udp() + 6, sum);
    }

    /// The UDP checksum over the rewritten packet, of which only the sum of the pseudo-header was there.
    fn whole_checksum(&mut self, shape: Shape, checked: Label) {
        let code = &mut self.code;
        code.store(Size::Half, R7, shape.udp() + 6, 0);
        code.load(Size::Half, R1, R7, shape.udp() + 4).add(R1, PSEUDO_PROTOCOL);
        for word in 0..if shape.ipv6 { 8 } else { 2 } {
            code.load(Size::Word, R3, R7, shape.source() + word * 4).add(R1, R3);
        }
        if self.mode == Mode::Generic {
            // The kernel's packet still says that the sum is partial, and whoever sends it on completes it.
            self.fold(R1, R4);
            self.code.store(Size::Half, R7, shape.udp() + 6, R1).jump(checked);
            return;
        }
        let code = &mut self.code;
        let [sixteen, four, two, one, end] = std::array::from_fn(|_| code.label());
        // R2: where, R3: how many bytes are left. The length was checked; the verifier wants to see it again.
        code.address(R2, R7, shape.udp()).load(Size::Double, R3, R10, LENGTH);
        code.branch(Condition::Greater, R3, LONGEST, end);
        for (label, next, bytes, size) in
            [(sixteen, four, 16, Size::Word), (four, two, 4, Size::Word), (two, one, 2, Size::Half)]
        {
            code.bind(label).branch(Condition::Less, R3, bytes, next);
            code.mov(R4, R2).add(R4, bytes).branch(Condition::Greater, R4, R8, end);
            for part in 0..(bytes / 4).max(1) {
                code.load(size, R4, R2, part as i16 * 4).add(R1, R4);
            }
            code.add(R2, bytes).sub(R3, bytes).jump(label);
        }
        code.bind(one).branch(Condition::Equal, R3, 0, end);
        code.mov(R4, R2).add(R4, 1).branch(Condition::Greater, R4, R8, end);
        code.load(Size::Byte, R4, R2, 0).add(R1, R4).bind(end);
        self.store_checksum(shape, R1, R4);
        self.code.jump(checked);
    }

    /// New MACs, and the VLAN tag that the flow has: changed, added or taken away.
    fn rewrite_ethernet(&mut self, shape: Shape) {
        let (headroom, send) = (self.event(Event::DroppedHeadroom), self.send);
        let code = &mut self.code;
        let tagged = code.label();
        code.load(Size::Double, R3, R10, HEAD);
        code.branch(Condition::AnyBit, R3, entry::VLAN as i32, tagged);
        for leaves_tagged in [false, true] {
            if leaves_tagged {
                code.bind(tagged);
            }
            if shape.vlan != leaves_tagged {
                code.mov(R1, R6).mov(R2, if leaves_tagged { -4 } else { 4 }).call(Helper::AdjustHead);
                code.branch(Condition::NotEqual, R0, 0, headroom);
                code.load(Size::Word, R7, R6, 0).load(Size::Word, R8, R6, 4);
                code.mov(R1, R7).add(R1, if leaves_tagged { 18 } else { 14 });
                code.branch(Condition::Greater, R1, R8, headroom);
                let ethertype = if shape.ipv6 { IPV6 } else { IPV4 };
                if leaves_tagged {
                    code.store(Size::Half, R7, 12, VLAN).store(Size::Half, R7, 16, ethertype);
                    code.load(Size::Double, R3, R10, HEAD);
                } else {
                    code.store(Size::Half, R7, 12, ethertype);
                }
            }
            code.load(Size::Double, R1, R10, FLOW + 24).store(Size::Double, R7, 0, R1);
            code.load(Size::Word, R1, R10, FLOW + 32).store(Size::Word, R7, 8, R1);
            if leaves_tagged {
                code.shr(R3, entry::TAG as i32).store(Size::Half, R7, 14, R3);
            }
            code.jump(send);
        }
    }
}

/// Copies an address to the stack as the new source.
fn copy_address(code: &mut Assembler<'_>, shape: Shape, base: Register, offset: i16) {
    if shape.ipv6 {
        for part in [0, 8] {
            code.load(Size::Double, R1, base, offset + part).store(Size::Double, R10, SOURCE + part, R1);
        }
    } else {
        code.load(Size::Word, R1, base, offset).store(Size::Word, R10, SOURCE + 12, R1);
    }
}

/// The fixed header of RTP.
const RTP_BYTES: i32 = 12;
/// UDP length of a full Ethernet frame of 1,500 bytes behind an IPv4 header. What is longer is no voice.
const LONGEST: i32 = 1480;
/// As a fresh packet of this host: a relay ends one flow and begins another.
const HOP_LIMIT: i32 = 64;
/// Protocol 17 in the pseudo-header, as a load from the network gives it.
const PSEUDO_PROTOCOL: i32 = 0x1100;
/// No checksum but the sum of the pseudo-header: greater than any checksum.
const PARTIAL: i32 = 0x10000;
/// A multiple of 65,535, and so nothing in a sum of 16-bit words with end-around carry; it keeps differences positive.
const ZERO: u64 = 16 * 0xffff_ffff;
