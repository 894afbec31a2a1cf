//! AArch64 with NEON, which every such CPU has.

mod g711;
mod level;
mod mix;

use super::Kernels;

pub(super) static KERNELS: Kernels =
    Kernels { name: "neon", g711: g711::KERNELS, level: level::KERNELS, mix: mix::KERNELS };
