//! Our kernels beside those of the field, on the same signals.
//!
//! One file per family. It gives [`Pair`]s: a check of our result and the closures to time. `peers` is the
//! other side, Debian's libraries.

pub mod conceal;
pub mod dtmf;
pub mod g711;
pub mod g722;
pub mod mix;
pub mod opus;
pub mod pair;
pub mod peers;
pub mod quality;
pub mod report;
pub mod resample;
pub mod signal;
pub mod srtp;

use pair::Pair;

/// Samples of 20 ms at 8 kHz.
pub const FRAME: usize = 160;

/// How long the signals are: too long for a branch predictor to learn them by heart.
pub const SECONDS: f64 = 5.0;

/// Frames of 20 ms in that time.
pub const FRAMES: usize = 250;

/// Every comparison, in the order of the goals.
pub fn all_pairs() -> Vec<Pair> {
    [
        g711::pairs(),
        dtmf::pairs(),
        resample::pairs(),
        mix::pairs(),
        g722::pairs(),
        opus::pairs(),
        srtp::pairs(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
