//! What audio looks like in a dialect. Always one channel.

use crate::time::Duration;

/// How a sample is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// G.711 mu-law.
    #[default]
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// 16 bits, signed, little endian.
    L16,
}

/// An encoding at a sample rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AudioFormat {
    /// How a sample is written.
    pub encoding: Encoding,
    /// Samples per second.
    pub rate: u32,
}

/// What audio goes each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// The caller's, which we send.
    pub caller: AudioFormat,
    /// The bot's, which we receive.
    pub bot: AudioFormat,
}

impl Encoding {
    /// Bytes of one sample.
    #[must_use]
    pub const fn sample_bytes(self) -> usize {
        match self {
            Self::Pcmu | Self::Pcma => 1,
            Self::L16 => 2,
        }
    }
}

impl AudioFormat {
    /// Mu-law at 8 kHz.
    pub const PCMU: Self = Self { encoding: Encoding::Pcmu, rate: 8_000 };
    /// A-law at 8 kHz.
    pub const PCMA: Self = Self { encoding: Encoding::Pcma, rate: 8_000 };

    /// 16 bits at a rate.
    #[must_use]
    pub const fn l16(rate: u32) -> Self {
        Self { encoding: Encoding::L16, rate }
    }

    /// How long so many bytes last.
    #[must_use]
    pub const fn duration(self, bytes: u64) -> Duration {
        let samples = bytes / self.encoding.sample_bytes() as u64;
        Duration::from_micros(samples * 1_000_000 / self.rate as u64)
    }

    /// Bytes of so much audio, whole samples.
    #[must_use]
    pub const fn bytes(self, duration: Duration) -> usize {
        (duration.as_micros() * self.rate as u128 / 1_000_000) as usize * self.encoding.sample_bytes()
    }
}

impl Default for AudioFormat {
    fn default() -> Self {
        Self::PCMU
    }
}
