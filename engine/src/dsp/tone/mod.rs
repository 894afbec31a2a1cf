//! Tones of telephone networks: made, and recognised.
//!
//! ```text
//!   TonePlan -> ToneGenerator -> audio           one Oscillator for all of them
//!   audio -> blocks of 10 ms, loud or not -> lines of 64 ms -> ToneMonitor -> ToneEvent
//! ```

mod answer;
mod generator;
mod monitor;
mod oscillator;
mod plan;
mod progress;
mod spectrum;
#[cfg(test)]
mod tests;

pub use generator::ToneGenerator;
pub use monitor::{ToneEvent, ToneMonitor};
pub use oscillator::{FULL_SCALE_DBM0, Oscillator};
pub use plan::{ToneBurst, ToneKind, TonePlan};
