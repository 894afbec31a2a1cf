//! Polyphase filters: 16 groups in the lanes, two taps an instruction.

use std::arch::x86_64::*;
use std::array;

use bytemuck::{must_cast, must_cast_slice, pod_read_unaligned};

use crate::simd::Fir;
use crate::simd::FirBank;
use crate::simd::avx2::fir::rows;
use crate::simd::door::avx512;
use crate::simd::fir::{LANE_PAIRS, LANE_PHASES, Lanes};

/// The family in this table.
pub(in crate::simd) const KERNELS: Fir = Fir { polyphase };

avx512! {
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
        if groups >= LANES {
            match (lanes.step, lanes.phases) {
                (2, 1) => all::<1, 1>(bank, lanes, window, output, groups),
                (2, 3) => all::<1, 3>(bank, lanes, window, output, groups),
                (2, 4) => all::<1, 4>(bank, lanes, window, output, groups),
                (2, 6) => all::<1, 6>(bank, lanes, window, output, groups),
                (2, 8) => all::<1, 8>(bank, lanes, window, output, groups),
                (2, 12) => all::<1, 12>(bank, lanes, window, output, groups),
                (4, 1) => all::<2, 1>(bank, lanes, window, output, groups),
                (4, 3) => all::<2, 3>(bank, lanes, window, output, groups),
                (6, 1) => all::<3, 1>(bank, lanes, window, output, groups),
                (6, 2) => all::<3, 2>(bank, lanes, window, output, groups),
                (6, 4) => all::<3, 4>(bank, lanes, window, output, groups),
                (6, 8) => all::<3, 8>(bank, lanes, window, output, groups),
                _ => return rows(bank, 0, window, output),
            }
            let (window, output) = (&window[groups * lanes.step..], &mut output[groups * lanes.phases..]);
            rows(bank, 0, window, output);
        } else {
            rows(bank, 0, window, output);
        }
    }
}

/// Groups in a vector.
const LANES: usize = 16;
/// Vectors that are summed at once, at most.
const BLOCKS: usize = 10;
/// All groups, of `STREAMS` pairs of samples and `PHASES` outputs each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vl")]
fn all<const STREAMS: usize, const PHASES: usize>(
    bank: &FirBank,
    lanes: &Lanes,
    window: &[i16],
    output: &mut [i16],
    groups: usize,
) {
    let most = match PHASES {
        1 => BLOCKS,
        2..5 => 5,
        5..7 => 3,
        7..9 => 2,
        _ => 1,
    };
    let mut done = 0;
    while done < groups {
        let blocks = match ((groups - done) / LANES).clamp(1, most) {
            6..BLOCKS => 5,
            blocks => blocks,
        };
        // The last vector may do some groups again.
        let first = done.min(groups - blocks * LANES);
        let window = &window[first * lanes.step..];
        let output = &mut output[first * PHASES..];
        match blocks {
            1 => some::<STREAMS, PHASES, 1>(bank, lanes, window, output),
            2 => some::<STREAMS, PHASES, 2>(bank, lanes, window, output),
            3 => some::<STREAMS, PHASES, 3>(bank, lanes, window, output),
            4 => some::<STREAMS, PHASES, 4>(bank, lanes, window, output),
            5 => some::<STREAMS, PHASES, 5>(bank, lanes, window, output),
            _ => some::<STREAMS, PHASES, BLOCKS>(bank, lanes, window, output),
        }
        done = first + blocks * LANES;
    }
}

/// The first `BLOCKS` times 16 groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vl")]
fn some<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    bank: &FirBank,
    lanes: &Lanes,
    window: &[i16],
    output: &mut [i16],
) {
    let mut streams = [[0u32; BLOCKS_AND_TAIL]; STREAMS];
    let mut sums = [[_mm512_setzero_si512(); PHASES]; BLOCKS];
    if STREAMS == 1 {
        sum(bank, lanes, [window], &mut sums);
    } else {
        let length = BLOCKS * LANES + (lanes.fine.len() / PHASES).div_ceil(STREAMS);
        deinterleave(window, &mut streams, length);
        sum(
            bank,
            lanes,
            array::from_fn::<_, STREAMS, _>(|stream| must_cast_slice(&streams[stream])),
            &mut sums,
        );
    }
    let (chunks, _) = output.as_chunks_mut::<LANES>();
    let (chunks, _) = chunks.as_chunks_mut::<PHASES>();
    for (sums, chunk) in sums.iter().zip(chunks) {
        interleave(sums, chunk);
    }
}

const BLOCKS_AND_TAIL: usize = BLOCKS * LANES + LANE_PAIRS;

/// The rounded sums of every phase, 32 bits wide.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vl")]
fn sum<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    bank: &FirBank,
    lanes: &Lanes,
    streams: [&[i16]; STREAMS],
    sums: &mut [[__m512i; PHASES]; BLOCKS],
) {
    let half = _mm512_set1_epi32(1 << (bank.shift + bank.bits - 1));
    let (shift, bits) = (_mm_cvtsi32_si128(bank.shift as i32), _mm_cvtsi32_si128(bank.bits as i32));
    let mut fine = [[half; PHASES]; BLOCKS];
    if PHASES > 2 {
        // Too many sums for the registers: the coarse ones are begun with the fine ones.
        add_all(&mut fine, &streams, 0, lanes.fine.as_chunks().0);
        for sum in fine.as_flattened_mut() {
            *sum = _mm512_sra_epi32(*sum, shift);
        }
        add_all(&mut fine, &streams, lanes.coarse_first, lanes.coarse.as_chunks().0);
        for (sums, fine) in sums.iter_mut().zip(&fine) {
            for (sum, &fine) in sums.iter_mut().zip(fine) {
                *sum = _mm512_sra_epi32(fine, bits);
            }
        }
        return;
    }
    // Samples are loaded once for both.
    let mut coarse = [[_mm512_setzero_si512(); PHASES]; BLOCKS];
    let (fine_taps, _) = lanes.fine.as_chunks::<PHASES>();
    let (coarse_taps, _) = lanes.coarse.as_chunks::<PHASES>();
    let (before, rest) = fine_taps.split_at(lanes.coarse_first);
    let (middle, after) = rest.split_at(coarse_taps.len());
    add_all(&mut fine, &streams, 0, before);
    for (index, (taps, coarse_taps)) in middle.iter().zip(coarse_taps).enumerate() {
        let (taps, coarse_taps) = (broadcast(taps), broadcast(coarse_taps));
        let samples = samples::<STREAMS, BLOCKS>(&streams, lanes.coarse_first + index);
        for ((samples, fine), coarse) in samples.iter().zip(&mut fine).zip(&mut coarse) {
            let samples = pod_read_unaligned(must_cast_slice(samples));
            add(fine, samples, &taps);
            add(coarse, samples, &coarse_taps);
        }
    }
    add_all(&mut fine, &streams, lanes.coarse_first + middle.len(), after);

    for ((sums, fine), coarse) in sums.iter_mut().zip(&fine).zip(&coarse) {
        for ((sum, &fine), &coarse) in sums.iter_mut().zip(fine).zip(coarse) {
            *sum = _mm512_sra_epi32(_mm512_add_epi32(_mm512_sra_epi32(fine, shift), coarse), bits);
        }
    }
}

/// Adds the products of `taps`, of which the first is that of the pair `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_all<const STREAMS: usize, const PHASES: usize, const BLOCKS: usize>(
    sums: &mut [[__m512i; PHASES]; BLOCKS],
    streams: &[&[i16]; STREAMS],
    first: usize,
    taps: &[[[i16; 2]; PHASES]],
) {
    for (index, taps) in taps.iter().enumerate() {
        let taps = broadcast(taps);
        let samples = samples::<STREAMS, BLOCKS>(streams, first + index);
        for (samples, sums) in samples.iter().zip(&mut *sums) {
            add(sums, pod_read_unaligned(must_cast_slice(samples)), &taps);
        }
    }
}

/// Adds the products of samples and a pair of taps of every phase.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add<const PHASES: usize>(sums: &mut [__m512i; PHASES], samples: __m512i, taps: &[__m512i; PHASES]) {
    for (sum, &tap) in sums.iter_mut().zip(taps) {
        *sum = _mm512_dpwssd_epi32(*sum, samples, tap);
    }
}

/// A pair of taps of every phase, in all lanes.
//
// Intrinsics are called in loops, not in closures: those would be called from functions without their features, and
// not inlined.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast<const PHASES: usize>(taps: &[[i16; 2]; PHASES]) -> [__m512i; PHASES] {
    let mut vectors = [_mm512_setzero_si512(); PHASES];
    for (vector, &tap) in vectors.iter_mut().zip(taps) {
        *vector = _mm512_set1_epi32(must_cast(tap));
    }
    vectors
}

/// The samples of a pair of taps, in every block.
#[inline(always)]
fn samples<'a, const STREAMS: usize, const BLOCKS: usize>(
    streams: &[&'a [i16]; STREAMS],
    pair: usize,
) -> &'a [[i16; 2 * LANES]] {
    let (samples, _) = streams[pair % STREAMS][pair / STREAMS * 2..].as_chunks::<{ 2 * LANES }>();
    &samples[..BLOCKS]
}

/// Deals pairs of samples out to the streams, at least `length` to each.
#[inline]
#[target_feature(enable = "avx512f")]
fn deinterleave<const STREAMS: usize>(
    window: &[i16],
    streams: &mut [[u32; BLOCKS_AND_TAIL]; STREAMS],
    length: usize,
) {
    let (pairs, _) = window.as_chunks::<2>();
    let pairs = &pairs[..pairs.len().min(length * STREAMS)];
    let (vectors, _) = pairs.as_chunks::<LANES>();
    let (vectors, _) = vectors.as_chunks::<STREAMS>();
    for (index, vectors) in vectors.iter().enumerate() {
        for (number, stream) in streams.iter_mut().enumerate() {
            let (stream, _) = stream.as_chunks_mut::<LANES>();
            stream[index] = must_cast(every(vectors, number));
        }
    }
    for index in vectors.len() * STREAMS * LANES..pairs.len() {
        streams[index % STREAMS][index / STREAMS] = must_cast(pairs[index]);
    }
}

/// Every second or third pair, from the pair `first` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn every<const STREAMS: usize>(pairs: &[[[i16; 2]; LANES]; STREAMS], first: usize) -> __m512i {
    let order = must_cast(array::from_fn::<u32, LANES, _>(|lane| (lane * STREAMS + first) as u32));
    let two = _mm512_permutex2var_epi32(must_cast(pairs[0]), order, must_cast(pairs[1]));
    if STREAMS == 2 {
        return two;
    }
    // Lanes whose source is beyond the first two vectors.
    let third =
        (0..LANES).filter(|lane| lane * STREAMS + first >= 2 * LANES).fold(0, |mask, lane| mask | 1 << lane);
    _mm512_mask_permutexvar_epi32(two, third, order, must_cast(pairs[2]))
}

/// Saturates the sums of 16 groups and writes them in the order of time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn interleave<const PHASES: usize>(sums: &[__m512i; PHASES], output: &mut [[i16; LANES]; PHASES]) {
    if PHASES == 1 {
        output[0] = must_cast(_mm512_cvtsepi32_epi16(sums[0]));
        return;
    }
    if PHASES % 2 == 1 {
        let output = output.as_flattened_mut();
        for (phase, &sum) in sums.iter().enumerate() {
            let samples: [i16; LANES] = must_cast(_mm512_cvtsepi32_epi16(sum));
            for (lane, sample) in samples.into_iter().enumerate() {
                output[lane * PHASES + phase] = sample;
            }
        }
        return;
    }
    let mut pairs = [_mm512_setzero_si512(); LANE_PHASES / 2];
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
    vectors: [__m512i; VECTORS],
) {
    let (output, _) = output.as_chunks_mut::<2>();
    for (output, vector) in output.iter_mut().zip(vectors) {
        *output = must_cast(vector);
    }
}

/// 16 pairs of one sum of each, saturated.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pack(first: __m512i, second: __m512i) -> __m512i {
    const ORDER: [[u8; 16]; 4] = [[0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]; 4];
    _mm512_shuffle_epi8(_mm512_packs_epi32(first, second), must_cast(ORDER))
}

/// `a0 b0 a1 b1 ..`
#[inline]
#[target_feature(enable = "avx512f")]
fn by_2(a: __m512i, b: __m512i) -> [__m512i; 2] {
    const ORDER: [[u32; LANES]; 2] = order();
    [
        _mm512_permutex2var_epi32(a, must_cast(ORDER[0]), b),
        _mm512_permutex2var_epi32(a, must_cast(ORDER[1]), b),
    ]
}

/// `a0 b0 c0 a1 b1 c1 ..`
#[inline]
#[target_feature(enable = "avx512f")]
fn by_3(a: __m512i, b: __m512i, c: __m512i) -> [__m512i; 3] {
    const ORDER: [[u32; LANES]; 3] = order();
    // The lanes that `c` goes to.
    const THIRD: [u16; 3] = [0b0100_1001_0010_0100, 0b0010_0100_1001_0010, 0b1001_0010_0100_1001];
    let mut vectors = [c; 3];
    for ((vector, order), third) in vectors.iter_mut().zip(ORDER).zip(THIRD) {
        let order = must_cast(order);
        *vector = _mm512_mask_permutexvar_epi32(_mm512_permutex2var_epi32(a, order, b), third, order, c);
    }
    vectors
}

/// For each lane of interleaved vectors its lane in its source, with 16 more for those of the second one.
const fn order<const SOURCES: usize>() -> [[u32; LANES]; SOURCES] {
    let mut order = [[0; LANES]; SOURCES];
    let mut index = 0;
    while index < SOURCES * LANES {
        let second = if index % SOURCES == 1 { LANES } else { 0 };
        order[index / LANES][index % LANES] = (index / SOURCES + second) as u32;
        index += 1;
    }
    order
}
