//! Pieces of code that both programs have.

use xdp::bpf::{Assembler, Condition, Helper, Register, SharedArray, Size};

use super::layout::{Maps, control, slot};
use crate::rtpload::histogram::BUCKETS;

/// Each hexadecimal digit of a 32-bit number in a byte of its own (`packet::spread`).
pub(super) fn spread(code: &mut Assembler<'_>, number: Register, scratch: Register) {
    for (shift, mask) in [(16, MASK_16), (8, MASK_8), (4, MASK_4)] {
        code.mov(scratch, number).shl(scratch, shift).or(number, scratch);
        code.load_number(scratch, mask).and(number, scratch);
    }
}

/// The reverse; `number` holds digits only.
pub(super) fn gather(code: &mut Assembler<'_>, number: Register, scratch: Register) {
    for (shift, mask) in [(4, MASK_8), (8, MASK_16)] {
        code.mov(scratch, number).shr(scratch, shift).or(number, scratch);
        code.load_number(scratch, mask).and(number, scratch);
    }
    code.mov(scratch, number).shr(scratch, 16).or(number, scratch);
    code.mov32(number, number);
}

/// Adds both halves of a word to a sum.
pub(super) fn add_halves(code: &mut Assembler<'_>, sum: Register, word: Register, scratch: Register) {
    code.mov32(scratch, word).add(sum, scratch);
    code.mov(scratch, word).shr(scratch, 32).add(sum, scratch);
}

/// Folds a sum of 32-bit words to 16 bits.
pub(super) fn fold(code: &mut Assembler<'_>, sum: Register, scratch: Register) {
    code.mov32(scratch, sum).shr(sum, 32).add(sum, scratch);
    for _ in 0..3 {
        code.mov(scratch, sum).shr(scratch, 16).and(sum, 0xffff).add(sum, scratch);
    }
}

/// Adds one to a word of a map with one entry. `R1` and `R2` are lost.
pub(super) fn count<'m, const WORDS: usize>(
    code: &mut Assembler<'m>,
    map: &'m SharedArray<WORDS>,
    word: usize,
) {
    code.load_map_value(Register::R1, map, word as u32 * 8);
    code.load(Size::Double, Register::R2, Register::R1, 0).add(Register::R2, 1);
    code.store(Size::Double, Register::R1, 0, Register::R2);
}

/// Counts the 32-bit value in `R1` in the histogram that begins `at` bytes behind `R5`. `R1` to `R5` are lost.
pub(super) fn record(code: &mut Assembler<'_>, at: i16) {
    use Register::{R1, R2, R3, R4, R5};
    let small = code.label();
    // R2: the bucket; R3: what is left of the value; R4: how far to shift.
    code.mov(R2, R1).branch(Condition::Less, R1, 32, small);
    code.mov(R3, R1).mov(R4, 0);
    for bits in [16, 8, 4, 2, 1] {
        let below = code.label();
        code.branch(Condition::Less, R3, 1 << bits, below).shr(R3, bits).add(R4, bits);
        code.bind(below);
    }
    code.sub(R4, 5).mov(R2, R1).shr(R2, R4).shl(R4, 5).add(R2, R4);
    code.bind(small).and(R2, BUCKETS as i32 - 1).shl(R2, 3).add(R5, R2);
    code.load(Size::Double, R2, R5, at).add(R2, 1).store(Size::Double, R5, at, R2);
}

/// Finds the slot of the time in `R1`: `R0`, or 0 if there is none. `key` is a place on the stack. `R1` to `R5` are lost.
pub(super) fn slot<'m>(code: &mut Assembler<'m>, maps: &'m Maps, key: i16) {
    use Register::{R1, R2, R3, R10};
    code.load_map_value(R3, &maps.control, 0);
    code.load(Size::Double, R2, R3, control::START as i16 * 8).sub(R1, R2);
    code.load(Size::Double, R2, R3, control::SLOT_BITS as i16 * 8).shr(R1, R2);
    code.store(Size::Word, R10, key, R1);
    code.load_map(R1, &maps.slots).mov(R2, R10).add(R2, i32::from(key)).call(Helper::MapLookup);
}

/// Who gives a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alive {
    /// All the time.
    Generator,
    /// When something comes: it counts where the generator runs, too.
    Receiver,
}

/// A sign of life of this core at the time in `now`, which is kept. If the last one is longer ago than [`HELD_NS`], somebody else had
/// the core, and the slot knows. `key` and `gap` are places on the stack. `R0` to `R5` are lost.
pub(super) fn alive<'m>(
    code: &mut Assembler<'m>,
    maps: &'m Maps,
    who: Alive,
    now: Register,
    [key, gap]: [i16; 2],
) {
    use Register::{R0, R1, R2, R3, R10};
    let done = code.label();
    code.call(Helper::Cpu).load_map_value(R1, &maps.control, 0);
    if who == Alive::Generator {
        code.store(Size::Double, R1, control::CORE as i16 * 8, R0);
    } else {
        code.load(Size::Double, R2, R1, control::CORE as i16 * 8).branch(Condition::NotEqual, R0, R2, done);
    }
    code.load(Size::Double, R2, R1, control::SIGN as i16 * 8);
    code.store(Size::Double, R1, control::SIGN as i16 * 8, now).branch(Condition::Equal, R2, 0, done);
    code.mov(R3, now).sub(R3, R2).branch(Condition::LessOrEqual, R3, HELD_NS as i32, done);
    code.store(Size::Double, R10, gap, R3);
    // When all is sent, there is no generator that could give a sign.
    code.load_map_value(R1, &maps.control, 0);
    code.load(Size::Double, R2, R1, control::NUMBER as i16 * 8);
    code.load(Size::Double, R3, R1, control::TOTAL as i16 * 8);
    code.branch(Condition::GreaterOrEqual, R2, R3, done);
    code.mov(R1, now);
    slot(code, maps, key);
    code.branch(Condition::Equal, R0, 0, done);
    code.load(Size::Double, R1, R10, gap).load(Size::Double, R2, R0, slot::HELD_TOTAL);
    code.add(R2, R1).store(Size::Double, R0, slot::HELD_TOTAL, R2);
    code.load(Size::Double, R2, R0, slot::HELD).branch(Condition::LessOrEqual, R1, R2, done);
    code.store(Size::Double, R0, slot::HELD, R1);
    code.bind(done);
}

/// A core that shows no sign of life for so long was held up.
const HELD_NS: u64 = 200_000;

pub(super) const NO_DIGIT: u64 = 0xf0f0_f0f0_f0f0_f0f0;
const MASK_16: u64 = 0x0000_ffff_0000_ffff;
const MASK_8: u64 = 0x00ff_00ff_00ff_00ff;
const MASK_4: u64 = 0x0f0f_0f0f_0f0f_0f0f;
