//! AArch64 with NEON, which every such CPU has.

mod g711;
mod tones;

use super::{G711, Kernels, Tones};

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    g711: G711 { encode_ulaw: g711::encode_ulaw },
    tones: Tones { correlate: tones::correlate, dtmf_steps: tones::dtmf_steps },
};
