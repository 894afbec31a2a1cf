//! x86-64 with the AVX-512 of Ice Lake, Zen 4 and later: byte permutes over 128 entries (VBMI), dot products (VNNI).

mod correlate;
mod fir;
mod g711;
mod g722;
mod level;
mod mix;
mod tones;
mod vad;

use super::Kernels;

pub(super) static KERNELS: Kernels = table!("avx512");

/// Whether the CPU has what [`super::door::avx512`] compiles for.
pub(super) fn runs_here() -> bool {
    super::avx2::runs_here()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512vnni")
}
