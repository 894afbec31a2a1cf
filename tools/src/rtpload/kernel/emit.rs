//! Pieces of code that both programs have.

use xdp::bpf::{Assembler, Condition, Register, SharedArray, Size};

use super::layout::BUCKETS;

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

/// Counts the 32-bit value in `R1` in a histogram. `R1` to `R4` are lost.
pub(super) fn record<'m>(code: &mut Assembler<'m>, map: &'m SharedArray<BUCKETS>) {
    use Register::{R1, R2, R3, R4};
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
    code.bind(small).and(R2, BUCKETS as i32 - 1).shl(R2, 3);
    code.load_map_value(R1, map, 0).add(R1, R2);
    code.load(Size::Double, R2, R1, 0).add(R2, 1).store(Size::Double, R1, 0, R2);
}

pub(super) const NO_DIGIT: u64 = 0xf0f0_f0f0_f0f0_f0f0;
const MASK_16: u64 = 0x0000_ffff_0000_ffff;
const MASK_8: u64 = 0x00ff_00ff_00ff_00ff;
const MASK_4: u64 = 0x0f0f_0f0f_0f0f_0f0f;
