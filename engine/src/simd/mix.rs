//! The family of mixing kernels.

/// Mixing on a slab of frames. A frame is `blocks` blocks of 32 samples, member `m` has the blocks
/// `m * blocks ..`, and a member whose frame
/// is not wholly in the slab is passed over (silent, in sums of squares).
#[derive(Debug)]
pub struct Mix {
    /// For each of `members` the sum of the squares of its frame, exactly, in its order.
    pub squares: fn(frames: &[Block], blocks: usize, members: &[u32], squares: &mut [u64]),
    /// Replaces the frame of each of `members` by the limited sum of the other ones, and writes the limited
    /// sum of all to `mix` (as many blocks of it as there are). The sums have 32 bits, which up to 65,536
    /// members cannot exceed; nobody may be named twice.
    pub minus_self: fn(frames: &mut [Block], blocks: usize, members: &[u32], mix: &mut [Block]),
    /// Multiplies sample `i` by `gain + i * step`, a factor with 24 fractional bits of which the upper
    /// 12 count; rounds to nearest and saturates. Factors are taken modulo 256 and are meant to stay
    /// within 0 to 8.
    pub gain: fn(pcm: &mut [i16], gain: i32, step: i32),
}

/// The unit of a slab: a vector of 512 bits.
pub type Block = [i16; 32];

/// Up to this magnitude a sum passes unchanged (-2.5 dB of full scale).
pub const KNEE: u16 = 24_575;

/// From this magnitude on a sum comes out as full scale (1.9 dB above it).
pub const CEILING: u16 = 40_959;

/// The limiter of every mix: straight up to [`KNEE`], a parabola from there with slope 1 at the knee and 0
/// at [`CEILING`], where it reaches 32,767. Odd and monotone.
#[inline(always)]
#[must_use]
pub const fn limit(sum: i32) -> i16 {
    let magnitude = sum.unsigned_abs();
    let magnitude = if magnitude < CEILING as u32 { magnitude as i32 } else { CEILING as i32 };
    let above = if magnitude > KNEE as i32 { magnitude - KNEE as i32 } else { 0 };
    let limited = magnitude - ((above * above + 0x4000) >> 15);
    if sum < 0 { -limited as i16 } else { limited as i16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{available, kernels};

    /// Numbers that look random, some of them extreme.
    fn samples(count: usize, seed: u32) -> Vec<i16> {
        let mut state = seed | 1;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match state >> 28 {
                    0 => i16::MIN,
                    1 => i16::MAX,
                    2 => 0,
                    3..8 => (state >> 8) as i16 >> 5,
                    _ => (state >> 8) as i16,
                }
            })
            .collect()
    }

    fn slab(blocks: usize, seed: u32) -> Vec<Block> {
        samples(blocks * 32, seed).as_chunks().0.to_vec()
    }

    #[test]
    fn limiter_is_exact_to_the_knee_then_monotone_smooth_and_odd() {
        for sum in -i32::from(KNEE)..=i32::from(KNEE) {
            assert_eq!(i32::from(limit(sum)), sum);
        }
        let mut before = limit(0);
        for sum in 1..70_000 {
            let limited = limit(sum);
            assert!((0..=1).contains(&(limited - before)), "{sum}");
            assert_eq!(limit(-sum), -limited);
            before = limited;
        }
        assert_eq!(limit(i32::from(CEILING)), i16::MAX);
        assert_eq!(limit(i32::MAX), i16::MAX);
        assert_eq!(limit(i32::MIN), -i16::MAX);
    }

    #[test]
    fn every_table_mixes_alike_and_by_the_definition() {
        for blocks in [0usize, 1, 2, 4, 5, 6, 10, 11] {
            for count in [0usize, 1, 2, 3, 5, 8, 33] {
                for seed in 1..3 {
                    let before = slab(blocks * count, seed * 77 + count as u32);
                    // Not all of them, and one that is not there.
                    let members: Vec<u32> = (0..=count as u32).rev().filter(|m| m % 5 != 3).collect();
                    for table in available() {
                        let mut frames = before.clone();
                        let mut mix = vec![[7; 32]; blocks];
                        (table.mix.minus_self)(&mut frames, blocks, &members, &mut mix);
                        let inside = || members.iter().map(|&m| m as usize).filter(|&m| m < count);
                        for block in 0..blocks {
                            for lane in 0..32 {
                                let at = |m: usize| i64::from(before[m * blocks + block][lane]);
                                let total: i64 = inside().map(at).sum();
                                assert_eq!(mix[block][lane], limit(total as i32), "{}", table.name);
                                for m in 0..count {
                                    let expected = if inside().any(|other| other == m) {
                                        limit((total - at(m)) as i32)
                                    } else {
                                        at(m) as i16
                                    };
                                    let out = frames[m * blocks + block][lane];
                                    assert_eq!(out, expected, "{} {count} {m} {block} {lane}", table.name);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_table_handles_the_extremes_of_sum_and_sample() {
        // Sums at and around every corner of 16 bits, met by every extreme sample.
        let corners =
            [i16::MIN, i16::MIN + 1, -24_576, -1, 0, 1, 8191, 24_575, 24_576, i16::MAX - 1, i16::MAX];
        for table in available() {
            for &a in &corners {
                for &b in &corners {
                    for &c in &corners {
                        let mut frames = [[a; 32], [b; 32], [c; 32]];
                        let mut mix = [[0; 32]];
                        (table.mix.minus_self)(&mut frames, 1, &[0, 1, 2], &mut mix);
                        let [a, b, c] = [a, b, c].map(i32::from);
                        assert_eq!(mix[0], [limit(a + b + c); 32], "{}", table.name);
                        assert_eq!(
                            frames,
                            [[limit(b + c); 32], [limit(a + c); 32], [limit(a + b); 32]],
                            "{} {a} {b} {c}",
                            table.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn thousand_members_at_full_scale_do_not_overflow() {
        for table in available() {
            let mut frames = vec![[i16::MIN; 32]; 1000];
            frames[1] = [i16::MAX; 32];
            let members: Vec<u32> = (0..1000).collect();
            let mut mix = [[0; 32]];
            (table.mix.minus_self)(&mut frames, 1, &members, &mut mix);
            assert!(frames.iter().chain(&mix).flatten().all(|&sample| sample == -i16::MAX), "{}", table.name);
        }
    }

    #[test]
    fn every_table_sums_the_squares_exactly() {
        for table in available() {
            for blocks in 1..12 {
                let mut frames = slab(blocks * 7, blocks as u32);
                frames[0] = [i16::MIN; 32];
                let mut squares = [1; 8];
                (table.mix.squares)(&frames, blocks, &[6, 0, 3, 9], &mut squares);
                for (squares, m) in squares.iter().zip([6, 0, 3]) {
                    let frame = frames[m * blocks..][..blocks].as_flattened();
                    let expected: u64 = frame.iter().map(|&s| (i64::from(s) * i64::from(s)) as u64).sum();
                    assert_eq!(*squares, expected, "{} {blocks} {m}", table.name);
                }
                assert_eq!(squares[3..], [0, 1, 1, 1, 1], "not there is silent");
            }
        }
    }

    #[test]
    fn every_table_applies_a_gain_alike_and_by_the_definition() {
        for table in available() {
            for count in (0..70).chain([160, 481]) {
                for (gain, step) in
                    [(0, 0), (1 << 24, 0), (1 << 23, 0), ((8 << 24) - 1, 0), (0, 104_857), (1 << 24, -34_952)]
                {
                    let before = samples(count + 1, count as u32);
                    let mut pcm = before.clone();
                    (table.mix.gain)(&mut pcm[1..], gain, step);
                    for (i, (&out, &x)) in pcm[1..].iter().zip(&before[1..]).enumerate() {
                        let factor = (i64::from(gain) + i as i64 * i64::from(step)) >> 12;
                        let expected = ((i64::from(x) * factor + 2048) >> 12).clamp(-32_768, 32_767);
                        assert_eq!(i64::from(out), expected, "{} {count} {i} {gain} {step}", table.name);
                    }
                }
            }
        }
    }

    #[test]
    fn gain_of_one_changes_nothing_and_of_nothing_silences() {
        let before: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut pcm = before.clone();
        (kernels().mix.gain)(&mut pcm, 1 << 24, 0);
        assert_eq!(pcm, before);
        (kernels().mix.gain)(&mut pcm, 0, 0);
        assert!(pcm.iter().all(|&sample| sample == 0));
    }
}
