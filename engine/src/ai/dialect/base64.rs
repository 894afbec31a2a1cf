//! Base64 (RFC 4648 section 4) as backends write it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Ignored;

/// Appends padded base64.
pub(super) fn append_encoded(audio: &[u8], text: &mut Vec<u8>) {
    base64_simd::STANDARD.encode_append(audio, text);
}

/// Appends what base64, padded or not, means; answers how much that was.
pub(super) fn append_decoded(payload: &str, audio: &mut Vec<u8>) -> Result<usize, Ignored> {
    append_decoded_bytes(payload.as_bytes(), audio)
}

/// The same for what may not even be text.
pub(super) fn append_decoded_bytes(payload: &[u8], audio: &mut Vec<u8>) -> Result<usize, Ignored> {
    let before = audio.len();
    let bare = match payload {
        [bare @ .., b'=', b'='] | [bare @ .., b'='] if payload.len().is_multiple_of(4) => bare,
        _ => payload,
    };
    if base64_simd::STANDARD_NO_PAD.decode_append(bare, audio).is_ok() {
        return Ok(audio.len() - before);
    }
    audio.truncate(before);
    // Stray bits in the last digit, odd padding: what the quick reader refuses is rare and may still be allowed.
    match TOLERANT.decode_vec(payload, audio) {
        Ok(()) => Ok(audio.len() - before),
        Err(_) => {
            audio.truncate(before);
            Err(Ignored::BadBase64)
        }
    }
}

/// Reads base64 with or without padding.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(payload: &[u8]) -> Result<Vec<u8>, Ignored> {
        // What was there before stays.
        let mut audio = vec![7; 3];
        let result = append_decoded_bytes(payload, &mut audio);
        assert_eq!(audio.drain(..3).collect::<Vec<_>>(), [7; 3]);
        assert_eq!(result.as_ref().copied().unwrap_or(0), audio.len());
        result.map(|_| audio)
    }

    fn expected(payload: &[u8]) -> Result<Vec<u8>, Ignored> {
        TOLERANT.decode(payload).map_err(|_| Ignored::BadBase64)
    }

    #[test]
    fn padding_may_be_there_or_not() {
        for payload in ["", "AA==", "AA", "AAA=", "AAA", "AAAA", "AB==", "AAB"] {
            assert!(decoded(payload.as_bytes()).is_ok(), "{payload}");
        }
        for payload in ["A", "A===", "=", "AAAA=", "AA=A", "AA A", "AA\n==", "AAAAA", "AA-_", "\u{e9}AA"] {
            assert_eq!(decoded(payload.as_bytes()), expected(payload.as_bytes()), "{payload}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_base64_crate_writes(
            before in "[a-z]{0,5}", audio in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut text = before.clone().into_bytes();
            append_encoded(&audio, &mut text);
            prop_assert_eq!(text, (before + &TOLERANT.encode(&audio)).into_bytes());
        }

        #[test]
        fn what_is_read_is_what_the_base64_crate_reads(payload in "[A-Za-z0-9+/]{0,200}={0,4}") {
            prop_assert_eq!(decoded(payload.as_bytes()), expected(payload.as_bytes()));
        }

        #[test]
        fn any_bytes_mean_the_same(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&payload), expected(&payload));
        }

        #[test]
        fn one_wrong_byte_means_the_same(payload in "[A-Za-z0-9+/]{1,300}={0,2}", at: prop::sample::Index, byte: u8) {
            let mut payload = payload.into_bytes();
            let at = at.index(payload.len());
            payload[at] = byte;
            prop_assert_eq!(decoded(&payload), expected(&payload));
        }
    }
}
