//! What an AI backend sends never panics, and audio is bounded by the message.
#![no_main]

use engine::ai::dialect::{Codec, Dialect, StreamStart};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let start = StreamStart {
        stream_sid: "MZ00000000000000000000000000000000".to_owned(),
        call_sid: "CA00000000000000000000000000000000".to_owned(),
        account_sid: "AC00000000000000000000000000000000".to_owned(),
        custom_parameters: [("key".to_owned(), text.to_owned())].into(),
    };
    let mut codec = Codec::new(Dialect::Twilio, start);
    let mut audio = Vec::new();
    let _ = codec.decode_text(text, &mut audio);
    assert!(audio.len() <= text.len());
    // Whatever a caller's headers hold, the start message is one JSON object.
    for opening in codec.opening() {
        assert!(opening.starts_with('{') && opening.ends_with('}'));
    }
});
