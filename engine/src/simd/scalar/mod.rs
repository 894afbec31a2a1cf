//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod g711;
pub(super) mod g722;

use super::{G711, G722, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    g711: G711 { encode_ulaw: g711::encode_ulaw },
    g722: G722 { split: g722::split, join: g722::join, encode: g722::encode, decode: g722::decode },
};
