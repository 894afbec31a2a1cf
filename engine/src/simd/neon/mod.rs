//! AArch64 with NEON, which every such CPU has.

mod correlate;
mod g711;

use super::{Correlate, G711, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    correlate: Correlate { lags: correlate::lags },
    g711: G711 { encode_ulaw: g711::encode_ulaw },
};
