//! Signal processing on frames of 16-bit audio: no sockets, no clocks, no allocation after construction.

pub mod level;
pub mod mix;
pub mod rate;
pub mod resample;
pub mod tone;
pub mod vad;
