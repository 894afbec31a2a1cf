//! AArch64 with NEON, which every such CPU has.

mod g711;
mod g722;

use super::{G711, G722, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    g711: G711 { encode_ulaw: g711::encode_ulaw },
    g722: G722 { split: g722::split, join: g722::join, encode: g722::encode, decode: g722::decode },
};
