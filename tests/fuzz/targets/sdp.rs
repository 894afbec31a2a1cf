//! SDP never panics; what was read can be written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signaling::sdp::SessionDescription;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(description) = SessionDescription::parse(text) else { return };
    let written = description.to_string();
    let again = SessionDescription::parse(&written).unwrap_or_else(|error| panic!("{error}: {written:?}"));
    assert_eq!(again, description, "{written:?}");
});
