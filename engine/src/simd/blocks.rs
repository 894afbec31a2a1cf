//! How kernels walk slices of any length in whole vectors.

use bytemuck::Zeroable;

/// Converts as many elements as both slices have, `N` at a time: `block` takes `N` and how many at its end are
/// new. The last block reaches back over elements that were converted before, so that no tail is left for a slow
/// loop; slices shorter than a block go through a padded copy. `block` is called in one place only, which is what
/// makes compilers inline it.
#[inline(always)]
pub(in crate::simd) fn convert<S: Copy + Zeroable, T: Copy + Zeroable, const N: usize>(
    source: &[S],
    target: &mut [T],
    mut block: impl FnMut([S; N], usize) -> [T; N],
) {
    let count = source.len().min(target.len());
    let mut padded_source = None;
    let mut padded_target = None;
    let (from, to): (&[S], &mut [T]) = if count < N {
        let source = pad(padded_source.insert([S::zeroed(); N]), &source[..count]);
        (source, padded_target.insert([T::zeroed(); N]))
    } else {
        (&source[..count], &mut target[..count])
    };
    let mut done = from.len() - count;
    while done < from.len() {
        let start = done.min(from.len() - N);
        if let (Some(input), Some(output)) = (from[start..].first_chunk(), to[start..].first_chunk_mut()) {
            *output = block(*input, start + N - done);
        }
        done = start + N;
    }
    if let Some(padded) = &padded_target {
        target[..count].copy_from_slice(&padded[N - count..]);
    }
}

/// As [`convert`], where the elements lie. A block is loaded before the one before it is stored, since the last may
/// reach back into that.
#[inline(always)]
pub(in crate::simd) fn convert_in_place<T: Copy + Zeroable, const N: usize>(
    data: &mut [T],
    mut block: impl FnMut([T; N], usize) -> [T; N],
) {
    let count = data.len();
    let mut padded = None;
    let slice: &mut [T] = if count < N {
        let padded = padded.insert([T::zeroed(); N]);
        padded[N - count..].copy_from_slice(data);
        padded
    } else {
        &mut *data
    };
    let last = slice.len() - N;
    let (mut start, mut done) = (0, slice.len() - count);
    let mut input = [T::zeroed(); N];
    if let Some(first) = slice.first_chunk() {
        input = *first;
    }
    while done < slice.len() {
        let (here, new, this) = (start, start + N - done, input);
        done = start + N;
        start = done.min(last);
        if let Some(next) = slice[start..].first_chunk() {
            input = *next;
        }
        if let Some(output) = slice[here..].first_chunk_mut() {
            *output = block(this, new);
        }
    }
    if let Some(padded) = &padded {
        data.copy_from_slice(&padded[N - count..]);
    }
}

/// Hands every element of a slice to `block`, as [`convert`] does.
#[inline(always)]
pub(in crate::simd) fn visit<T: Copy + Zeroable, const N: usize>(
    slice: &[T],
    mut block: impl FnMut([T; N], usize),
) {
    let mut padded = None;
    let from = if slice.len() < N { pad(padded.insert([T::zeroed(); N]), slice) } else { slice };
    let mut done = from.len() - slice.len();
    while done < from.len() {
        let start = done.min(from.len() - N);
        if let Some(input) = from[start..].first_chunk() {
            block(*input, start + N - done);
        }
        done = start + N;
    }
}

/// Puts a short slice at the end of a block.
#[inline(always)]
fn pad<'a, T: Copy, const N: usize>(block: &'a mut [T; N], slice: &[T]) -> &'a [T] {
    block[N - slice.len()..].copy_from_slice(slice);
    block
}
