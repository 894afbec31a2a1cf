//! ITU-T G.722: 7 kHz audio at 64 kbit/s, bit for bit.
//!
//! ```text
//!   16 kHz --> transmit filter --lower, 8 kHz--> 6-bit ADPCM --+--> octet: 2 bits higher, 6 bits lower
//!                             --higher, 8 kHz--> 2-bit ADPCM --+
//! ```
//!
//! An octet is two samples of audio, 125 us. In RTP the clock counts octets: it runs at 8000 Hz although the
//! audio is sampled at 16,000 (RFC 3551 section 4.5.2). There is nothing to negotiate, and any number of octets
//! is a valid payload; a decoder that has missed some adapts to its encoder again within some ten milliseconds.
//! Both filters together delay by 22 samples. A tone of -12 dBov comes back with a signal-to-noise ratio of
//! 47 dB at 1 kHz and 26 dB at 6 kHz.
//!
//! Where the Recommendation leaves the 16-bit filters of the audio interface open, they are as in the ITU's
//! software tool library (G.191): outputs of the transmit filter are limited to 15 bits, those of the receive
//! filter to 16.

mod band;
pub mod batch;
#[cfg(test)]
mod batch_tests;
mod decoder;
mod encoder;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Mode};
pub use encoder::Encoder;

/// The rate of the audio in and out.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// The rate of the RTP clock (RFC 3551 section 4.5.2).
pub const CLOCK_RATE_HZ: u32 = 8000;

/// Octets that are filtered at one time: 20 ms.
const BLOCK: usize = 160;

/// Samples that a filter remembers.
const MEMORY: usize = 22;
