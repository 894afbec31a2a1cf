//! Mixing, 16 samples at a time.

use std::arch::x86_64::*;

use bytemuck::must_cast;

use crate::simd::door::avx2;
use crate::simd::mix::{Block, CEILING, KNEE};
use crate::simd::{Mix, scalar};

/// The family in this table.
pub(in crate::simd) const KERNELS: Mix = Mix { squares, minus_self, gain };

avx2! {
    fn squares(frames: &[Block], blocks: usize, members: &[u32], squares: &mut [u64]) {
        let low = _mm256_set1_epi64x(0xFFFF_FFFF);
        for (squares, &member) in squares.iter_mut().zip(members) {
            let start = member as usize * blocks;
            let frame = frames.get(start..start + blocks).unwrap_or_default();
            let mut sum = _mm256_setzero_si256();
            for block in frame {
                for x in must_cast::<Block, [__m256i; 2]>(*block) {
                    // Two squares of -32,768 are 2^31: an unsigned number.
                    let pairs = _mm256_madd_epi16(x, x);
                    let both = _mm256_add_epi64(_mm256_and_si256(pairs, low), _mm256_srli_epi64(pairs, 32));
                    sum = _mm256_add_epi64(sum, both);
                }
            }
            *squares = must_cast::<__m256i, [u64; 4]>(sum).iter().sum();
        }
    }

    fn minus_self(frames: &mut [Block], blocks: usize, members: &[u32], mix: &mut [Block]) {
        for (block, mix) in mix.iter_mut().take(blocks).enumerate() {
            let sums = sum(frames, blocks, members, block);
            *mix = must_cast(sums.map(|sum| sum.less(_mm256_setzero_si256())));
            for &member in members {
                let start = member as usize * blocks;
                if let Some(frame) = frames.get_mut(start..start + blocks) {
                    let [first, second]: [__m256i; 2] = must_cast(frame[block]);
                    frame[block] = must_cast([sums[0].less(first), sums[1].less(second)]);
                }
            }
        }
    }

    fn gain(pcm: &mut [i16], gain: i32, step: i32) {
        scalar::mix::gain(pcm, gain, step);
    }
}

/// 16 sums of 32 bits, so that samples can be taken off in 16 bits.
#[derive(Clone, Copy)]
struct Sum {
    /// Saturated to 16 bits.
    near: __m256i,
    /// What that took off the magnitude, saturated.
    beyond: __m256i,
    /// -1 where it took off a negative sum, otherwise 1.
    sign: __m256i,
}

impl Sum {
    /// The limited differences of the sums and `x`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn less(self, x: __m256i) -> __m256i {
        // The difference of two 16-bit numbers is a 16-bit magnitude and a sign. A sum beyond 16 bits lies
        // further out than any sample, so what is beyond adds to the magnitude.
        let magnitude = _mm256_sub_epi16(_mm256_max_epi16(self.near, x), _mm256_min_epi16(self.near, x));
        let magnitude = _mm256_adds_epu16(magnitude, self.beyond);
        let magnitude = _mm256_min_epu16(magnitude, _mm256_set1_epi16(CEILING as i16));
        let above = _mm256_subs_epu16(magnitude, _mm256_set1_epi16(KNEE as i16));
        let limited = _mm256_sub_epi16(magnitude, _mm256_mulhrs_epi16(above, above));
        _mm256_sign_epi16(limited, _mm256_or_si256(_mm256_cmpgt_epi16(x, self.near), self.sign))
    }
}

/// The sums of one block of all members.
#[inline]
#[target_feature(enable = "avx2")]
fn sum(frames: &[Block], blocks: usize, members: &[u32], block: usize) -> [Sum; 2] {
    let mut totals = [_mm256_setzero_si256(); 4];
    let mut add = |a: [__m256i; 2], b: [__m256i; 2]| {
        let ones = _mm256_set1_epi16(1);
        for half in 0..2 {
            // Interleaved, so that one multiplication adds two members; packing undoes the order.
            let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(a[half], b[half]), ones);
            let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(a[half], b[half]), ones);
            totals[2 * half] = _mm256_add_epi32(totals[2 * half], low);
            totals[2 * half + 1] = _mm256_add_epi32(totals[2 * half + 1], high);
        }
    };
    let at = |member: u32| {
        let start = member as usize * blocks;
        let frame = frames.get(start..start + blocks);
        must_cast(frame.map_or([0; 32], |frame| frame[block]))
    };
    let (pairs, rest) = members.as_chunks::<2>();
    for &[a, b] in pairs {
        add(at(a), at(b));
    }
    if let &[last] = rest {
        add(at(last), [_mm256_setzero_si256(); 2]);
    }
    [0, 1].map(|half| {
        let wide = [totals[2 * half], totals[2 * half + 1]];
        let near = _mm256_packs_epi32(wide[0], wide[1]);
        let beyond = wide.map(|wide| {
            let near = _mm256_max_epi32(
                _mm256_min_epi32(wide, _mm256_set1_epi32(i32::from(i16::MAX))),
                _mm256_set1_epi32(i32::from(i16::MIN)),
            );
            _mm256_abs_epi32(_mm256_sub_epi32(wide, near))
        });
        let beyond = _mm256_packus_epi32(beyond[0], beyond[1]);
        let inside = _mm256_cmpeq_epi16(beyond, _mm256_setzero_si256());
        let sign =
            _mm256_or_si256(_mm256_andnot_si256(inside, _mm256_srai_epi16(near, 15)), _mm256_set1_epi16(1));
        Sum { near, beyond, sign }
    })
}
