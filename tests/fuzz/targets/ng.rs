//! NG datagrams and the SDP in them never panic; what was read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| signaling::ng::fuzz_datagram(data));
