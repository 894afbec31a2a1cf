//! AArch64 with NEON, which every such CPU has.

mod g711;
mod mix;
mod vad;

use super::{G711, Kernels, Mix, Vad};

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    g711: G711 { encode_ulaw: g711::encode_ulaw },
    mix: Mix { squares: mix::squares, minus_self: mix::minus_self, gain: mix::gain },
    vad: Vad { energy: vad::energy },
};
