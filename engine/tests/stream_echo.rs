//! A phone talks to an echo: every byte comes back, soon, in order, on one timeline.

mod support;

use engine::stream::{App, StreamEvent};
use support::{CALLER, ENGINE, Link, Phone, World, address, echo_latencies, parameters, percentile, talk};

fn world(link: Link) -> World {
    let mut world = World::new(link, 7);
    world.add(address(ENGINE), parameters(address(CALLER)), App::Echo, 0);
    world
}

#[test]
fn every_byte_comes_back_untouched_within_5_ms_on_a_clean_link() {
    // Whatever the phase between the phone and the stream's start is.
    for start_ms in [0, 1, 7, 13, 19] {
        let mut world = world(Link::default());
        world.run_for(100 + start_ms);
        let mut phone = Phone::new(CALLER, 65_500, u32::MAX - 20_000, 160);
        talk(&mut world, &mut phone, 500);
        let latencies = echo_latencies(&world, &phone);
        world.run_for(100);
        let sent: Vec<u8> = world.rtp_from(phone.at).into_iter().flat_map(|(.., p)| p).collect();
        let back: Vec<u8> = world.rtp_to(phone.at).into_iter().flat_map(|(.., p)| p).collect();
        let first = back.windows(160).position(|w| w == &sent[..160]).expect("the first packet comes back");
        assert_eq!(back[first..first + sent.len()], sent[..], "start {start_ms}");
        assert!(percentile(&latencies, 1.0) < 5000, "start {start_ms}: {}", percentile(&latencies, 1.0));
        assert_eq!(world.nodes[0].stream.statistics().lost_packets, 0);
        assert_eq!(world.nodes[0].stream.statistics().late_packets, 0);
    }
}

#[test]
fn sequence_and_timestamps_are_continuous_and_the_marker_comes_once() {
    let mut world = world(Link::default());
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 100);
    let back = world.rtp_to(phone.at);
    assert!(back.len() >= 100);
    assert!(back[0].1.marker);
    for pair in back.windows(2) {
        assert_eq!(pair[1].1.sequence_number.distance_from(pair[0].1.sequence_number), 1);
        assert_eq!(pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), 160);
        assert!(!pair[1].1.marker);
    }
    let latched = world.nodes[0].events.iter().filter(|(_, e)| matches!(e, StreamEvent::Latched(_))).count();
    assert_eq!(latched, 1);
}
