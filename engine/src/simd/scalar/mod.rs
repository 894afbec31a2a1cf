//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod correlate;
pub(super) mod g711;

use super::{Correlate, G711, Kernels};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    correlate: Correlate { lags: correlate::lags },
    g711: G711 { encode_ulaw: g711::encode_ulaw },
};
