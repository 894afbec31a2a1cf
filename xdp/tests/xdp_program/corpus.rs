//! Which frames are ours.

use xdp::program::{Event, Options};

use crate::frames::{Checksum, Frame, THEIRS, rtp};
use crate::{Bench, DROP, PASS};

const PEER: &str = "198.51.100.7:4000";
const PEER_V6: &str = "[2001:db8:7::7]:4000";
const OPEN: &str = "192.0.2.1:30000";
const OPEN_V6: &str = "[2001:db8::1]:30002";

/// Ports: 30000 on IPv4, 30002 on IPv6, 30004 on any address, 30005 on any of IPv4; 30006 and 30008 connected to the peers; 5060 guarded.
pub(crate) fn opened(test: &str, options: Options) -> Option<Bench> {
    let bench = Bench::or_skip(test, options)?;
    let ports = bench.program.ports();
    ports.open(30_000, "192.0.2.1".parse().unwrap()).unwrap();
    ports.open(30_002, "2001:db8::1".parse().unwrap()).unwrap();
    ports.open(30_004, "::".parse().unwrap()).unwrap();
    ports.open(30_005, "0.0.0.0".parse().unwrap()).unwrap();
    ports.open(30_006, "192.0.2.1".parse().unwrap()).unwrap();
    ports.open(30_008, "2001:db8::1".parse().unwrap()).unwrap();
    ports.connect(30_006, Some(PEER.parse().unwrap()));
    ports.connect(30_008, Some(PEER_V6.parse().unwrap()));
    ports.guard(5060).unwrap();
    Some(bench)
}

/// All frames of the corpus with what is to become of each.
pub(crate) fn corpus() -> Vec<(&'static str, Vec<u8>, Event)> {
    let v4 = || Frame::new(PEER, OPEN);
    let v6 = || Frame::new(PEER_V6, OPEN_V6);
    let to = |frame: Frame, destination: &str| {
        frame.with(|frame| frame.destination = destination.parse().unwrap())
    };
    let from = |frame: Frame, source: &str| frame.with(|frame| frame.source = source.parse().unwrap());
    let tag = |frame: Frame, tags: &[(u16, u16)]| frame.with(|frame| frame.tags = tags.to_vec());
    let mut corpus = vec![
        ("IPv4 to an open port", v4(), Event::Redirected),
        ("IPv6 to an open port", v6(), Event::Redirected),
        ("no UDP checksum", v4().with(|frame| frame.checksum = Checksum::Absent), Event::Redirected),
        ("a partial UDP checksum", v4().with(|frame| frame.checksum = Checksum::Partial), Event::Redirected),
        ("an empty datagram", v4().with(|frame| frame.payload.clear()), Event::Redirected),
        ("an empty datagram, IPv6", v6().with(|frame| frame.payload.clear()), Event::Redirected),
        ("a long datagram", v4().with(|frame| frame.payload = vec![9; 1472]), Event::Redirected),
        ("padding behind the packet", v4().with(|frame| frame.padding = 18), Event::Redirected),
        ("one VLAN tag", tag(v4(), &[(0x8100, 5)]), Event::Redirected),
        ("one VLAN tag, IPv6", tag(v6(), &[(0x8100, 5)]), Event::Redirected),
        ("any address", to(v4(), "192.0.2.9:30004"), Event::Redirected),
        ("any address, IPv6", to(v6(), "[2001:db8::9]:30004"), Event::Redirected),
        ("any address, with a tag", tag(to(v6(), "[2001:db8::9]:30004"), &[(0x8100, 5)]), Event::Redirected),
        ("the peer", to(v4(), "192.0.2.1:30006"), Event::Redirected),
        ("the peer, IPv6", to(v6(), "[2001:db8::1]:30008"), Event::Redirected),
        ("may be fragmented, is not", v4().with(|frame| frame.fragment = 0), Event::Redirected),
        ("QinQ", tag(v4(), &[(0x88a8, 5), (0x8100, 6)]), Event::PassedEthertype),
        ("two VLAN tags", tag(v4(), &[(0x8100, 5), (0x8100, 6)]), Event::PassedEthertype),
        ("an outer service tag", tag(v4(), &[(0x88a8, 5)]), Event::PassedEthertype),
        ("TCP", v4().with(|frame| frame.protocol = 6), Event::PassedProtocol),
        ("ICMP", v4().with(|frame| frame.protocol = 1), Event::PassedProtocol),
        ("ICMPv6", v6().with(|frame| frame.protocol = 58), Event::PassedProtocol),
        ("IPv4 options", v4().with(|frame| frame.options = vec![1; 4]), Event::PassedOptions),
        ("a first fragment", v4().with(|frame| frame.fragment = 0x2000), Event::PassedFragment),
        ("a middle fragment", v4().with(|frame| frame.fragment = 0x20b9), Event::PassedFragment),
        ("a last fragment", v4().with(|frame| frame.fragment = 0x00b9), Event::PassedFragment),
        ("IP longer than UDP", v4().with(|frame| frame.wrong_lengths = [4, 0]), Event::PassedLength),
        ("IP shorter than UDP", v4().with(|frame| frame.wrong_lengths = [-4, 0]), Event::PassedLength),
        ("UDP longer than IP", v6().with(|frame| frame.wrong_lengths = [0, 4]), Event::PassedLength),
        ("both longer than the frame", v4().with(|frame| frame.wrong_lengths = [4, 4]), Event::PassedLength),
        ("both longer, IPv6", v6().with(|frame| frame.wrong_lengths = [1, 1]), Event::PassedLength),
        ("UDP below its header", v4().with(|frame| frame.wrong_lengths = [-173, -173]), Event::PassedLength),
        ("another port", to(v4(), "192.0.2.1:30001"), Event::PassedPort),
        ("port 0", to(v4(), "192.0.2.1:0"), Event::PassedPort),
        ("another address", to(v4(), "192.0.2.2:30000"), Event::PassedAddress),
        ("our other address", to(v4(), "192.0.2.9:30000"), Event::PassedAddress),
        ("another address, IPv6", to(v6(), "[2001:db8::2]:30002"), Event::PassedAddress),
        ("not one of ours", to(v4(), "192.0.2.2:30004"), Event::PassedAddress),
        ("the other family", to(v6(), "[2001:db8::1]:30000"), Event::PassedAddress),
        ("IPv4 written as IPv6", to(v6(), "[::ffff:192.0.2.1]:30000"), Event::PassedAddress),
        ("IPv4 written as IPv6, any", to(v6(), "[::ffff:192.0.2.1]:30004"), Event::PassedAddress),
        ("any IPv4 address", to(v4(), "192.0.2.9:30005"), Event::Redirected),
        ("any address, but of IPv4", to(v6(), "[2001:db8::1]:30005"), Event::PassedAddress),
        ("multicast", to(v4(), "224.0.1.75:30004"), Event::PassedAddress),
        ("another MAC", v4().with(|frame| frame.macs[0] = THEIRS), Event::PassedAddress),
        ("everybody's MAC", v6().with(|frame| frame.macs[0] = [255; 6]), Event::PassedAddress),
        ("a guarded port", to(v4(), "192.0.2.1:5060"), Event::PassedGuarded),
        ("a guarded port at another address", to(v6(), "[2001:db8::5]:5060"), Event::PassedGuarded),
        (
            "another address than the peer's",
            from(to(v4(), "192.0.2.1:30006"), "198.51.100.8:4000"),
            Event::DroppedStrangers,
        ),
        (
            "another port than the peer's",
            from(to(v4(), "192.0.2.1:30006"), "198.51.100.7:4001"),
            Event::DroppedStrangers,
        ),
        (
            "another address than the peer's, IPv6",
            from(to(v6(), "[2001:db8::1]:30008"), "[2001:db8:7::8]:4000"),
            Event::DroppedStrangers,
        ),
        (
            "another network than the peer's, IPv6",
            from(to(v6(), "[2001:db8::1]:30008"), "[2001:db8:8::7]:4000"),
            Event::DroppedStrangers,
        ),
    ]
    .into_iter()
    .map(|(name, frame, event)| (name, frame.bytes(), event))
    .collect::<Vec<_>>();

    let changed = |frame: Frame, at: usize, byte: u8| {
        let mut bytes = frame.bytes();
        bytes[at] = byte;
        bytes
    };
    corpus.push(("IP version 5", changed(v4(), 14, 0x55), Event::PassedOptions));
    corpus.push(("a header below 20 bytes", changed(v4(), 14, 0x44), Event::PassedOptions));
    corpus.push(("IPv6 of version 4", changed(v6(), 14, 0x41), Event::PassedOptions));
    for (name, next) in [
        ("hop-by-hop options", 0),
        ("routing", 43),
        ("a fragment header", 44),
        ("destination options", 60),
        ("AH", 51),
        ("no next header", 59),
    ] {
        corpus.push((name, changed(v6(), 20, next), Event::PassedProtocol));
    }
    let mut arp = vec![0xff; 6];
    arp.extend(THEIRS);
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(42, 0);
    corpus.push(("ARP", arp, Event::PassedEthertype));
    for length in [14, 20, 41] {
        corpus.push(("a cut frame", v4().bytes()[..length].to_vec(), Event::PassedShort));
    }
    corpus.push(("IPv6 without UDP", v6().bytes()[..61].to_vec(), Event::PassedShort));
    corpus.push(("a tag without UDP", tag(v4(), &[(0x8100, 5)]).bytes()[..45].to_vec(), Event::PassedShort));
    corpus.push(("a cut datagram", v4().bytes()[..100].to_vec(), Event::PassedLength));
    let rtcp = v4().with(|frame| frame.payload = rtp(1, 72, 0, 0, 0, 16));
    corpus.push(("RTCP to a port that does not forward", rtcp.bytes(), Event::Redirected));
    corpus
}

#[test]
fn each_frame_of_the_corpus_goes_its_way_untouched() {
    let test = "each_frame_of_the_corpus_goes_its_way_untouched";
    let Some(bench) = opened(test, Options::default()) else { return };
    for (name, frame, event) in corpus() {
        let outcome = bench.run(&frame);
        let verdict = if event == Event::DroppedStrangers { DROP } else { PASS };
        assert_eq!((outcome.event, outcome.verdict), (Some(event), verdict), "{name}");
        assert_eq!(outcome.frame, frame, "{name}");
    }
    assert_eq!(bench.program.ports().strangers(30_006), 2);
    assert_eq!(bench.program.ports().strangers(30_008), 2);
}

#[test]
fn a_closed_port_and_a_removed_address_are_the_kernels() {
    let test = "a_closed_port_and_a_removed_address_are_the_kernels";
    let Some(bench) = opened(test, Options::default()) else { return };
    let ports = bench.program.ports();
    let frame = Frame::new(PEER, OPEN).bytes();
    let any = Frame::new(PEER, "192.0.2.1:30004").bytes();
    ports.close(30_000);
    assert_eq!(bench.run(&frame).event, Some(Event::PassedPort));
    ports.open(30_000, "192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!(bench.run(&frame).event, Some(Event::Redirected));
    bench.program.remove_address("192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!(bench.run(&frame).event, Some(Event::PassedAddress));
    assert_eq!(bench.run(&any).event, Some(Event::PassedAddress));
    // Its number is kept for it while the port is open.
    bench.program.set_address("192.0.2.77".parse().unwrap(), THEIRS).unwrap();
    assert_eq!(bench.run(&frame).event, Some(Event::PassedAddress));
    bench.program.set_address("192.0.2.1".parse().unwrap(), THEIRS).unwrap();
    assert_eq!(bench.run(&frame).event, Some(Event::PassedAddress), "it has another MAC now");
    bench.program.set_address("192.0.2.1".parse().unwrap(), crate::frames::OURS).unwrap();
    assert_eq!(bench.run(&frame).event, Some(Event::Redirected));
    assert_eq!(bench.run(&any).event, Some(Event::Redirected));
}

#[test]
fn a_port_is_opened_once_and_on_an_address_that_is_known() {
    let test = "a_port_is_opened_once_and_on_an_address_that_is_known";
    let Some(bench) = opened(test, Options::default()) else { return };
    let ports = bench.program.ports();
    use xdp::program::PortError;
    assert_eq!(ports.open(30_000, "192.0.2.1".parse().unwrap()), Err(PortError::InUse));
    assert_eq!(ports.open(5060, "192.0.2.1".parse().unwrap()), Err(PortError::InUse));
    assert_eq!(ports.open(0, "192.0.2.1".parse().unwrap()), Err(PortError::InUse));
    assert_eq!(ports.open(1000, "192.0.2.2".parse().unwrap()), Err(PortError::Address));
    assert_eq!(ports.guard(30_000), Err(PortError::InUse));
    ports.open(1000, "::ffff:192.0.2.1".parse().unwrap()).unwrap();
    for number in 0..251_u8 {
        bench.program.set_address([203, 0, 113, number].into(), crate::frames::OURS).unwrap();
    }
    let full = bench.program.set_address("203.0.113.255".parse().unwrap(), crate::frames::OURS);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    bench.program.remove_address("203.0.113.7".parse().unwrap()).unwrap();
    bench.program.set_address("203.0.113.255".parse().unwrap(), crate::frames::OURS).unwrap();
}

#[test]
fn a_port_believes_whom_it_is_connected_to_and_everyone_before_and_after() {
    let test = "a_port_believes_whom_it_is_connected_to_and_everyone_before_and_after";
    let Some(bench) = opened(test, Options::default()) else { return };
    let ports = bench.program.ports();
    let peer = Frame::new(PEER, OPEN).bytes();
    let stranger = Frame::new("203.0.113.5:4000", OPEN).bytes();
    let seen = |expected: [Event; 2]| {
        assert_eq!([&peer, &stranger].map(|frame| bench.run(frame).event), expected.map(Some));
    };
    seen([Event::Redirected, Event::Redirected]);
    ports.connect(30_000, Some(PEER.parse().unwrap()));
    seen([Event::Redirected, Event::DroppedStrangers]);
    ports.connect(30_000, Some("203.0.113.5:4000".parse().unwrap()));
    seen([Event::DroppedStrangers, Event::Redirected]);
    // To an address of the other family: nobody of this one is believed.
    ports.connect(30_000, Some(PEER_V6.parse().unwrap()));
    seen([Event::DroppedStrangers, Event::DroppedStrangers]);
    ports.connect(30_000, Some("[::ffff:198.51.100.7]:4000".parse().unwrap()));
    seen([Event::Redirected, Event::DroppedStrangers]);
    ports.connect(30_000, None);
    seen([Event::Redirected, Event::Redirected]);
    assert_eq!(ports.strangers(30_000), 5);
}

#[test]
fn a_sender_is_limited_until_the_port_is_connected_to_it() {
    let test = "a_sender_is_limited_until_the_port_is_connected_to_it";
    let options = Options { flood_limit: Some(50), ..Options::default() };
    let Some(bench) = opened(test, options) else { return };
    let count =
        |frame: &[u8], event: Event| (0..200).filter(|_| bench.run(frame).event == Some(event)).count();
    // Should the second turn over meanwhile, a sender gets another 50.
    let fine = 50..=150;
    let frame = Frame::new(PEER, OPEN).bytes();
    assert!(fine.contains(&count(&frame, Event::Redirected)));
    assert!(bench.program.counters().unwrap().count(Event::DroppedFloods) >= 50);
    // Others are not harmed; a /64 is one sender.
    assert_eq!(bench.run(&Frame::new("198.51.100.8:4000", OPEN).bytes()).event, Some(Event::Redirected));
    let sip = Frame::new("203.0.113.1:5060", "192.0.2.1:5060").bytes();
    assert!(fine.contains(&count(&sip, Event::PassedGuarded)));
    let host = |number: usize| Frame::new(&format!("[2001:db8:7::{number:x}]:4000"), OPEN_V6).bytes();
    let passed = (0..200).filter(|number| bench.run(&host(*number)).event == Some(Event::Redirected));
    assert!(fine.contains(&passed.count()));
    // The peer of a connected port sends as much as it likes.
    let connected = Frame::new(PEER, "192.0.2.1:30006").bytes();
    assert_eq!(count(&connected, Event::Redirected), 200);
}
