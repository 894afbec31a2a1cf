//! No kernel allocates or frees once its state is made: one case for each family.

mod counting;

use counting::{allocations, frees};
use engine::codec::g711;
use engine::simd;

/// Runs a piece of work and asserts that it left the allocator alone.
#[track_caller]
fn without_allocation(work: impl FnOnce()) {
    let before = (allocations(), frees());
    work();
    assert_eq!((allocations() - before.0, frees() - before.1), (0, 0), "(allocations, frees)");
}

/// Samples that are loud, quiet and extreme.
fn audio() -> Vec<i16> {
    (0..960i32).map(|n| (n * 7919 % 65_536 - 32_768) as i16 >> (n % 13)).collect()
}

#[test]
fn an_allocation_is_seen() {
    let seen = std::panic::catch_unwind(|| without_allocation(|| drop(std::hint::black_box(vec![1u8; 100]))));
    assert!(seen.is_err());
}

#[test]
fn companding_does_not_allocate() {
    let mut pcm = audio();
    let [mut encoded, mut converted] = [vec![0; pcm.len()], vec![0; pcm.len()]];
    // The choice of a table may look at the CPU with memory of its own.
    let tables: Vec<_> = simd::available().chain([simd::kernels()]).collect();
    without_allocation(|| {
        for kernels in &tables {
            (kernels.g711.encode_ulaw)(&pcm, &mut encoded);
        }
        g711::encode_ulaw(&pcm, &mut encoded);
        g711::encode_alaw(&pcm, &mut encoded);
        g711::ulaw_to_alaw(&encoded, &mut converted);
        g711::alaw_to_ulaw(&encoded, &mut converted);
        g711::decode_ulaw(&encoded, &mut pcm);
        g711::decode_alaw(&encoded, &mut pcm);
    });
}
