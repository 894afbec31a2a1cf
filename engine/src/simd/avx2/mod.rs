//! x86-64 with AVX2 and FMA: Haswell, Zen and later.

mod correlate;
pub(super) mod fir;
mod g711;
mod g722;
mod level;
mod mix;
mod tones;
mod vad;

use super::Kernels;

pub(super) static KERNELS: Kernels = table!("avx2");

/// Whether the CPU has what [`super::door::avx2`] compiles for.
pub(super) fn runs_here() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
}
