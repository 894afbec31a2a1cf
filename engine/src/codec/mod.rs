//! Audio codecs as slice functions, so that vector kernels can take their place.

pub mod comfort_noise;
pub mod g711;
pub mod g722;
pub mod l16;

/// An audio codec of the RTP/AVP profile (RFC 3551).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 mu-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
}

impl Codec {
    /// The encoding's name in SDP.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// The byte that decodes to silence.
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::Pcmu => 0xFF,
            Self::Pcma => 0xD5,
        }
    }

    /// Encodes as many samples as both slices have.
    pub fn encode(self, pcm: &[i16], encoded: &mut [u8]) {
        match self {
            Self::Pcmu => g711::encode_ulaw(pcm, encoded),
            Self::Pcma => g711::encode_alaw(pcm, encoded),
        }
    }

    /// Decodes as many samples as both slices have.
    pub fn decode(self, encoded: &[u8], pcm: &mut [i16]) {
        match self {
            Self::Pcmu => g711::decode_ulaw(encoded, pcm),
            Self::Pcma => g711::decode_alaw(encoded, pcm),
        }
    }

    /// Copies encoded audio from `self` to `to`: untouched if they are the same, else by table.
    pub fn transcode(self, to: Self, source: &[u8], target: &mut [u8]) {
        match (self, to) {
            (Self::Pcmu, Self::Pcma) => g711::ulaw_to_alaw(source, target),
            (Self::Pcma, Self::Pcmu) => g711::alaw_to_ulaw(source, target),
            (Self::Pcmu, Self::Pcmu) | (Self::Pcma, Self::Pcma) => {
                for (target, source) in target.iter_mut().zip(source) {
                    *target = *source;
                }
            }
        }
    }

    /// Converts encoded audio where it lies.
    pub fn transcode_in_place(self, to: Self, audio: &mut [u8]) {
        let table = match (self, to) {
            (Self::Pcmu, Self::Pcma) => &g711::ULAW_TO_ALAW,
            (Self::Pcma, Self::Pcmu) => &g711::ALAW_TO_ULAW,
            (Self::Pcmu, Self::Pcmu) | (Self::Pcma, Self::Pcma) => return,
        };
        for byte in audio {
            *byte = table[usize::from(*byte)];
        }
    }
}
