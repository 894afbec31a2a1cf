//! AArch64 with NEON, which every such CPU has.

mod fir;
mod g711;

use super::{Fir, G711, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    fir: Fir { polyphase: fir::polyphase },
    g711: G711 { encode_ulaw: g711::encode_ulaw },
};
