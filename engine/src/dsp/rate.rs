//! The sampling rates of speech.

/// A sampling rate that codecs, devices and AI services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleRate {
    /// 8,000 Hz, narrowband.
    Hz8000,
    /// 16,000 Hz, wideband.
    Hz16000,
    /// 24,000 Hz.
    Hz24000,
    /// 32,000 Hz, super-wideband.
    Hz32000,
    /// 44,100 Hz, of music files.
    Hz44100,
    /// 48,000 Hz, fullband.
    Hz48000,
}

impl SampleRate {
    /// All rates, the lowest first.
    pub const ALL: [Self; 6] =
        [Self::Hz8000, Self::Hz16000, Self::Hz24000, Self::Hz32000, Self::Hz44100, Self::Hz48000];

    /// The rate of that many samples a second, when it is one of these.
    #[must_use]
    pub const fn from_hz(hz: u32) -> Option<Self> {
        match hz {
            8_000 => Some(Self::Hz8000),
            16_000 => Some(Self::Hz16000),
            24_000 => Some(Self::Hz24000),
            32_000 => Some(Self::Hz32000),
            44_100 => Some(Self::Hz44100),
            48_000 => Some(Self::Hz48000),
            _ => None,
        }
    }

    /// Samples a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz16000 => 16_000,
            Self::Hz24000 => 24_000,
            Self::Hz32000 => 32_000,
            Self::Hz44100 => 44_100,
            Self::Hz48000 => 48_000,
        }
    }

    /// Whole samples in that many milliseconds. Of these rates only 44,100 Hz has a fraction to lose, at odd
    /// multiples of 5 ms and at others that are no multiple of 10 ms.
    #[must_use]
    pub const fn samples(self, milliseconds: u32) -> usize {
        (self.hz() as usize * milliseconds as usize) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::SampleRate;

    #[test]
    fn every_rate_is_found_by_its_number() {
        for rate in SampleRate::ALL {
            assert_eq!(SampleRate::from_hz(rate.hz()), Some(rate));
        }
        assert_eq!(SampleRate::from_hz(11_025), None);
    }

    #[test]
    fn frames_have_the_length_that_their_time_says() {
        assert_eq!(SampleRate::Hz8000.samples(20), 160);
        assert_eq!(SampleRate::Hz44100.samples(10), 441);
        assert_eq!(SampleRate::Hz48000.samples(60), 2_880);
    }
}
