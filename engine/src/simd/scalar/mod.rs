//! The definition of every kernel. Bodies that compilers vectorise well are `#[inline(always)]`: the other tables
//! compile the same text for their instruction set.

pub(super) mod correlate;
pub(super) mod fir;
pub(super) mod g711;
pub(super) mod g722;
pub(super) mod level;
pub(super) mod mix;
pub(super) mod tones;
pub(super) mod vad;

use super::Kernels;

pub(super) static KERNELS: Kernels = table!("scalar");
