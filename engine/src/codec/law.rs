//! The two laws of G.711: codecs without state, one byte per sample.

use super::g711;

/// A G.711 law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// mu-law, of North America and Japan.
    Mu,
    /// A-law, of the rest of the world.
    A,
}

impl Law {
    /// The byte that decodes to silence.
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::Mu => 0xFF,
            Self::A => 0xD5,
        }
    }

    /// Encodes as many samples as both slices have.
    pub fn encode(self, pcm: &[i16], encoded: &mut [u8]) {
        match self {
            Self::Mu => g711::encode_ulaw(pcm, encoded),
            Self::A => g711::encode_alaw(pcm, encoded),
        }
    }

    /// Decodes as many samples as both slices have.
    pub fn decode(self, encoded: &[u8], pcm: &mut [i16]) {
        match self {
            Self::Mu => g711::decode_ulaw(encoded, pcm),
            Self::A => g711::decode_alaw(encoded, pcm),
        }
    }

    /// Copies encoded audio from `self` to `to`: untouched if they are the same, else by table.
    pub fn transcode(self, to: Self, source: &[u8], target: &mut [u8]) {
        match (self, to) {
            (Self::Mu, Self::A) => g711::ulaw_to_alaw(source, target),
            (Self::A, Self::Mu) => g711::alaw_to_ulaw(source, target),
            (Self::Mu, Self::Mu) | (Self::A, Self::A) => {
                for (target, source) in target.iter_mut().zip(source) {
                    *target = *source;
                }
            }
        }
    }

    /// Converts encoded audio where it lies.
    pub fn transcode_in_place(self, to: Self, audio: &mut [u8]) {
        let table = match (self, to) {
            (Self::Mu, Self::A) => &g711::ULAW_TO_ALAW,
            (Self::A, Self::Mu) => &g711::ALAW_TO_ULAW,
            (Self::Mu, Self::Mu) | (Self::A, Self::A) => return,
        };
        for byte in audio {
            *byte = table[usize::from(*byte)];
        }
    }
}
