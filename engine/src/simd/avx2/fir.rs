//! Polyphase filters: eight groups in the lanes, two taps an instruction; banks without lanes output by output.

use std::arch::x86_64::*;
use std::array;

use bytemuck::{must_cast, must_cast_slice, pod_read_unaligned};

use crate::simd::door::avx2;
use crate::simd::fir::{LANE_PAIRS, LANE_PHASES, Lanes, ROW};
use crate::simd::scalar;
use crate::simd::{Fir, FirBank};

pub(in crate::simd) const KERNELS: Fir = Fir { polyphase };

avx2! {
    fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
        let Some(lanes) = &bank.lanes else {
            return rows(bank, phase, window, output);
        };
        let outputs = bank.outputs(phase, window.len(), output.len());
        let output = &mut output[..outputs];
        // Up to the next group.
        let lead = ((bank.phases - phase) % bank.phases).min(output.len());
        let (begun, output) = output.split_at_mut(lead);
        rows(bank, phase, window, begun);
        let Some(window) = window.get(bank.start(phase + lead) - bank.start(phase)..) else {
            return;
        };

        let room = window.len().checked_sub(lanes.reach()).map_or(0, |room| room / lanes.step + 1);
        let groups = room.min(output.len() / lanes.phases);
        if groups < LANES {
            return rows(bank, 0, window, output);
        }
        match (lanes.step, lanes.phases) {
            (2, 1) => all::<1, 1, 10>(bank, lanes, window, output, groups),
            (2, 3) => all::<1, 3, 3>(bank, lanes, window, output, groups),
            (2, 4) => all::<1, 4, 2>(bank, lanes, window, output, groups),
            (2, 6) => all::<1, 6, 2>(bank, lanes, window, output, groups),
            (2, 8) => all::<1, 8, 1>(bank, lanes, window, output, groups),
            (2, 12) => all::<1, 12, 1>(bank, lanes, window, output, groups),
            (4, 1) => all::<2, 1, 10>(bank, lanes, window, output, groups),
            (4, 3) => all::<2, 3, 3>(bank, lanes, window, output, groups),
            (6, 1) => all::<3, 1, 10>(bank, lanes, window, output, groups),
            (6, 2) => all::<3, 2, 5>(bank, lanes, window, output, groups),
            (6, 4) => all::<3, 4, 2>(bank, lanes, window, output, groups),
            (6, 8) => all::<3, 8, 1>(bank, lanes, window, output, groups),
            _ => return rows(bank, 0, window, output),
        }
        let (window, output) = (&window[groups * lanes.step..], &mut output[groups * lanes.phases..]);
        rows(bank, 0, window, output);
    }
}

/// Groups in a vector.
const LANES: usize = 8;
/// Vectors that are summed at once, at most.
const BLOCKS: usize = 10;
const BLOCKS_AND_TAIL: usize = BLOCKS * LANES + LANE_PAIRS;

/// All groups, of `STREAMS` pairs of samples and `PHASES` outputs each, `BLOCKS` vectors at once.
#[inline]
#[target_feature(enable = "avx2")]
fn all<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    bank: &FirBank,
    lanes: &Lanes,
    window: &[i16],
    output: &mut [i16],
    groups: usize,
) {
    let mut streams = [[0; BLOCKS_AND_TAIL]; STREAMS];
    let mut done = 0;
    while done < groups {
        let many = groups - done >= BLOCKS * LANES;
        let blocks = if many { BLOCKS } else { 1 };
        // The last vector may do some groups again.
        let first = done.min(groups - blocks * LANES);
        let window = &window[first * lanes.step..];
        let output = &mut output[first * PHASES..];
        if many {
            some::<STREAMS, PHASES, BLOCKS>(bank, lanes, window, &mut streams, output);
        } else {
            some::<STREAMS, PHASES, 1>(bank, lanes, window, &mut streams, output);
        }
        done = first + blocks * LANES;
    }
}

/// The first `BLOCKS` times eight groups; `streams` is room for deinterleaved samples.
#[inline]
#[target_feature(enable = "avx2")]
fn some<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    bank: &FirBank,
    lanes: &Lanes,
    window: &[i16],
    streams: &mut [[u32; BLOCKS_AND_TAIL]; STREAMS],
    output: &mut [i16],
) {
    let sums: [[__m256i; PHASES]; BLOCKS] = if STREAMS == 1 {
        sum(bank, lanes, [window])
    } else {
        let length = BLOCKS * LANES + (lanes.fine.len() / PHASES).div_ceil(STREAMS);
        deinterleave(window, streams, length);
        sum(bank, lanes, array::from_fn::<_, STREAMS, _>(|stream| must_cast_slice(&streams[stream])))
    };
    let (chunks, _) = output.as_chunks_mut::<LANES>();
    let (chunks, _) = chunks.as_chunks_mut::<PHASES>();
    for (sums, chunk) in sums.iter().zip(chunks) {
        interleave(sums, chunk);
    }
}

/// The rounded sums of every phase, 32 bits wide.
#[inline]
#[target_feature(enable = "avx2")]
fn sum<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    bank: &FirBank,
    lanes: &Lanes,
    streams: [&[i16]; STREAMS],
) -> [[__m256i; PHASES]; BLOCKS] {
    let (shift, bits) = (_mm_cvtsi32_si128(bank.shift as i32), _mm_cvtsi32_si128(bank.bits as i32));
    let mut sums = [[_mm256_set1_epi32(1 << (bank.shift + bank.bits - 1)); PHASES]; BLOCKS];
    add_all(&mut sums, &streams, 0, lanes.fine.as_chunks().0);
    for sum in sums.as_flattened_mut() {
        *sum = _mm256_sra_epi32(*sum, shift);
    }
    add_all(&mut sums, &streams, lanes.coarse_first, lanes.coarse.as_chunks().0);
    for sum in sums.as_flattened_mut() {
        *sum = _mm256_sra_epi32(*sum, bits);
    }
    sums
}

/// Adds the products of `taps`, of which the first is that of the pair `first`.
#[inline]
#[target_feature(enable = "avx2")]
fn add_all<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    sums: &mut [[__m256i; PHASES]; BLOCKS],
    streams: &[&[i16]; STREAMS],
    first: usize,
    taps: &[[[i16; 2]; PHASES]],
) {
    // Apart from what is borrowed, so that they stay in registers.
    let mut totals = *sums;
    for (index, taps) in taps.iter().enumerate() {
        let pair = first + index;
        let (samples, _) = streams[pair % STREAMS][pair / STREAMS * 2..].as_chunks::<{ 2 * LANES }>();
        let samples = &samples[..BLOCKS];
        for phase in 0..PHASES {
            let tap = _mm256_set1_epi32(must_cast(taps[phase]));
            for block in 0..BLOCKS {
                let samples = pod_read_unaligned(must_cast_slice(&samples[block]));
                totals[block][phase] =
                    _mm256_add_epi32(totals[block][phase], _mm256_madd_epi16(samples, tap));
            }
        }
    }
    *sums = totals;
}

/// Deals pairs of samples out to the streams, at least `length` to each as far as there are some.
#[inline]
#[target_feature(enable = "avx2")]
fn deinterleave<const STREAMS: usize>(
    window: &[i16],
    streams: &mut [[u32; BLOCKS_AND_TAIL]; STREAMS],
    length: usize,
) {
    let (pairs, _) = window.as_chunks::<2>();
    let (groups, rest) = pairs[..pairs.len().min(length * STREAMS)].as_chunks::<STREAMS>();
    for (index, group) in groups.iter().enumerate() {
        for (stream, &pair) in streams.iter_mut().zip(group) {
            stream[index] = must_cast(pair);
        }
    }
    for (stream, &pair) in streams.iter_mut().zip(rest) {
        stream[groups.len()] = must_cast(pair);
    }
}

/// Saturates the sums of eight groups and writes them in the order of time.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave<const PHASES: usize>(sums: &[__m256i; PHASES], output: &mut [[i16; LANES]; PHASES]) {
    if PHASES == 1 {
        let twice = _mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi32(sums[0], sums[0]));
        output[0] = must_cast(_mm256_castsi256_si128(twice));
        return;
    }
    if PHASES % 2 == 1 {
        let output = output.as_flattened_mut();
        for (phase, &sum) in sums.iter().enumerate() {
            let [samples, _]: [[i16; LANES]; 2] =
                must_cast(_mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi32(sum, sum)));
            for (lane, sample) in samples.into_iter().enumerate() {
                output[lane * PHASES + phase] = sample;
            }
        }
        return;
    }
    let mut pairs = [_mm256_setzero_si256(); LANE_PHASES / 2];
    for (pair, sums) in pairs.iter_mut().zip(sums.as_chunks::<2>().0) {
        *pair = pack(sums[0], sums[1]);
    }
    match PHASES {
        2 => store(output, [pairs[0]]),
        4 => store(output, by_2(pairs[0], pairs[1])),
        6 => store(output, by_3(pairs[0], pairs[1], pairs[2])),
        8 => {
            let [a, b] = by_2(pairs[0], pairs[2]);
            let [c, d] = by_2(pairs[1], pairs[3]);
            let ([a, b], [c, d]) = (by_2(a, c), by_2(b, d));
            store(output, [a, b, c, d]);
        }
        12 => {
            let [a, b, c] = by_3(pairs[0], pairs[2], pairs[4]);
            let [d, e, f] = by_3(pairs[1], pairs[3], pairs[5]);
            let ([a, b], [c, d], [e, f]) = (by_2(a, d), by_2(b, e), by_2(c, f));
            store(output, [a, b, c, d, e, f]);
        }
        _ => unreachable!("lanes have one, three, or an even number of phases"),
    }
}

#[inline]
fn store<const PHASES: usize, const VECTORS: usize>(
    output: &mut [[i16; LANES]; PHASES],
    vectors: [__m256i; VECTORS],
) {
    let (output, _) = output.as_chunks_mut::<2>();
    for (output, vector) in output.iter_mut().zip(vectors) {
        *output = must_cast(vector);
    }
}

/// Eight pairs of one sum of each, saturated.
#[inline]
#[target_feature(enable = "avx2")]
fn pack(first: __m256i, second: __m256i) -> __m256i {
    const ORDER: [[u8; 16]; 2] = [[0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]; 2];
    _mm256_shuffle_epi8(_mm256_packs_epi32(first, second), must_cast(ORDER))
}

/// `a0 b0 a1 b1 ..`
#[inline]
#[target_feature(enable = "avx2")]
fn by_2(a: __m256i, b: __m256i) -> [__m256i; 2] {
    let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)]
}

/// `a0 b0 c0 a1 b1 c1 ..`
#[inline]
#[target_feature(enable = "avx2")]
fn by_3(a: __m256i, b: __m256i, c: __m256i) -> [__m256i; 3] {
    // Every third lane from 0, 1 or 2 on.
    const FROM_0: i32 = 0b0100_1001;
    const FROM_1: i32 = 0b1001_0010;
    const FROM_2: i32 = 0b0010_0100;
    let orders = [[0, 0, 0, 1, 1, 1, 2, 2], [2, 3, 3, 3, 4, 4, 4, 5], [5, 5, 6, 6, 6, 7, 7, 7]];
    let [first, second, third] = orders.map(must_cast::<[u32; LANES], __m256i>);
    let [a0, a1, a2] = spread(a, first, second, third);
    let [b0, b1, b2] = spread(b, first, second, third);
    let [c0, c1, c2] = spread(c, first, second, third);
    [
        _mm256_blend_epi32::<FROM_2>(_mm256_blend_epi32::<FROM_1>(a0, b0), c0),
        _mm256_blend_epi32::<FROM_0>(_mm256_blend_epi32::<FROM_2>(a1, b1), c1),
        _mm256_blend_epi32::<FROM_1>(_mm256_blend_epi32::<FROM_0>(a2, b2), c2),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn spread(lanes: __m256i, first: __m256i, second: __m256i, third: __m256i) -> [__m256i; 3] {
    [
        _mm256_permutevar8x32_epi32(lanes, first),
        _mm256_permutevar8x32_epi32(lanes, second),
        _mm256_permutevar8x32_epi32(lanes, third),
    ]
}

/// Output by output.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::simd) fn rows(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
    let outputs = bank.outputs(phase, window.len(), output.len());
    let origin = bank.start(phase);
    let (mut row, mut group) = (phase, 0);
    for sample in &mut output[..outputs] {
        let window = &window[group + bank.start(row) - origin..][..bank.width];
        let fine = dot(&bank.fine[row * bank.width..][..bank.width], window);
        let coarse = &bank.coarse[row * bank.coarse_width..][..bank.coarse_width];
        let coarse = dot(coarse, &window[bank.coarse_first..][..bank.coarse_width]);
        *sample = scalar::fir::finish(bank, fine, coarse);
        row += 1;
        if row == bank.phases {
            row = 0;
            group += bank.step;
        }
    }
}

/// The sum of products of two slices of one length, a multiple of [`ROW`].
#[inline]
#[target_feature(enable = "avx2")]
fn dot(coefficients: &[i16], samples: &[i16]) -> i32 {
    let mut sum = _mm256_setzero_si256();
    for (&coefficients, &samples) in
        coefficients.as_chunks::<ROW>().0.iter().zip(samples.as_chunks::<ROW>().0)
    {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(must_cast(coefficients), must_cast(samples)));
    }
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<1>(sum)))
}
