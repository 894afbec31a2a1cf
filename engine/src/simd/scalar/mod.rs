//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod g711;
pub(super) mod tones;

use super::{G711, Kernels, Tones};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    g711: G711 { encode_ulaw: g711::encode_ulaw },
    tones: Tones { correlate: tones::correlate, dtmf_steps: tones::dtmf_steps },
};
