//! The generator's program: waits a few microseconds for the next packet to be due, writes it and transmits it; drops the
//! frame if it is not due yet.

use xdp::bpf::{Assembler, Code, Condition, Error, Helper, Register, Size, Verdict};

use super::emit::{self, Alive};
use super::layout::{
    BURST_NS, FRACTION_BITS, LATE_NS, Maps, control, entry, fixed_digits, frame, frame_bytes, slot, udp_bytes,
};
use crate::rtpload::link::ip_start;
use crate::rtpload::packet::{INDEX_FACTOR, SENT_FACTOR, STAMP_BYTES};

/// The program. Frames go out of the interface that the run names as theirs, between these two link-layer addresses.
pub(super) fn program<'m>(
    maps: &'m Maps,
    [source, destination]: [[u8; 6]; 2],
    payload_bytes: usize,
) -> Result<Code<'m>, Error> {
    use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
    let mut code = Assembler::new();
    let drop = code.label();
    let control = |word: usize| (word * 8) as i16;

    // R9: the frame; R6: now; R8: our state.
    code.load(Size::Word, R9, R1, 0).load(Size::Word, R2, R1, 4);
    code.mov(R3, R9).add(R3, frame_bytes(payload_bytes) as i32);
    code.branch(Condition::Greater, R3, R2, drop);
    code.load_map_value(R8, &maps.control, 0);
    code.load(Size::Double, R1, R8, control(control::NUMBER));
    code.load(Size::Double, R2, R8, control(control::TOTAL));
    code.branch(Condition::GreaterOrEqual, R1, R2, drop);
    // R7: when it may leave; R6: now.
    let [on_time, look, looked, due] = std::array::from_fn(|_| code.label());
    code.load(Size::Double, R7, R8, control(control::DUE)).load(
        Size::Double,
        R1,
        R8,
        control(control::SOONEST),
    );
    code.branch(Condition::LessOrEqual, R1, R7, on_time).mov(R7, R1);
    code.bind(on_time).shr(R7, FRACTION_BITS as i32);
    code.store(Size::Double, R10, LOOKS, 0);
    code.bind(look).call(Helper::Time).mov(R6, R0).branch(Condition::GreaterOrEqual, R6, R7, looked);
    code.load(Size::Double, R1, R10, LOOKS).add(R1, 1).store(Size::Double, R10, LOOKS, R1);
    code.branch(Condition::Less, R1, MOST_LOOKS, look);
    code.bind(looked);
    emit::alive(&mut code, maps, Alive::Generator, R6, [KEY, GAP]);
    code.branch(Condition::GreaterOrEqual, R6, R7, due).jump(drop);
    code.bind(due).load(Size::Double, R1, R8, control(control::LAST));
    code.branch(Condition::Greater, R6, R1, drop);
    // R7: when it was due.
    code.load(Size::Double, R7, R8, control(control::DUE)).shr(R7, FRACTION_BITS as i32);
    schedule(&mut code);
    let cold = code.label();
    code.load(Size::Double, R1, R8, control(control::WARM));
    code.load(Size::Double, R5, R10, INDEX).branch(Condition::Less, R5, R1, cold);
    let short = code.label();
    code.mov(R1, R6).sub(R1, R7).load_number(R2, u64::from(u32::MAX));
    code.branch(Condition::LessOrEqual, R1, R2, short).mov(R1, R2).bind(short);
    code.load_map_value(R5, &maps.lateness, 0);
    emit::record(&mut code, 0);
    code.mov(R1, R6);
    emit::slot(&mut code, maps, KEY);
    code.branch(Condition::Equal, R0, 0, cold);
    code.load(Size::Double, R1, R0, slot::SENT).add(R1, 1).store(Size::Double, R0, slot::SENT, R1);
    code.bind(cold);

    // R7: the flow.
    let found = code.label();
    let same_round = code.label();
    code.load(Size::Double, R1, R8, control(control::FLOW));
    code.store(Size::Word, R10, KEY, R1);
    code.add(R1, 1).load(Size::Double, R2, R8, control(control::FLOWS));
    code.branch(Condition::Less, R1, R2, same_round);
    code.load(Size::Double, R1, R8, control(control::INDEX)).add(R1, 1);
    code.store(Size::Double, R8, control(control::INDEX), R1).mov(R1, 0);
    code.bind(same_round).store(Size::Double, R8, control(control::FLOW), R1);
    code.load_map(R1, &maps.flows).mov(R2, R10).add(R2, i32::from(KEY)).call(Helper::MapLookup);
    code.branch(Condition::NotEqual, R0, 0, found).jump(drop);
    code.bind(found).mov(R7, R0);

    // Ethernet, IP and UDP: whoever had the frame before may have changed all of it.
    let start = [&destination[..], &source[..], &[8, 0], &ip_start(12 + payload_bytes)].concat();
    for (at, word) in start.as_chunks().0.iter().enumerate() {
        code.load_number(R1, u64::from_ne_bytes(*word)).store(Size::Double, R9, at as i16 * 8, R1);
    }
    let copies = [
        (Size::Half, entry::IP_CHECKSUM, frame::IP_CHECKSUM),
        (Size::Double, entry::ADDRESSES, frame::IP_ADDRESSES),
        (Size::Word, entry::PORTS, frame::PORTS),
        (Size::Word, entry::SSRC, frame::SSRC),
        (Size::Double, entry::STAMP, frame::PAYLOAD),
    ];
    for (size, from, to) in copies {
        code.load(size, R1, R7, from).store(size, R9, to, R1);
    }
    code.store(Size::Half, R9, frame::UDP_LENGTH, i32::from(udp_bytes(payload_bytes).to_be()));

    // R3: the index; R5: the sum.
    code.load(Size::Double, R3, R10, INDEX).load(Size::Word, R5, R7, entry::SUM);
    code.load(Size::Word, R1, R7, entry::SEQUENCE).add(R1, R3).and(R1, 0xffff);
    code.load(Size::Word, R2, R7, entry::RTP).or(R1, R2).big_endian(R1, 32);
    code.store(Size::Word, R9, frame::RTP, R1).add(R5, R1);
    code.mov(R1, R3).mul(R1, payload_bytes as i32).load(Size::Word, R2, R7, entry::TIMESTAMP).add(R1, R2);
    code.big_endian(R1, 32).store(Size::Word, R9, frame::TIMESTAMP, R1).add(R5, R1);

    // R4: the check; R8: the letters.
    code.load(Size::Word, R4, R7, entry::CHECK).load(Size::Double, R8, R7, entry::LETTERS);
    code.mov32(R1, R3).mul32(R1, INDEX_FACTOR.cast_signed()).add32(R4, R1);
    code.mov32(R1, R6).mul32(R1, SENT_FACTOR.cast_signed()).add32(R4, R1);
    for (word, number) in [(1, R3), (2, R6), (3, R4)] {
        code.mov32(R1, number);
        emit::spread(&mut code, R1, R2);
        code.xor(R1, R8).big_endian(R1, 64).store(Size::Double, R9, frame::PAYLOAD + word * 8, R1);
        emit::add_halves(&mut code, R5, R1, R2);
    }
    emit::fold(&mut code, R5, R1);
    // A sum of zero is sent as all ones (RFC 768).
    let nonzero = code.label();
    code.xor(R5, 0xffff).branch(Condition::NotEqual, R5, 0, nonzero).mov(R5, 0xffff);
    code.bind(nonzero).store(Size::Half, R9, frame::UDP_CHECKSUM, R5);
    let fixed = frame::PAYLOAD + STAMP_BYTES as i16;
    for (at, digits) in
        fixed_digits(payload_bytes).into_iter().take((payload_bytes - STAMP_BYTES) / 8).enumerate()
    {
        code.load_number(R1, digits).xor(R1, R8).store(Size::Double, R9, fixed + at as i16 * 8, R1);
    }
    code.mov(R0, Verdict::Transmit as i32).exit();
    code.bind(drop).mov(R0, Verdict::Drop as i32).exit();
    Ok(code.build()?)
}

/// Moves on to the next packet's number and time, and counts bursts. The index of this one goes to the stack. Who is late by more than
/// [`LATE_NS`] does not catch up: the schedule begins anew, now. `R6` is now, `R7` when it was due, `R8` our state; `R1` to `R5` are lost.
fn schedule(code: &mut Assembler<'_>) {
    use Register::{R1, R2, R3, R5, R6, R7, R8, R10};
    let control = |word: usize| (word * 8) as i16;
    for (word, by) in [(control::NUMBER, None), (control::DUE, Some(control::STEP))] {
        code.mov(R2, 1).load(Size::Double, R1, R8, control(word));
        if let Some(by) = by {
            code.load(Size::Double, R2, R8, control(by));
        }
        code.add(R1, R2).store(Size::Double, R8, control(word), R1);
    }
    code.load(Size::Double, R5, R8, control(control::INDEX));
    code.store(Size::Double, R10, INDEX, R5);

    code.load(Size::Double, R1, R8, control(control::LEAST_STEP));
    code.mov(R2, R6).shl(R2, FRACTION_BITS as i32).add(R2, R1);
    code.store(Size::Double, R8, control(control::SOONEST), R2);

    let [punctual, burst, counted, fewer] = std::array::from_fn(|_| code.label());
    code.mov(R1, R6).sub(R1, R7).branch(Condition::LessOrEqual, R1, LATE_NS as i32, punctual);
    code.mov(R2, R1).shl(R2, FRACTION_BITS as i32);
    code.load(Size::Double, R3, R8, control(control::DUE)).add(R3, R2);
    code.store(Size::Double, R8, control(control::DUE), R3);
    code.load(Size::Double, R2, R8, control(control::WARM)).branch(Condition::Less, R5, R2, punctual);
    code.load(Size::Double, R2, R8, control(control::MOVED)).add(R2, R1);
    code.store(Size::Double, R8, control(control::MOVED), R2);

    code.bind(punctual).mov(R3, 0).load(Size::Double, R1, R8, control(control::BURST_BEGUN));
    code.mov(R2, R6).sub(R2, R1).branch(Condition::Less, R2, BURST_NS as i32, burst);
    code.store(Size::Double, R8, control(control::BURST_BEGUN), R6).jump(counted);
    code.bind(burst).load(Size::Double, R3, R8, control(control::BURST));
    code.bind(counted).add(R3, 1).store(Size::Double, R8, control(control::BURST), R3);
    code.load(Size::Double, R1, R8, control(control::BURST_MOST));
    code.branch(Condition::LessOrEqual, R3, R1, fewer);
    code.store(Size::Double, R8, control(control::BURST_MOST), R3).bind(fewer);
}

/// Places on the stack.
const KEY: i16 = -8;
const INDEX: i16 = -16;
const LOOKS: i16 = -24;
const GAP: i16 = -32;

/// How often the clock is looked at before the frame is given up: some 4 us, in which the receiver cannot run.
const MOST_LOOKS: i32 = 100;
/// At least so long it waits for a packet.
pub(super) const PATIENCE_NS: u64 = 2_000;
