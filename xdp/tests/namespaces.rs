//! The hosts that other tests run on.

mod netns;

use std::net::UdpSocket;
use std::time::Duration;

use netns::{Cable, Options};

#[test]
fn hosts_on_a_cable_reach_each_other() {
    let Some(cable) = Cable::or_skip("hosts_on_a_cable_reach_each_other", Options::default()) else { return };
    for ipv6 in [false, true] {
        let bind = |host: &netns::Host| host.run(|| UdpSocket::bind((host.ip(ipv6), 4000)).expect("free"));
        let (near, far) = (bind(&cable.near), bind(&cable.far));
        far.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        near.send_to(b"hello", (cable.far.ip(ipv6), 4000)).expect("sent");
        let mut buffer = [0; 16];
        let (len, from) = far.recv_from(&mut buffer).expect("heard");
        assert_eq!((&buffer[..len], from.ip()), (&b"hello"[..], cable.near.ip(ipv6)));
    }
}
