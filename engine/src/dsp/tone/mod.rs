//! Tones of telephone networks: made, and recognised.

mod oscillator;

pub use oscillator::{FULL_SCALE_DBM0, Oscillator};
