//! The two laws of G.711: codecs without state, one byte per sample.

use super::g711;
use crate::simd::{Gain, Loudness};

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
                let count = source.len().min(target.len());
                target[..count].copy_from_slice(&source[..count]);
            }
        }
    }

    /// Converts encoded audio where it lies.
    pub fn transcode_in_place(self, to: Self, audio: &mut [u8]) {
        match (self, to) {
            (Self::Mu, Self::A) => g711::ulaw_to_alaw_in_place(audio),
            (Self::A, Self::Mu) => g711::alaw_to_ulaw_in_place(audio),
            (Self::Mu, Self::Mu) | (Self::A, Self::A) => {}
        }
    }

    /// Applies a gain and encodes, in one pass, as many samples as both slices have.
    pub fn encode_with_gain(self, pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
        match self {
            Self::Mu => g711::encode_ulaw_gain(pcm, gain, encoded),
            Self::A => g711::encode_alaw_gain(pcm, gain, encoded),
        }
    }

    /// Decodes, applies a gain and measures the result, in one pass, as many samples as both slices have.
    pub fn decode_with_gain(self, encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
        match self {
            Self::Mu => g711::decode_ulaw_gain(encoded, gain, pcm),
            Self::A => g711::decode_alaw_gain(encoded, gain, pcm),
        }
    }

    /// How loud encoded audio is.
    #[must_use]
    pub fn measure(self, encoded: &[u8]) -> Loudness {
        match self {
            Self::Mu => g711::measure_ulaw(encoded),
            Self::A => g711::measure_alaw(encoded),
        }
    }

    /// Whether no sample of encoded audio is larger than `threshold`. A-law has no magnitude below 8.
    #[must_use]
    pub fn is_silent(self, encoded: &[u8], threshold: u16) -> bool {
        let peak = match self {
            Self::Mu => g711::peak_ulaw(encoded),
            Self::A => g711::peak_alaw(encoded),
        };
        peak <= threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_law_goes_by_its_own_kernels() {
        let pcm: Vec<i16> = (0..160).map(|n| (n * 397 % 4001 - 2000) as i16).collect();
        let half = Gain::from_factor(0.5);
        for (law, one) in [
            (Law::Mu, g711::ulaw_from_linear as fn(i16) -> u8),
            (Law::A, g711::alaw_from_linear as fn(i16) -> u8),
        ] {
            let mut encoded = [0; 160];
            law.encode_with_gain(&pcm, half, &mut encoded);
            assert!(encoded.iter().copied().eq(pcm.iter().map(|&sample| one(half.apply(sample)))), "{law:?}");
            let (mut decoded, mut plain) = ([0; 160], [0; 160]);
            let loudness = law.decode_with_gain(&encoded, Gain::UNITY, &mut decoded);
            law.decode(&encoded, &mut plain);
            assert_eq!(decoded, plain, "{law:?}");
            assert_eq!(loudness, law.measure(&encoded), "{law:?}");
            assert!(law.is_silent(&encoded, loudness.peak), "{law:?}");
            assert!(!law.is_silent(&encoded, loudness.peak - 1), "{law:?}");
            assert!(law.is_silent(&[law.silence(); 160], 8), "{law:?}");
        }
    }

    #[test]
    fn conversion_is_the_same_between_slices_and_in_place() {
        let codes: Vec<u8> = (0..=255).collect();
        for from in [Law::Mu, Law::A] {
            for to in [Law::Mu, Law::A] {
                let (mut converted, mut audio) = (vec![0; 300], codes.clone());
                from.transcode(to, &codes, &mut converted);
                from.transcode_in_place(to, &mut audio);
                assert_eq!(converted[..256], audio, "{from:?} to {to:?}");
                assert_eq!(converted[256..], [0; 44], "{from:?} to {to:?}");
                assert_eq!(audio == codes, from == to);
            }
        }
    }
}
