//! AArch64 with NEON, which every such CPU has.

mod correlate;
mod fir;
mod g711;
mod g722;
mod level;
mod mix;
mod tones;
mod vad;

use super::{Correlate, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    correlate: Correlate { lags: correlate::lags },
    fir: fir::KERNELS,
    g711: g711::KERNELS,
    g722: g722::KERNELS,
    level: level::KERNELS,
    mix: mix::KERNELS,
    tones: tones::KERNELS,
    vad: vad::KERNELS,
};
