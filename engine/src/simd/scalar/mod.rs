//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod correlate;
pub(super) mod fir;
pub(super) mod g711;
pub(super) mod g722;
pub(super) mod level;
pub(super) mod mix;
pub(super) mod tones;
pub(super) mod vad;

use super::{Correlate, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    correlate: Correlate { lags: correlate::lags },
    fir: fir::KERNELS,
    g711: g711::KERNELS,
    g722: g722::KERNELS,
    level: level::KERNELS,
    mix: mix::KERNELS,
    tones: tones::KERNELS,
    vad: vad::KERNELS,
};
