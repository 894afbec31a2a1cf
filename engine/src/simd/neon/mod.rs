//! AArch64 with NEON, which every such CPU has.

mod g711;

use super::{G711, Kernels};

pub(super) static KERNELS: Kernels = Kernels { name: "neon", g711: G711 { encode_ulaw: g711::encode_ulaw } };
