//! How kernels walk slices of any length in whole vectors.

use bytemuck::Zeroable;

/// Converts as many elements as both slices have, `N` at a time: `block` takes `N` and how many at its end are
/// new. The last block reaches back over elements that were converted before, so that no tail is left for a slow
/// loop; slices shorter than a block go through a padded copy.
#[inline(always)]
pub(in crate::simd) fn convert<S: Copy + Zeroable, T: Copy + Zeroable, const N: usize>(
    source: &[S],
    target: &mut [T],
    mut block: impl FnMut([S; N], usize) -> [T; N],
) {
    let count = source.len().min(target.len());
    if count < N {
        return convert_short(&source[..count], &mut target[..count], &mut block);
    }
    let (source, target) = (&source[..count], &mut target[..count]);
    let mut done = 0;
    while done < count {
        let start = done.min(count - N);
        if let (Some(input), Some(output)) =
            (source[start..].first_chunk(), target[start..].first_chunk_mut())
        {
            *output = block(*input, start + N - done);
        }
        done = start + N;
    }
}

#[cold]
#[inline(never)]
fn convert_short<S: Copy + Zeroable, T: Copy, const N: usize>(
    source: &[S],
    target: &mut [T],
    block: &mut impl FnMut([S; N], usize) -> [T; N],
) {
    if !source.is_empty() {
        let converted = block(padded(source), source.len());
        target.copy_from_slice(&converted[N - source.len()..]);
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
    let Some(mut input) = data.first_chunk().copied() else {
        return convert_short_in_place(data, &mut block);
    };
    let (mut start, mut done) = (0, 0);
    while done < count {
        let (here, new, this) = (start, start + N - done, input);
        done = start + N;
        start = done.min(count - N);
        if let Some(next) = data[start..].first_chunk() {
            input = *next;
        }
        if let Some(output) = data[here..].first_chunk_mut() {
            *output = block(this, new);
        }
    }
}

#[cold]
#[inline(never)]
fn convert_short_in_place<T: Copy + Zeroable, const N: usize>(
    data: &mut [T],
    block: &mut impl FnMut([T; N], usize) -> [T; N],
) {
    if !data.is_empty() {
        let converted = block(padded(data), data.len());
        data.copy_from_slice(&converted[N - data.len()..]);
    }
}

/// Hands every element of a slice to `block`, as [`convert`] does.
#[inline(always)]
pub(in crate::simd) fn visit<T: Copy + Zeroable, const N: usize>(
    slice: &[T],
    mut block: impl FnMut([T; N], usize),
) {
    let count = slice.len();
    if count < N {
        return visit_short(slice, &mut block);
    }
    let mut done = 0;
    while done < count {
        let start = done.min(count - N);
        if let Some(input) = slice[start..].first_chunk() {
            block(*input, start + N - done);
        }
        done = start + N;
    }
}

#[cold]
#[inline(never)]
fn visit_short<T: Copy + Zeroable, const N: usize>(slice: &[T], block: &mut impl FnMut([T; N], usize)) {
    if !slice.is_empty() {
        block(padded(slice), slice.len());
    }
}

/// A short slice at the end of a block.
fn padded<T: Copy + Zeroable, const N: usize>(slice: &[T]) -> [T; N] {
    let mut block = [T::zeroed(); N];
    block[N - slice.len()..].copy_from_slice(slice);
    block
}
