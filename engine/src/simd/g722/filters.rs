//! The filters for x86, where one instruction multiplies and adds pairs of samples.

/// Defines `split` and `join` with the door `$door`, for the type `Sums` of `ROWS` sums in 32 bits and the
/// functions on it that are in scope:
///
/// - `sums(value)` the same everywhere; `taps(even, odd)` the same pair of words everywhere;
/// - `pairs(&[i16])` loads twice `ROWS` samples; `dot(sums, pairs, taps)` adds the products of both in a pair;
/// - `shift::<N>` right; `limit(sums, low, high)`; `narrow` to `[i16; ROWS]`;
/// - `interleave(even, odd)` to `[[i16; 2]; ROWS]`, of sums that fit 16 bits.
macro_rules! filters {
    ($door:ident) => {
        $door! {
            fn split(audio: &[i16], lower: &mut [i16], higher: &mut [i16]) {
                let rows = (audio.len().saturating_sub(22) / 2).min(lower.len()).min(higher.len());
                let whole = rows - rows % ROWS;
                for row in (0..whole).step_by(ROWS) {
                    let (mut sum, mut difference) = (sums(0), sums(0));
                    for (at, &[even, odd]) in crate::simd::g722::tables::QMF.as_chunks().0.iter().enumerate() {
                        let pairs = pairs(&audio[2 * (row + at)..]);
                        sum = dot(sum, pairs, taps(even, odd));
                        difference = dot(difference, pairs, taps(-even, odd));
                    }
                    let (lowest, highest) = (sums(-16_384), sums(16_383));
                    let sum = narrow(limit(shift::<14>(sum), lowest, highest));
                    let difference = narrow(limit(shift::<14>(difference), lowest, highest));
                    lower[row..row + ROWS].copy_from_slice(&sum);
                    higher[row..row + ROWS].copy_from_slice(&difference);
                }
                scalar::g722::split(&audio[2 * whole..], &mut lower[whole..], &mut higher[whole..]);
            }

            fn join(bands: &[i16], audio: &mut [i16]) {
                let rows = (bands.len().saturating_sub(22) / 2).min(audio.len() / 2);
                let whole = rows - rows % ROWS;
                for row in (0..whole).step_by(ROWS) {
                    let (mut evens, mut odds) = (sums(0), sums(0));
                    for (at, &[even, odd]) in crate::simd::g722::tables::QMF.as_chunks().0.iter().enumerate() {
                        let pairs = pairs(&bands[2 * (row + at)..]);
                        evens = dot(evens, pairs, taps(even, 0));
                        odds = dot(odds, pairs, taps(0, odd));
                    }
                    let (lowest, highest) = (sums(-32_768), sums(32_767));
                    let evens = limit(shift::<11>(evens), lowest, highest);
                    let odds = limit(shift::<11>(odds), lowest, highest);
                    let samples = interleave(odds, evens);
                    audio[2 * row..2 * (row + ROWS)].copy_from_slice(samples.as_flattened());
                }
                scalar::g722::join(&bands[2 * whole..], &mut audio[2 * whole..]);
            }
        }
    };
}

pub(in crate::simd) use filters;
