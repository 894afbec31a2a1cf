//! Base64 and JSON of one `media` message.

use std::hint::black_box;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

pub(crate) const NAMES: [&str; 6] = [
    "base64, write",
    "base64-simd, write",
    "base64, read",
    "base64-simd, read",
    "serde_json, media",
    "a scan for the payload",
];

/// Does it so many times to `bytes` of audio; answers a number so that nothing is left out.
pub(crate) fn run(name: &str, bytes: usize, times: u64) -> u64 {
    let audio: Vec<u8> = (0..bytes).map(|at| (at * 37 % 251) as u8).collect();
    let text = base64::engine::general_purpose::STANDARD.encode(&audio);
    let message = crate::bot_media(bytes);
    let mut out = Vec::with_capacity(bytes * 2);
    let mut sum = 0;
    for _ in 0..times {
        out.clear();
        match name {
            "base64, write" => {
                out.resize(base64::encoded_len(audio.len(), true).expect("fits"), 0);
                BASE64.encode_slice(black_box(&audio), &mut out).expect("fits");
            }
            "base64-simd, write" => base64_simd::STANDARD.encode_append(black_box(&audio), &mut out),
            "base64, read" => BASE64.decode_vec(black_box(&text), &mut out).expect("base64"),
            "base64-simd, read" => {
                base64_simd::STANDARD.decode_append(black_box(text.as_bytes()), &mut out).expect("base64");
            }
            "serde_json, media" => {
                let message: Message<'_> =
                    serde_json::from_slice(black_box(message.as_bytes())).expect("JSON");
                sum += message.media.payload.len() as u64 + u64::from(message.event == "media");
            }
            "a scan for the payload" => {
                sum += scan(black_box(message.as_bytes())).expect("a payload").len() as u64;
            }
            _ => unreachable!("one of NAMES"),
        }
        sum += black_box(&out).len() as u64;
    }
    sum
}

#[derive(Deserialize)]
struct Message<'a> {
    event: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    media: Media<'a>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow)]
    payload: std::borrow::Cow<'a, str>,
}

/// The least that a reader must do: the keys in this order, no escape in a value.
fn scan(message: &[u8]) -> Option<&[u8]> {
    let rest = message.strip_prefix(br#"{"event":"media","streamSid":""#)?;
    let rest = &rest[memchr::memchr2(b'"', b'\\', rest)?..];
    let rest = rest.strip_prefix(br#"","media":{"payload":""#)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    (&rest[end..] == br#""}}"#).then(|| &rest[..end])
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
