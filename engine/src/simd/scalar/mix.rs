//! Mixing, block by block.

use crate::simd::mix::{Block, limit};

use crate::simd::Mix;

/// The family in this table.
pub(in crate::simd) const KERNELS: Mix = Mix { squares, minus_self, gain };

#[inline(always)]
pub(in crate::simd) fn squares(frames: &[Block], blocks: usize, members: &[u32], squares: &mut [u64]) {
    for (squares, &member) in squares.iter_mut().zip(members) {
        let start = member as usize * blocks;
        let frame = frames.get(start..start + blocks).unwrap_or_default();
        *squares = frame.iter().flatten().map(|&x| (i32::from(x) * i32::from(x)) as u64).sum();
    }
}

#[inline(always)]
pub(in crate::simd) fn minus_self(frames: &mut [Block], blocks: usize, members: &[u32], mix: &mut [Block]) {
    for (block, mix) in mix.iter_mut().take(blocks).enumerate() {
        let mut total = [0i32; 32];
        for &member in members {
            let start = member as usize * blocks;
            if let Some(frame) = frames.get(start..start + blocks) {
                for (total, &x) in total.iter_mut().zip(&frame[block]) {
                    *total = total.wrapping_add(i32::from(x));
                }
            }
        }
        for (mix, &total) in mix.iter_mut().zip(&total) {
            *mix = limit(total);
        }
        for &member in members {
            let start = member as usize * blocks;
            if let Some(frame) = frames.get_mut(start..start + blocks) {
                for (x, &total) in frame[block].iter_mut().zip(&total) {
                    *x = limit(total.wrapping_sub(i32::from(*x)));
                }
            }
        }
    }
}

#[inline(always)]
pub(in crate::simd) fn gain(pcm: &mut [i16], gain: i32, step: i32) {
    let mut factor = gain;
    for sample in pcm {
        let scaled = (i32::from(*sample).wrapping_mul(factor >> 12).wrapping_add(0x800)) >> 12;
        *sample = scaled.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        factor = factor.wrapping_add(step);
    }
}
