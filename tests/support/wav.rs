//! WAV files (16-bit PCM and mu-law, mono) and G.711 mu-law, written for the tests so that they do not
//! trust the code under test.

use std::path::Path;

/// Samples and their rate.
#[derive(Clone, Debug)]
pub(crate) struct Wav {
    pub(crate) rate_hz: u32,
    pub(crate) samples: Vec<i16>,
}

impl Wav {
    /// Reads a mono file; stereo files (some recorders write them) keep their first channel.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&bytes).unwrap_or_else(|| panic!("{}: not a WAV file we can read", path.display()))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WAVE" {
            return None;
        }
        let mut rest = &bytes[12..];
        let mut format = None;
        while rest.len() >= 8 {
            let size = usize::try_from(u32::from_le_bytes(rest[4..8].try_into().ok()?)).ok()?;
            // A file that is still being written may announce more than it has, or nothing yet.
            let body = &rest[8..(8 + size).min(rest.len())];
            match &rest[..4] {
                b"fmt " => {
                    let word = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
                    let rate_hz = u32::from_le_bytes(body.get(4..8)?.try_into().ok()?);
                    format = Some((word(0)?, usize::from(word(2)?), rate_hz, word(14)?));
                }
                b"data" => {
                    let (tag, channels, rate_hz, bits) = format?;
                    let body = if size == 0 { &rest[8..] } else { body };
                    let samples: Vec<i16> = match (tag, bits) {
                        (1 | 0xFFFE, 16) => {
                            body.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
                        }
                        (7, 8) => body.iter().map(|&byte| decode_mu_law(byte)).collect(),
                        _ => return None,
                    };
                    return Some(Self { rate_hz, samples: samples.into_iter().step_by(channels).collect() });
                }
                _ => {}
            }
            rest = rest.get(8 + size + size % 2..).unwrap_or_default();
        }
        None
    }

    /// Writes 16-bit PCM.
    pub(crate) fn write(&self, path: &Path) {
        let data: Vec<u8> = self.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let size = u32::try_from(data.len()).expect("a short file");
        let mut bytes = Vec::with_capacity(44 + data.len());
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&(36 + size).to_le_bytes());
        bytes.extend_from_slice(b"WAVEfmt ");
        bytes.extend_from_slice(&16u32.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&self.rate_hz.to_le_bytes());
        bytes.extend_from_slice(&(self.rate_hz * 2).to_le_bytes());
        bytes.extend_from_slice(&2u16.to_le_bytes());
        bytes.extend_from_slice(&16u16.to_le_bytes());
        bytes.extend_from_slice(b"data");
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&data);
        std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// ITU-T G.711 mu-law, from the segment description.
pub(crate) fn decode_mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0F) << 3) + 0x84) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

pub(crate) fn encode_mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs().min(32_635) + 0x84;
    let segment = 15 - magnitude.leading_zeros() - 7;
    let mantissa = u8::try_from((magnitude >> (segment + 3)) & 0x0F).expect("four bits");
    !(sign | u8::try_from(segment << 4).expect("seven bits") | mantissa)
}

/// ITU-T G.711 A-law, from the segment description.
pub(crate) fn encode_a_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0 } else { 0x80 };
    let magnitude = u16::try_from(if sample < 0 { !sample } else { sample } >> 4).expect("eleven bits");
    let code = match magnitude {
        0..32 => magnitude,
        _ => {
            let segment = 15 - magnitude.leading_zeros() - 3;
            u16::try_from(segment << 4).expect("seven bits") | (magnitude >> (segment - 1) & 0x0F)
        }
    };
    (sign | u8::try_from(code).expect("seven bits")) ^ 0x55
}
