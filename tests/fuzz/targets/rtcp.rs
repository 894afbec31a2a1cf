//! RTCP: a compound packet can be walked to its end without a panic.
#![no_main]

use engine::rtp::rtcp::{Compound, Packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(compound) = Compound::parse(data) else { return };
    let mut packets = 0;
    for packet in compound.packets() {
        packets += 1;
        match packet {
            Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                assert!(blocks.iter().count() <= 31);
            }
            Packet::Bye { sources } => {
                let _ = sources.contains(1);
            }
            Packet::SourceDescription => {}
        }
    }
    assert!(packets <= data.len() / 4);
});
