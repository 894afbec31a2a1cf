//! Frames: the headers' view never panics, stays within the frame, and what was read is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdp::wire::{HeaderTemplate, Hop, UdpFrame};

fuzz_target!(|data: &[u8]| {
    let Ok(frame) = UdpFrame::parse(data) else { return };
    let payload = &data[frame.payload.clone()];
    let hop = Hop { source_mac: frame.source_mac, destination_mac: frame.destination_mac, vlan: frame.vlan };
    let template = HeaderTemplate::new(&hop, frame.source, frame.destination, frame.traffic_class);
    let Some(template) = template else {
        // An IPv4-mapped destination in an IPv6 packet.
        assert!(frame.destination.ip().to_canonical() != frame.destination.ip());
        return;
    };
    let mut written = vec![0; template.len() + payload.len()];
    written[template.len()..].copy_from_slice(payload);
    template.write(&mut written, payload.len()).expect("it fits");
    let again = UdpFrame::parse(&written).expect("what is written is valid");
    assert_eq!(&written[again.payload.clone()], payload);
    assert_eq!((again.source, again.destination, again.vlan), (frame.source, frame.destination, frame.vlan));
});
