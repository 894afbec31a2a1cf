//! RTP: the checked view and its accessors never panic and stay within the datagram.
#![no_main]

use engine::rtp::Packet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = Packet::parse(data) else { return };
    let extension = packet.extension().map_or(0, |extension| 4 + extension.data.len());
    assert!(12 + packet.csrcs().count() * 4 + extension + packet.payload().len() <= data.len());
});
