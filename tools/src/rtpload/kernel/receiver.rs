//! The receiver's program: what comes to our ports is checked, counted and dropped; everything else goes to the kernel.

use xdp::bpf::{Assembler, Code, Condition, Error, Helper, Register, Size, Verdict};

use super::emit::{self, Alive};
use super::layout::{Maps, control, counts, entry, fixed_digits, frame, frame_bytes, slot, udp_bytes};
use crate::callload::g711::Law;
use crate::rtpload::link::PROTOCOL_UDP;
use crate::rtpload::packet::{FLOW_FACTOR, INDEX_FACTOR, SENT_FACTOR, STAMP_BYTES, letters};

/// The program, for the local ports from `ports.0` to `ports.1`.
pub(super) fn program(maps: &Maps, ports: (u16, u16), payload_bytes: usize) -> Result<Code<'_>, Error> {
    use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
    let mut code = Assembler::new();
    let [pass, odd, wrong, stray, drop] = std::array::from_fn(|_| code.label());
    let length = frame_bytes(payload_bytes) as i32;

    // R9: the frame; R8: its end.
    code.load(Size::Word, R9, R1, 0).load(Size::Word, R8, R1, 4);
    code.mov(R2, R9).add(R2, 44).branch(Condition::Greater, R2, R8, pass);
    code.load(Size::Half, R2, R9, frame::ETHERTYPE).branch(Condition::NotEqual, R2, 0x0008, pass);
    code.load(Size::Byte, R2, R9, frame::IP).branch(Condition::NotEqual, R2, 0x45, pass);
    code.load(Size::Byte, R2, R9, frame::IP_PROTOCOL);
    code.branch(Condition::NotEqual, R2, i32::from(PROTOCOL_UDP), pass);
    code.load(Size::Half, R2, R9, frame::IP_FRAGMENT).and(R2, 0xff3f).branch(
        Condition::NotEqual,
        R2,
        0,
        pass,
    );
    code.load(Size::Half, R2, R9, frame::REMOTE_PORT).big_endian(R2, 16);
    code.branch(Condition::Less, R2, i32::from(ports.0), pass);
    code.branch(Condition::Greater, R2, i32::from(ports.1), pass);
    code.call(Helper::Time).store(Size::Double, R10, NOW, R0).mov(R6, R0);
    emit::alive(&mut code, maps, Alive::Receiver, R6, [KEY, LATENCY]);

    // From here on it is ours. Its length, exactly.
    code.mov(R2, R9).add(R2, length).branch(Condition::Greater, R2, R8, odd);
    code.mov(R3, R9).add(R3, length + 1).branch(Condition::LessOrEqual, R3, R8, odd);
    code.load(Size::Half, R2, R9, frame::UDP_LENGTH);
    code.branch(Condition::NotEqual, R2, i32::from(udp_bytes(payload_bytes).to_be()), wrong);
    code.load(Size::Byte, R2, R9, frame::RTP).branch(Condition::NotEqual, R2, 0x80, odd);

    // R7: the letters, by payload type; R8: the payload type.
    code.load(Size::Byte, R8, R9, frame::RTP + 1);
    let [rtp, a_law, read] = std::array::from_fn(|_| code.label());
    code.branch(Condition::Less, R8, 192, rtp).branch(Condition::LessOrEqual, R8, 223, odd);
    code.bind(rtp).and(R8, 0x7f);
    code.branch(Condition::Equal, R8, i32::from(Law::Pcma.payload_type()), a_law);
    code.branch(Condition::NotEqual, R8, i32::from(Law::Pcmu.payload_type()), wrong);
    code.load_number(R7, letters(Law::Pcmu)).jump(read);
    code.bind(a_law).load_number(R7, letters(Law::Pcma)).bind(read);

    // The stamp, word by word, to the stack.
    for (word, place) in [FLOW, INDEX, SENT, CHECK].into_iter().enumerate() {
        code.load(Size::Double, R1, R9, frame::PAYLOAD + word as i16 * 8).big_endian(R1, 64).xor(R1, R7);
        code.load_number(R2, emit::NO_DIGIT).branch(Condition::AnyBit, R1, R2, wrong);
        emit::gather(&mut code, R1, R2);
        code.store(Size::Double, R10, place, R1);
    }
    code.mov(R2, 0);
    for (place, factor) in [(FLOW, FLOW_FACTOR), (INDEX, INDEX_FACTOR), (SENT, SENT_FACTOR)] {
        code.load(Size::Double, R3, R10, place).mul32(R3, factor.cast_signed()).add32(R2, R3);
    }
    code.branch(Condition::NotEqual, R1, R2, wrong);
    let fixed = frame::PAYLOAD + STAMP_BYTES as i16;
    for (at, digits) in
        fixed_digits(payload_bytes).into_iter().take((payload_bytes - STAMP_BYTES) / 8).enumerate()
    {
        code.load(Size::Double, R1, R9, fixed + at as i16 * 8).xor(R1, R7);
        code.load_number(R2, digits).branch(Condition::NotEqual, R1, R2, wrong);
    }

    // R6: the flow, and whether it came the way it should.
    let found = code.label();
    code.load(Size::Double, R1, R10, FLOW).store(Size::Word, R10, KEY, R1);
    code.load_map(R1, &maps.flows).mov(R2, R10).add(R2, i32::from(KEY)).call(Helper::MapLookup);
    code.branch(Condition::NotEqual, R0, 0, found).jump(stray);
    code.bind(found).mov(R6, R0);
    for (size, expected, at) in [
        (Size::Double, entry::EXPECTED_ADDRESSES, frame::IP_ADDRESSES),
        (Size::Word, entry::EXPECTED_PORTS, frame::PORTS),
    ] {
        code.load(size, R1, R9, at).load(size, R2, R6, expected).branch(Condition::NotEqual, R1, R2, stray);
    }
    code.load(Size::Word, R2, R6, entry::EXPECTED_TYPE).branch(Condition::NotEqual, R8, R2, wrong);
    checksum(&mut code, maps, payload_bytes, wrong);

    // Its place among the last 64: R3 the index, R4 the highest plus one, R5 the window, R8 which counter gets one more.
    let [earlier, again, placed, kept] = std::array::from_fn(|_| code.label());
    code.load(Size::Double, R3, R10, INDEX);
    code.load(Size::Double, R4, R6, entry::NEXT).load(Size::Double, R5, R6, entry::WINDOW);
    code.mov(R8, counts::UNIQUE as i32);
    code.branch(Condition::Less, R3, R4, earlier);
    code.mov(R1, R3).sub(R1, R4).add(R1, 1);
    let near = code.label();
    code.branch(Condition::Less, R1, 64, near).mov(R5, 0).mov(R1, 0).bind(near);
    code.shl(R5, R1).or(R5, 1);
    code.mov(R1, R3).add(R1, 1).store(Size::Double, R6, entry::NEXT, R1).jump(kept);
    code.bind(earlier).mov(R1, R4).sub(R1, 1).sub(R1, R3);
    code.branch(Condition::GreaterOrEqual, R1, 64, again);
    code.mov(R2, 1).shl(R2, R1).branch(Condition::AnyBit, R5, R2, again);
    code.or(R5, R2).mov(R8, counts::REORDERED as i32).jump(kept);
    code.bind(again).mov(R8, counts::DUPLICATE as i32).jump(placed);
    code.bind(kept).store(Size::Double, R6, entry::WINDOW, R5);
    code.bind(placed);
    code.load_map_value(R1, &maps.control, control::WARM as u32 * 8).load(Size::Double, R1, R1, 0);
    code.branch(Condition::Less, R3, R1, drop);
    let unique = code.label();
    code.branch(Condition::Equal, R8, counts::UNIQUE as i32, unique);
    let late = code.label();
    code.branch(Condition::Equal, R8, counts::REORDERED as i32, late);
    emit::count(&mut code, &maps.counts, counts::DUPLICATE);
    code.jump(drop);
    code.bind(late);
    emit::count(&mut code, &maps.counts, counts::REORDERED);
    code.bind(unique);
    emit::count(&mut code, &maps.counts, counts::UNIQUE);

    // Latency, modulo 2^32, in the slot of the time of sending.
    let untimed = code.label();
    code.load(Size::Double, R1, R10, NOW).load(Size::Double, R2, R10, SENT).sub32(R1, R2);
    code.load_number(R2, LONGEST_NS).branch(Condition::Greater, R1, R2, untimed);
    code.store(Size::Double, R10, LATENCY, R1).load(Size::Double, R2, R10, NOW).sub(R2, R1).mov(R1, R2);
    emit::slot(&mut code, maps, KEY);
    code.branch(Condition::Equal, R0, 0, untimed);
    code.load(Size::Double, R1, R0, slot::RECEIVED).add(R1, 1).store(Size::Double, R0, slot::RECEIVED, R1);
    code.load(Size::Double, R1, R10, LATENCY).mov(R5, R0);
    emit::record(&mut code, slot::LATENCIES);
    code.jump(drop).bind(untimed);
    emit::count(&mut code, &maps.counts, counts::UNTIMED);
    code.jump(drop);

    // RTCP (RFC 5761 section 4), or something that is not ours at all.
    let rtcp = code.label();
    code.bind(odd).load(Size::Byte, R1, R9, frame::RTP + 1);
    code.branch(Condition::Less, R1, 192, wrong).branch(Condition::LessOrEqual, R1, 223, rtcp).jump(wrong);
    for (label, word) in [(rtcp, counts::RTCP), (stray, counts::STRAY), (wrong, counts::WRONG)] {
        code.bind(label);
        emit::count(&mut code, &maps.counts, word);
        code.jump(drop);
    }
    code.bind(drop).mov(R0, Verdict::Drop as i32).exit();
    code.bind(pass).mov(R0, Verdict::Pass as i32).exit();
    Ok(code.build()?)
}

/// Goes to `wrong` unless both checksums are right. `R1` to `R5` are lost.
fn checksum<'m>(code: &mut Assembler<'m>, maps: &'m Maps, payload_bytes: usize, wrong: xdp::bpf::Label) {
    use Register::{R1, R2, R3, R4, R9};
    let [bad, udp, right] = std::array::from_fn(|_| code.label());
    // R3: the sum of the IP header.
    code.mov(R3, 0);
    for word in 0..5 {
        code.load(Size::Word, R1, R9, frame::IP + word * 4).add(R3, R1);
    }
    emit::fold(code, R3, R2);
    code.branch(Condition::Equal, R3, 0xffff, udp).jump(bad);
    code.bind(udp).load(Size::Half, R1, R9, frame::UDP_CHECKSUM).branch(Condition::Equal, R1, 0, right);
    // The pseudo-header: addresses, protocol, length.
    let length = i32::from(udp_bytes(payload_bytes).to_be()) + i32::from(u16::from(PROTOCOL_UDP).to_be());
    code.mov(R3, length).load(Size::Double, R1, R9, frame::IP_ADDRESSES);
    emit::add_halves(code, R3, R1, R2);
    for word in 0..5 {
        code.load(Size::Word, R1, R9, frame::PORTS + word * 4).add(R3, R1);
    }
    for word in 0..payload_bytes as i16 / 8 {
        code.load(Size::Double, R4, R9, frame::PAYLOAD + word * 8);
        emit::add_halves(code, R3, R4, R2);
    }
    emit::fold(code, R3, R2);
    code.branch(Condition::Equal, R3, 0xffff, right);
    code.bind(bad);
    emit::count(code, &maps.counts, counts::BAD_CHECKSUM);
    code.jump(wrong).bind(right);
}

/// The send time is known modulo 4.3 s.
const LONGEST_NS: u64 = 3_000_000_000;

/// Places on the stack.
const NOW: i16 = -8;
const FLOW: i16 = -16;
const INDEX: i16 = -24;
const SENT: i16 = -32;
const CHECK: i16 = -40;
const KEY: i16 = -48;
const LATENCY: i16 = -56;
