//! AArch64 with NEON, which every such CPU has.

mod correlate;
mod fir;
mod g711;
mod g722;
mod level;
mod mix;
mod tones;
mod vad;

use super::Kernels;

pub(super) static KERNELS: Kernels = table!("neon");
