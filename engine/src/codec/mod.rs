//! Audio codecs. [`Codec`] names one and knows its RTP facts; [`Encoder`] and [`Decoder`] hold the state of
//! one direction of one stream. A codec is one arm of these enums and one file.
//!
//! ```text
//!  interleaved i16 at the coder's rate -> Encoder::encode -> RTP payload (or nothing: DTX)
//!  RTP payload -> Codec::ticks (how long it is) ... Decoder::decode -> interleaved i16
//!                    lost: Decoder::decode_fec with the packet after it, else Decoder::conceal
//! ```
//!
//! [`Law`] is the half of the set that needs no state and has one byte per sample, G.711: such audio is kept,
//! cut and converted as bytes.

mod channels;
mod coder;
pub mod comfort_noise;
pub mod g711;
pub mod g722;
pub mod l16;
mod law;
pub mod opus;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use crate::dsp::rate::SampleRate;
pub use channels::Channels;
pub use coder::{CoderError, DecodeError, Decoder, EncodeError, Encoder, Settings};
pub use law::Law;

/// An audio codec that we may speak, as RTP names it (RFC 3551, RFC 7587).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// Linear PCM, 16 bits, big-endian (RFC 3551 section 4.5.11).
    L16 {
        /// Of the audio and of the RTP clock.
        rate: SampleRate,
        /// Interleaved.
        channels: Channels,
    },
    /// Opus (RFC 6716, RFC 7587).
    Opus,
}

impl Codec {
    /// The codec of an `a=rtpmap` (RFC 8866 section 6.6), or none that we know. `channels` is 1 if not given.
    #[must_use]
    pub fn from_rtpmap(encoding: &str, clock_rate_hz: u32, channels: u8) -> Option<Self> {
        let codec = if encoding.eq_ignore_ascii_case("L16") {
            Self::L16 {
                rate: SampleRate::from_hz(clock_rate_hz)?,
                channels: Channels::from_count(usize::from(channels))?,
            }
        } else {
            *[Self::Pcmu, Self::Pcma, Self::G722, Self::Opus]
                .iter()
                .find(|codec| encoding.eq_ignore_ascii_case(codec.name()))?
        };
        (codec.clock_rate_hz() == clock_rate_hz && codec.rtpmap_channels() == channels).then_some(codec)
    }

    /// The codec that a payload type stands for without an `a=rtpmap` (RFC 3551 section 6).
    #[must_use]
    pub const fn from_static_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            9 => Some(Self::G722),
            10 => Some(Self::L16 { rate: SampleRate::Hz44100, channels: Channels::Stereo }),
            11 => Some(Self::L16 { rate: SampleRate::Hz44100, channels: Channels::Mono }),
            _ => None,
        }
    }

    /// The encoding's name in SDP.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::L16 { .. } => "L16",
            Self::Opus => "opus",
        }
    }

    /// The payload type that means this codec by itself; `None` if one must be chosen from 96 on.
    #[must_use]
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::G722 => Some(9),
            Self::L16 { rate: SampleRate::Hz44100, channels: Channels::Stereo } => Some(10),
            Self::L16 { rate: SampleRate::Hz44100, channels: Channels::Mono } => Some(11),
            Self::L16 { .. } | Self::Opus => None,
        }
    }

    /// What RTP timestamps count. Not always the audio's rate: G.722 says 8000 for 16 kHz audio (RFC 3551
    /// section 4.5.2), Opus says 48000 whatever it carries (RFC 7587 section 4.1).
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::L16 { rate, .. } => rate.hz(),
            Self::Opus => 48_000,
        }
    }

    /// The channels that `a=rtpmap` says; 1 is left out there. Opus says 2 even for mono (RFC 7587 section 7).
    #[must_use]
    pub const fn rtpmap_channels(self) -> u8 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 1,
            Self::L16 { channels, .. } => channels.count() as u8,
            Self::Opus => 2,
        }
    }

    /// The rate of the audio that it carries at best. An Opus coder may be made for a lower one.
    #[must_use]
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma => SampleRate::Hz8000,
            Self::G722 => SampleRate::Hz16000,
            Self::L16 { rate, .. } => rate,
            Self::Opus => SampleRate::Hz48000,
        }
    }

    /// Audio per packet if nobody says otherwise.
    #[must_use]
    pub const fn default_ptime(self) -> Duration {
        Duration::from_millis(20)
    }

    /// RTP clock ticks in `duration`, rounded down.
    #[must_use]
    pub const fn ticks_in(self, duration: Duration) -> u32 {
        (duration.as_nanos() * self.clock_rate_hz() as u128 / 1_000_000_000) as u32
    }

    /// The ticks of the RTP clock that a received payload covers; `None` if it is empty or cannot be of this
    /// codec. A payload that passes may still fail to decode.
    #[must_use]
    pub fn ticks(self, payload: &[u8]) -> Option<u32> {
        let ticks = match self {
            Self::Pcmu | Self::Pcma | Self::G722 => payload.len(),
            Self::L16 { channels, .. } => {
                if !payload.len().is_multiple_of(l16::octets(channels)) {
                    return None;
                }
                payload.len() / l16::octets(channels)
            }
            Self::Opus => return opus::ticks(payload),
        };
        u32::try_from(ticks).ok().filter(|&ticks| ticks > 0)
    }

    /// The G.711 law that this is, if it is one.
    #[must_use]
    pub const fn law(self) -> Option<Law> {
        match self {
            Self::Pcmu => Some(Law::Mu),
            Self::Pcma => Some(Law::A),
            Self::G722 | Self::L16 { .. } | Self::Opus => None,
        }
    }
}

impl From<Law> for Codec {
    fn from(law: Law) -> Self {
        match law {
            Law::Mu => Self::Pcmu,
            Law::A => Self::Pcma,
        }
    }
}
