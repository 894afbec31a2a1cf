//! The shape of linear audio: rate and channels.

/// A sampling rate of speech and telephony audio, so that frames of 10 ms are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleRate {
    /// 8 kHz, the telephone.
    Hz8000,
    /// 12 kHz, only Opus.
    Hz12000,
    /// 16 kHz, wideband.
    Hz16000,
    /// 24 kHz, what speech models like.
    Hz24000,
    /// 32 kHz.
    Hz32000,
    /// 44.1 kHz, recordings.
    Hz44100,
    /// 48 kHz, fullband.
    Hz48000,
}

impl SampleRate {
    /// All of them, ascending.
    pub const ALL: [Self; 7] = [
        Self::Hz8000,
        Self::Hz12000,
        Self::Hz16000,
        Self::Hz24000,
        Self::Hz32000,
        Self::Hz44100,
        Self::Hz48000,
    ];

    /// The rate with this number, if it is one of ours.
    #[must_use]
    pub fn from_hz(hz: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|rate| rate.hz() == hz)
    }

    /// Samples per second and channel.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz12000 => 12_000,
            Self::Hz16000 => 16_000,
            Self::Hz24000 => 24_000,
            Self::Hz32000 => 32_000,
            Self::Hz44100 => 44_100,
            Self::Hz48000 => 48_000,
        }
    }

    /// Samples per channel in so many milliseconds, rounded down.
    #[must_use]
    pub const fn samples_in_ms(self, milliseconds: u32) -> usize {
        (self.hz() as u64 * milliseconds as u64 / 1_000) as usize
    }
}

/// How many channels audio has; more than one are interleaved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One.
    #[default]
    Mono,
    /// Left and right.
    Stereo,
}

impl Channels {
    /// The channels of a number, if there is a name for them.
    #[must_use]
    pub const fn from_count(count: usize) -> Option<Self> {
        match count {
            1 => Some(Self::Mono),
            2 => Some(Self::Stereo),
            _ => None,
        }
    }

    /// As a number.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}
