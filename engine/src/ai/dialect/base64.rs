//! Base64 (RFC 4648 section 4) as backends write it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Ignored;

/// Appends padded base64.
pub(super) fn append_encoded(audio: &[u8], text: &mut Vec<u8>) {
    let start = text.len();
    text.resize(start + base64::encoded_len(audio.len(), true).unwrap_or(0), 0);
    // The room is exactly what it takes.
    let _ = BASE64.encode_slice(audio, text.get_mut(start..).unwrap_or_default());
}

/// Appends what base64, padded or not, means; answers how much that was.
pub(super) fn append_decoded(payload: &str, audio: &mut Vec<u8>) -> Result<usize, Ignored> {
    let before = audio.len();
    match BASE64.decode_vec(payload, audio) {
        Ok(()) => Ok(audio.len() - before),
        Err(_) => {
            audio.truncate(before);
            Err(Ignored::BadBase64)
        }
    }
}

/// Writes padded base64; reads it with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
