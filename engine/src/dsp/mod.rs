//! Signal processing on frames of 16-bit audio: no sockets, no clocks, no allocation after construction.

pub mod agc;
pub mod conceal;
pub mod denoise;
pub mod level;
pub mod mix;
pub mod pitch;
pub mod rate;
pub mod resample;
pub mod stretch;
pub mod tone;
pub mod vad;
