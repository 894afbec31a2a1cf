//! Mixing, 32 samples at a time.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::door::avx512;
use crate::simd::mix::{Block, CEILING, KNEE};
use crate::simd::{Mix, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: Mix = Mix { squares, minus_self, gain };

avx512! {
    fn squares(frames: &[Block], blocks: usize, members: &[u32], squares: &mut [u64]) {
        for (squares, members) in squares.chunks_mut(SUMS).zip(members.chunks(SUMS)) {
            let mut sums = [_mm512_setzero_si512(); SUMS];
            for (sum, &member) in sums.iter_mut().zip(members) {
                let start = member as usize * blocks;
                *sum = squares_of(frames.get(start..start + blocks).unwrap_or_default());
            }
            let sums: [u64; SUMS] = must_cast(add_across(sums));
            for (squares, sum) in squares.iter_mut().zip(sums).take(members.len()) {
                *squares = sum;
            }
        }
    }

    fn minus_self(frames: &mut [Block], blocks: usize, members: &[u32], mix: &mut [Block]) {
        let blocks_mixed = blocks.min(mix.len());
        let (groups, rest) = mix[..blocks_mixed].as_chunks_mut::<GROUP>();
        for (index, group) in groups.iter_mut().enumerate() {
            minus_self_of(frames, blocks, members, index * GROUP, group);
        }
        for (index, block) in rest.iter_mut().enumerate() {
            minus_self_of(frames, blocks, members, blocks_mixed - blocks_mixed % GROUP + index, std::array::from_mut(block));
        }
    }

    fn gain(pcm: &mut [i16], gain: i32, step: i32) {
        scalar::mix::gain(pcm, gain, step);
    }
}

/// Blocks whose sums are held in registers: 20 ms at 8 kHz.
const GROUP: usize = 5;

/// Members whose squares are added up at once.
const SUMS: usize = 8;

/// The squares of a frame, in eight sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn squares_of(frame: &[Block]) -> __m512i {
    let mut sums = [_mm512_setzero_si512(); 2];
    let (groups, rest) = frame.as_chunks::<GROUP>();
    for group in groups {
        for &block in group {
            add_squares(&mut sums, block);
        }
    }
    for &block in rest {
        add_squares(&mut sums, block);
    }
    let [all, high] = sums;
    // Those have been added to the first as multiples of 2^32, modulo 2^64.
    _mm512_add_epi64(_mm512_sub_epi64(all, _mm512_slli_epi64(high, 32)), high)
}

/// Adds pairs of squares to the first sums as they lie, and every second to the other sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_squares([all, high]: &mut [__m512i; 2], block: Block) {
    let x: __m512i = must_cast(block);
    // Two squares of -32,768 are 2^31: an unsigned number of 32 bits, of which 64 have two.
    let pairs = _mm512_madd_epi16(x, x);
    *all = _mm512_add_epi64(*all, pairs);
    *high = _mm512_add_epi64(*high, _mm512_srli_epi64(pairs, 32));
}

/// The sum of the lanes of every vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_across(sums: [__m512i; SUMS]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = sums;
    let [ab, cd, ef, gh] = [add_2(a, b), add_2(c, d), add_2(e, f), add_2(g, h)];
    add_4(add_4(ab, cd), add_4(ef, gh))
}

/// Neighbouring lanes of two vectors, added: `a b a b ..`
#[inline]
#[target_feature(enable = "avx512f")]
fn add_2(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Neighbouring pairs of lanes of two vectors, added: `a a b b`
#[inline]
#[target_feature(enable = "avx512f")]
fn add_4(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xDD>(a, b))
}

/// 32 sums of 32 bits, so that samples can be taken off in 16 bits.
#[derive(Clone, Copy)]
struct Sum {
    /// Saturated to 16 bits.
    near: __m512i,
    /// What that took off the magnitude, saturated.
    beyond: __m512i,
    /// Whether that is nothing, or the sum is positive.
    upright: __mmask32,
}

impl Sum {
    /// The limited differences of the sums and `x`; without `FAR` all the sums have 16 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn less<const FAR: bool>(self, x: __m512i) -> __m512i {
        // The difference of two 16-bit numbers is a 16-bit magnitude and a sign. A sum beyond 16 bits lies
        // further out than any sample, so what is beyond adds to the magnitude.
        let positive = if FAR {
            _mm512_mask_cmple_epi16_mask(self.upright, x, self.near)
        } else {
            _mm512_cmple_epi16_mask(x, self.near)
        };
        let mut magnitude = _mm512_mask_sub_epi16(_mm512_sub_epi16(x, self.near), positive, self.near, x);
        if FAR {
            magnitude = _mm512_adds_epu16(magnitude, self.beyond);
        }
        let magnitude = _mm512_min_epu16(magnitude, _mm512_set1_epi16(CEILING as i16));
        let above = _mm512_subs_epu16(magnitude, _mm512_set1_epi16(KNEE as i16));
        let bend = _mm512_mulhrs_epi16(above, above);
        _mm512_mask_sub_epi16(_mm512_sub_epi16(bend, magnitude), positive, magnitude, bend)
    }
}

/// `N` blocks of the mix, from the block `first` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn minus_self_of<const N: usize>(
    frames: &mut [Block],
    blocks: usize,
    members: &[u32],
    first: usize,
    mix: &mut [Block; N],
) {
    let sums = sum(frames, blocks, members, first);
    *mix = sums.map(|sum| must_cast(sum.less::<true>(_mm512_setzero_si512())));
    // Seldom does a sum leave 16 bits, and then by block, not by member: the branch is predicted.
    if sums.iter().any(|sum| _mm512_test_epi16_mask(sum.beyond, sum.beyond) != 0) {
        for &member in members {
            if let Some(frame) = piece_mut::<N>(frames, blocks, member, first) {
                for (block, sum) in frame.iter_mut().zip(&sums) {
                    *block = must_cast(sum.less::<true>(must_cast(*block)));
                }
            }
        }
    } else {
        for &member in members {
            if let Some(frame) = piece_mut::<N>(frames, blocks, member, first) {
                for (block, sum) in frame.iter_mut().zip(&sums) {
                    *block = must_cast(sum.less::<false>(must_cast(*block)));
                }
            }
        }
    }
}

/// The sums of `N` blocks of all members.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum<const N: usize>(frames: &[Block], blocks: usize, members: &[u32], first: usize) -> [Sum; N] {
    const SILENCE: Block = [0; 32];
    let ones = _mm512_set1_epi16(1);
    let mut low = [_mm512_setzero_si512(); N];
    let mut high = [_mm512_setzero_si512(); N];
    let mut add = |a: &[Block; N], b: &[Block; N]| {
        for n in 0..N {
            // Interleaved, so that one dot product adds two members; packing undoes the order.
            let (a, b) = (must_cast(a[n]), must_cast(b[n]));
            low[n] = _mm512_dpwssd_epi32(low[n], _mm512_unpacklo_epi16(a, b), ones);
            high[n] = _mm512_dpwssd_epi32(high[n], _mm512_unpackhi_epi16(a, b), ones);
        }
    };
    let at = |member: u32| {
        let start = member as usize * blocks;
        let frame = frames.get(start..start + blocks).and_then(|frame| frame.get(first..)?.first_chunk());
        frame.unwrap_or(&[SILENCE; N])
    };
    let (pairs, rest) = members.as_chunks::<2>();
    for &[a, b] in pairs {
        add(at(a), at(b));
    }
    if let &[last] = rest {
        add(at(last), &[SILENCE; N]);
    }
    std::array::from_fn(|n| {
        let near = _mm512_packs_epi32(low[n], high[n]);
        let [beyond_low, beyond_high] = [low[n], high[n]].map(|wide| {
            let near = _mm512_max_epi32(
                _mm512_min_epi32(wide, _mm512_set1_epi32(i32::from(i16::MAX))),
                _mm512_set1_epi32(i32::from(i16::MIN)),
            );
            _mm512_abs_epi32(_mm512_sub_epi32(wide, near))
        });
        let beyond = _mm512_packus_epi32(beyond_low, beyond_high);
        let upright = !(_mm512_test_epi16_mask(beyond, beyond) & _mm512_movepi16_mask(near));
        Sum { near, beyond, upright }
    })
}

#[inline(always)]
fn piece_mut<const N: usize>(
    frames: &mut [Block],
    blocks: usize,
    member: u32,
    first: usize,
) -> Option<&mut [Block; N]> {
    let start = member as usize * blocks;
    frames.get_mut(start..start + blocks)?.get_mut(first..)?.first_chunk_mut()
}
