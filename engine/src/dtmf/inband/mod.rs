//! DTMF as tones in audio at 8 kHz (ITU-T Q.23, Q.24).
//!
//! ```text
//!   audio -> sums of 5 ms -> window of 15 ms: one row and one column stand out?   every step of every call
//!                               | in five windows in a row, 31.5 ms of tone
//!                            frequencies, twist, steadiness, purity of the last 25 ms   once per digit
//!                               |
//!                            DigitStart ... DigitEnd, with positions and levels
//! ```
//!
//! The first line is a kernel and costs the same for any audio; what follows runs only where something like
//! a digit sounds. The limits are those of Q.24 with the recognition halfway between what must be accepted
//! and what must be refused: tones of 40 and 23 ms, pauses of 40 and 10 ms, frequencies off by 1.5 and 3.5 %.

mod batch;
mod candidate;
mod detector;
mod generator;
mod reference;
#[cfg(test)]
mod tests;

pub use batch::InbandDetectors;
pub use detector::{InbandDetector, InbandEvent};
pub use generator::{DtmfGenerator, DtmfLevels};

/// Row, then column frequencies in Hz (Q.23).
pub const FREQUENCIES_HZ: [f64; 8] = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0];

/// The keys, row by row.
const KEYS: [u8; 16] = *b"123A456B789C*0#D";
