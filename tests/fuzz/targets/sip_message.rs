//! SIP: reading a message, framing a stream and every header we look into never panic; what was written is
//! read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| signaling::sip::fuzz_message(data));
