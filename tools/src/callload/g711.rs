//! G.711 by the arithmetic of the ITU-T G.711 tables, written apart from the engine's codec.

/// The two laws of G.711 with their static payload types (RFC 3551 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    /// mu-law, payload type 0.
    Pcmu,
    /// A-law, payload type 8.
    Pcma,
}

impl Law {
    pub(crate) fn from_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            _ => None,
        }
    }

    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// One 16-bit sample to one byte.
    pub(crate) fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Pcmu => encode_mu(sample),
            Self::Pcma => encode_a(sample),
        }
    }

    /// One byte to one 16-bit sample.
    pub(crate) fn decode(self, byte: u8) -> i16 {
        match self {
            Self::Pcmu => decode_mu(byte),
            Self::Pcma => decode_a(byte),
        }
    }

    /// All 256 decoded values.
    pub(crate) fn table(self) -> [i16; 256] {
        std::array::from_fn(|byte| self.decode(byte as u8))
    }
}

fn encode_mu(sample: i16) -> u8 {
    // 14-bit magnitude plus the bias of 33; the segment is the position of the leading one above bit 5.
    let magnitude = ((i32::from(sample).abs() >> 2).min(8158)) + 33;
    let segment = 26 - (magnitude as u32).leading_zeros();
    let mantissa = (magnitude >> (segment + 1)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (segment as u8) << 4 | mantissa as u8)
}

fn decode_mu(byte: u8) -> i16 {
    let code = !byte;
    let segment = (code >> 4) & 7;
    let magnitude = ((i32::from(code & 0x0f) * 2 + 33) << segment) - 33;
    let value = (magnitude * 4) as i16;
    if code & 0x80 != 0 { -value } else { value }
}

fn encode_a(sample: i16) -> u8 {
    // 13-bit input; negative values are one's complements, as in the tables.
    let negative = sample < 0;
    let magnitude = (if negative { !i32::from(sample) } else { i32::from(sample) }) >> 3;
    let code = if magnitude < 32 {
        magnitude >> 1
    } else {
        let segment = 27 - (magnitude as u32).leading_zeros();
        ((segment as i32) << 4) | ((magnitude >> segment) & 0x0f)
    };
    let sign = if negative { 0 } else { 0x80 };
    (code as u8 | sign) ^ 0x55
}

fn decode_a(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let segment = (code >> 4) & 7;
    let mantissa = i32::from(code & 0x0f);
    let magnitude = if segment == 0 { mantissa * 2 + 1 } else { (mantissa * 2 + 33) << (segment - 1) };
    let value = (magnitude * 8) as i16;
    if code & 0x80 != 0 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_code_words_of_the_itu_tables() {
        // G.711 tables 1a and 2a: extremes, zero and the segment ends.
        assert_eq!(Law::Pcmu.decode(0x80), 32124);
        assert_eq!(Law::Pcmu.decode(0x00), -32124);
        assert_eq!(Law::Pcmu.decode(0xff), 0);
        assert_eq!(Law::Pcmu.encode(0), 0xff);
        assert_eq!(Law::Pcma.decode(0xaa), 32256);
        assert_eq!(Law::Pcma.decode(0x2a), -32256);
        assert_eq!(Law::Pcma.decode(0xd5), 8);
        assert_eq!(Law::Pcma.encode(0), 0xd5);
    }

    #[test]
    fn encoding_a_decoded_byte_gives_the_byte_back() {
        for law in [Law::Pcmu, Law::Pcma] {
            for byte in 0..=255u8 {
                // mu-law has two zeros; the negative one encodes as the positive one.
                let expected = if law == Law::Pcmu && byte == 0x7f { 0xff } else { byte };
                assert_eq!(law.encode(law.decode(byte)), expected, "{law:?} {byte:#x}");
            }
        }
    }

    #[test]
    fn every_sample_is_within_half_a_step_of_its_level_and_order_is_kept() {
        for law in [Law::Pcmu, Law::Pcma] {
            let mut before = i16::MIN;
            for sample in i16::MIN..=i16::MAX {
                let level = law.decode(law.encode(sample));
                assert!(level >= before, "{law:?} {sample}");
                before = level;
                let error = (i32::from(level) - i32::from(sample)).abs();
                let magnitude = i32::from(sample).abs();
                let half_step =
                    if law == Law::Pcmu { (magnitude + 132) / 32 + 4 } else { magnitude / 32 + 8 };
                assert!(error <= half_step, "{law:?} {sample}: {error} above {half_step}");
            }
        }
    }
}
