//! Flows that the kernel forwards by itself.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use xdp::af_xdp::ModeWanted;
use xdp::{Device, Flow, Path, PayloadTypes, Rewriting, Unpromoted};

use crate::netns::{self, Cable};
use crate::{inside, open, receive, receive_now, send};

#[test]
fn a_promoted_flow_is_forwarded_by_the_kernel_and_demoted_with_its_figures() {
    let test = "a_promoted_flow_is_forwarded_by_the_kernel_and_demoted_with_its_figures";
    for ipv6 in [false, true] {
        let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
        inside::introduce(&cable, ipv6);
        let mut near = inside::one(&cable.near, ModeWanted::Native);
        let mut far = inside::one(&cable.far, ModeWanted::Native);
        let [(in_port, in_local), (out_port, out_local)] =
            [(); 2].map(|()| open(&mut near, SocketAddr::new(cable.near.ip(ipv6), 0)));
        let [(from, from_local), (to, to_local)] =
            [(); 2].map(|()| open(&mut far, SocketAddr::new(cable.far.ip(ipv6), 0)));
        let mut payload_types = PayloadTypes::default();
        payload_types.insert(0);
        let rewriting = Rewriting { ssrc: Some(0x0102_0304), ..Rewriting::default() };
        let path = Path { port: out_port, remote: to_local };
        let flow = Flow { source: from_local, path, payload_types, rewriting };
        let deadline = Instant::now() + Duration::from_secs(5);
        while near.promote(in_port, &flow).is_err() {
            // Asked for with the first try.
            assert!(Instant::now() < deadline, "the next hop is found");
            std::thread::sleep(Duration::from_millis(5));
        }
        let rtp = |number: u8, payload_type: u8| {
            [&[0x80, payload_type, 0, number, 0, 0, 0, 0, 9, 9, 9, 9][..], &[7; 160]].concat()
        };
        for number in 1..=10 {
            send(&mut far, Path { port: from, remote: in_local }, &rtp(number, 0));
        }
        send(&mut far, Path { port: from, remote: in_local }, &rtp(11, 101));
        let heard = receive(&mut far, 10);
        for (number, (port, remote, payload)) in (1..).zip(&heard) {
            let mut expected = rtp(number, 0);
            expected[8..12].copy_from_slice(&[1, 2, 3, 4]);
            assert_eq!((*port, *remote, payload), (to, out_local, &expected));
        }
        assert_eq!(heard.len(), 10);
        assert_eq!(receive(&mut near, 1), [(in_port, from_local, rtp(11, 101))]);
        assert_eq!(near.flow_counters(in_port).map(|counters| counters.packets), Some(10));
        let counters = near.demote(in_port).expect("it was promoted");
        assert_eq!((counters.packets, counters.bytes, counters.highest_sequence), (10, 1720, 10));
        assert_eq!(near.demote(in_port), None);
        send(&mut far, Path { port: from, remote: in_local }, &rtp(12, 0));
        assert_eq!(receive(&mut near, 1), [(in_port, from_local, rtp(12, 0))]);
    }
}

#[test]
fn a_flow_that_the_kernel_forwards_in_vain_is_taken_back() {
    let test = "a_flow_that_the_kernel_forwards_in_vain_is_taken_back";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    // The far end takes nothing that a program sends: it has neither one itself nor GRO.
    let mut near = inside::one(&cable.near, ModeWanted::Native);
    let [(in_port, in_local), (out_port, _)] =
        [(); 2].map(|()| open(&mut near, SocketAddr::new(cable.near.ipv4.into(), 0)));
    let bind = || UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket");
    let [from, to] = [(); 2].map(|()| cable.far.run(bind));
    let mut payload_types = PayloadTypes::default();
    payload_types.insert(0);
    let path = Path { port: out_port, remote: to.local_addr().expect("bound") };
    let source = from.local_addr().expect("bound");
    let flow = Flow { source, path, payload_types, rewriting: Rewriting::default() };
    let deadline = Instant::now() + Duration::from_secs(5);
    while near.promote(in_port, &flow).is_err() {
        assert!(Instant::now() < deadline, "the next hop is found");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut sent = 0;
    let mut heard = Vec::new();
    while heard.is_empty() {
        assert!(Instant::now() < deadline, "it comes to user space again");
        from.send_to(&[&[0x80, 0, 0, sent, 0, 0, 0, 0, 9, 9, 9, 9][..], &[7; 160]].concat(), in_local)
            .expect("sent");
        sent += 1;
        heard = receive_now(&mut near);
    }
    assert_eq!(near.promote(in_port, &flow), Err(Unpromoted::Program));
    let counted = near.demote(in_port).expect("it was promoted").packets;
    assert_eq!(counted + heard.len() as u64, u64::from(sent));
    assert_eq!(near.counters().forwarding_ended.value(), 1);
}
