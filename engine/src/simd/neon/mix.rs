//! Mixing.

use crate::simd::door::neon;
use crate::simd::mix::Block;
use crate::simd::{Mix, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: Mix = Mix { squares, minus_self, gain };

neon! {
    fn squares(frames: &[Block], blocks: usize, members: &[u32], squares: &mut [u64]) {
        scalar::mix::squares(frames, blocks, members, squares);
    }

    fn minus_self(frames: &mut [Block], blocks: usize, members: &[u32], mix: &mut [Block]) {
        scalar::mix::minus_self(frames, blocks, members, mix);
    }

    fn gain(pcm: &mut [i16], gain: i32, step: i32) {
        scalar::mix::gain(pcm, gain, step);
    }
}
