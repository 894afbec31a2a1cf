#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::net::IpAddr;

use proptest::prelude::*;

use super::message::{self, Attributes, Messages, Request};
use super::*;
use crate::wire::MacAddress;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A message as the kernel writes it.
fn link() -> Vec<u8> {
    let mut header = [0; message::LINK_BYTES];
    header[4..8].copy_from_slice(&7u32.to_ne_bytes());
    header[8..12].copy_from_slice(&(message::IFF_UP | message::IFF_LOWER_UP).to_ne_bytes());
    let nested = |attributes: Vec<u8>| attributes[message::HEADER_BYTES..].to_vec();
    let data = nested(Request::new(0, 0).attribute(1, &100u16.to_ne_bytes()).finish(0));
    let info = Request::new(0, 0).attribute(1, b"vlan\0").attribute(2, &data).finish(0);
    let programs = Request::new(0, 0).attribute(2, &[1]).attribute(4, &55u32.to_ne_bytes()).finish(0);
    Request::new(message::NEWLINK, 0)
        .put(&header)
        .attribute(message::IFLA_IFNAME, b"eth0.100\0")
        .attribute(message::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9])
        .attribute(message::IFLA_MTU, &1500u32.to_ne_bytes())
        .attribute(message::IFLA_LINK, &3u32.to_ne_bytes())
        .attribute(message::IFLA_LINKINFO | 0x8000, &nested(info))
        .attribute(message::IFLA_XDP | 0x8000, &nested(programs))
        .finish(1)
}

fn neighbour(state: u8, mac: &[u8]) -> Vec<u8> {
    let mut header = message::neighbour_header(7, ip("192.0.2.9"), 0);
    header[8] = state;
    Request::new(message::NEWNEIGH, 0)
        .put(&header)
        .ip(message::NDA_DST, ip("192.0.2.9"))
        .attribute(message::NDA_LLADDR, mac)
        .finish(1)
}

#[test]
fn a_vlan_interface_with_a_program_is_read() {
    let expected = Link {
        index: 7,
        name: "eth0.100".to_owned(),
        mac: Some(MacAddress([2, 0, 0, 0, 0, 9])),
        up: true,
        mtu: 1500,
        vlan: Some(VlanLink { parent: 3, id: 100 }),
        programs: [55, 0, 0, 0],
    };
    assert!(expected.has_program(55) && !expected.has_program(0) && !expected.has_program(56));
    assert_eq!(events(&link()).collect::<Vec<_>>(), [Event::Link(expected)]);
}

#[test]
fn a_neighbour_without_a_valid_state_has_no_mac() {
    let mac = [2, 0, 0, 0, 0, 9];
    let read = |state, mac: &[u8]| match events(&neighbour(state, mac)).next() {
        Some(Event::Neighbour(neighbour)) => neighbour,
        other => panic!("{other:?}"),
    };
    let states = [
        (0x00, NeighbourState::Incomplete, false),
        (0x01, NeighbourState::Incomplete, false),
        (0x02, NeighbourState::Reachable, true),
        (0x04, NeighbourState::Stale, true),
        (0x08, NeighbourState::Verifying, true),
        (0x10, NeighbourState::Verifying, true),
        (0x20, NeighbourState::Failed, false),
        (0x40, NeighbourState::Fixed, true),
        (0x80, NeighbourState::Fixed, true),
    ];
    for (number, state, known) in states {
        let neighbour = read(number, &mac);
        assert_eq!((neighbour.state, neighbour.mac.is_some()), (state, known), "{number:#x}");
    }
    for impossible in [&[0; 6][..], &[1, 0, 0x5e, 0, 0, 1], &[2, 0, 0, 0], &[]] {
        assert_eq!(read(0x02, impossible).mac, None);
    }
}

#[test]
fn a_bridge_s_table_is_no_neighbour_and_no_link() {
    for mut bytes in [neighbour(2, &[2, 0, 0, 0, 0, 9]), link()] {
        bytes[message::HEADER_BYTES] = 7;
        assert_eq!(events(&bytes).count(), 0);
    }
}

#[test]
fn routes_are_told_apart() {
    let route = |kind: u8, attributes: fn(Request) -> Request| {
        let mut header = [0; message::ROUTE_BYTES];
        (header[0], header[1], header[7]) = (message::AF_INET, 32, kind);
        let bytes = attributes(Request::new(message::NEWROUTE, 0).put(&header)).finish(1);
        Route::parse(&bytes[message::HEADER_BYTES..])
    };
    let through = |request: Request| request.attribute(message::RTA_OIF, &4u32.to_ne_bytes());
    let direct = Route::Through { interface: 4, gateway: None, source: None };
    assert_eq!(route(message::RTN_UNICAST, through), Some(direct));
    let by_ipv6 = |request: Request| {
        let mut via = vec![10, 0];
        via.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        request.attribute(message::RTA_OIF, &4u32.to_ne_bytes()).attribute(message::RTA_VIA, &via)
    };
    let gateway = Route::Through { interface: 4, gateway: Some(ip("fe80::1")), source: None };
    assert_eq!(route(message::RTN_UNICAST, by_ipv6), Some(gateway));
    assert_eq!(route(message::RTN_LOCAL, through), Some(Route::Local));
    assert_eq!(route(message::RTN_BROADCAST, through), Some(Route::Kernel));
    assert_eq!(route(7, through), Some(Route::Unreachable));
    let tunnel = |request: Request| request.attribute(message::RTA_ENCAP, &[]);
    assert_eq!(route(message::RTN_UNICAST, tunnel), Some(Route::Kernel));
    assert_eq!(route(message::RTN_UNICAST, |request| request), None);
}

#[test]
fn a_network_contains_its_addresses() {
    let network = Prefix::new(ip("192.0.2.0"), 24);
    assert!(network.contains(ip("192.0.2.255")) && !network.contains(ip("192.0.3.0")));
    assert!(!network.contains(ip("::c000:200")));
    let network = Prefix::new(ip("2001:db8::"), 65);
    assert!(network.contains(ip("2001:db8::7fff:0:0:1")) && !network.contains(ip("2001:db8::8000:0:0:1")));
    assert!(Prefix::new(ip("0.0.0.0"), 0).contains(ip("198.51.100.1")));
    assert!(!Prefix::new(ip("192.0.2.0"), 255).contains(ip("192.0.2.0")));
}

#[test]
fn this_host_knows_its_loopback() {
    let mut netlink = Netlink::new().expect("a socket");
    let links = netlink.links().expect("a dump");
    let lo = links.iter().find(|link| link.name == "lo").expect("every namespace has one");
    assert_eq!(netlink.link(lo.index).expect("an answer").as_ref(), Some(lo));
    assert_eq!(netlink.link(u32::MAX >> 1).expect("an answer"), None);
    assert_eq!(netlink.route(ip("127.0.0.1"), 0).expect("an answer"), Route::Local);
    assert_eq!(netlink.neighbour(lo.index, ip("192.0.2.1")).expect("an answer"), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        events(&bytes).for_each(drop);
        let _ = (Link::parse(&bytes), Address::parse(&bytes), Route::parse(&bytes), Neighbour::parse(&bytes));
    }

    #[test]
    fn no_damaged_message_panics(
        which: bool, damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: prop::sample::Index,
    ) {
        let mut bytes = if which { link() } else { neighbour(2, &[2, 0, 0, 0, 0, 9]) };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        events(&bytes).for_each(drop);
    }

    #[test]
    fn attributes_are_read_as_written(
        written in proptest::collection::vec((0u16..0x4000, proptest::collection::vec(any::<u8>(), 0..20)), 0..10),
    ) {
        let request = written.iter().fold(Request::new(99, 0), |request, (kind, value)| {
            request.attribute(*kind, value)
        });
        let bytes = request.finish(5);
        let messages: Vec<_> = Messages::new(&bytes).collect();
        prop_assert_eq!(messages.len(), 1);
        prop_assert_eq!((messages[0].kind, messages[0].sequence), (99, 5));
        let read: Vec<_> = Attributes::new(messages[0].body).map(|(kind, value)| (kind, value.to_vec())).collect();
        prop_assert_eq!(read, written);
    }
}
