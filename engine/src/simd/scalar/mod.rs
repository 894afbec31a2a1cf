//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod fir;
pub(super) mod g711;

use super::{Fir, G711, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    fir: Fir { polyphase: fir::polyphase },
    g711: G711 { encode_ulaw: g711::encode_ulaw },
};
