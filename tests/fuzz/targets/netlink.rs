//! Netlink: whatever a socket delivers, reading it never panics and ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| assert!(xdp::netlink::events(data).count() <= data.len() / 16));
