//! TwiML of a running call's owner never panics, and whom it transfers to is bounded and holds no control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| signaling::api::fuzz_twiml(data));
