//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod g711;
pub(super) mod mix;
pub(super) mod vad;

use super::{G711, Kernels, Mix, Vad};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    g711: G711 { encode_ulaw: g711::encode_ulaw },
    mix: Mix { squares: mix::squares, minus_self: mix::minus_self, gain: mix::gain },
    vad: Vad { energy: vad::energy },
};
