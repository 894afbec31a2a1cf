//! The sk_lookup program, by test runs and with sockets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use xdp::bpf::ProgramKind;
use xdp::program::LookupTable;

mod netns;
mod object;

/// A `struct bpf_sk_lookup`.
fn context(protocol: u8, remote: &str, local: &str) -> Vec<u8> {
    let [remote, local]: [SocketAddr; 2] = [remote, local].map(|address| address.parse().unwrap());
    let mut context = vec![0; 8];
    context.extend(u32::from(if local.is_ipv6() { 10_u8 } else { 2 }).to_ne_bytes());
    context.extend(u32::from(protocol).to_ne_bytes());
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => [&ip.octets()[..], &[0; 16]].concat(),
        IpAddr::V6(ip) => [&[0; 4][..], &ip.octets()].concat(),
    };
    context.extend(address(remote.ip()));
    context.extend(remote.port().to_be_bytes());
    context.extend([0, 0]);
    context.extend(address(local.ip()));
    context.extend(u32::from(local.port()).to_ne_bytes());
    context
}

fn receiver(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

fn both(sockets: &[UdpSocket]) -> impl Iterator<Item = Option<BorrowedFd<'_>>> {
    sockets.iter().map(|socket| Some(socket.as_fd()))
}

/// Runs `work` on a host of its own, or says that the test is skipped.
fn on_a_host(test: &str, work: impl FnOnce(&netns::Cable) + Send) {
    if let Err(error) = xdp::bpf::probe() {
        netns::skip(test, &error.to_string());
        return;
    }
    let Some(cable) = netns::Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| work(&cable));
}

#[test]
fn only_what_is_for_an_open_port_gets_a_socket() {
    on_a_host("only_what_is_for_an_open_port_gets_a_socket", |_| {
        let sockets = [receiver("127.0.0.1:0"), receiver("[::1]:0")];
        let table = LookupTable::load(both(&sockets)).unwrap();
        let open = |local: &str| table.open(local.parse().unwrap(), 0);
        assert!(open("192.0.2.1:30000") && open("[2001:db8::1]:30002"));
        assert!(open("[::]:30004") && open("0.0.0.0:30006") && open("[::ffff:192.0.2.1]:30008"));
        assert!(!open("192.0.2.2:30000") && !open("192.0.2.1:0"));
        let (v4, v6) = ("198.51.100.7:4000", "[2001:db8:7::7]:4000");
        let (chosen, usual, dropped) = ((1, true), (1, false), (0, false));
        // The C text of the program, on the same tables.
        let golden = object::load("sk_lookup", ProgramKind::SocketLookup, &[], &table.maps());
        if let Err(reason) = &golden {
            netns::skip("the C text of sk_lookup", reason);
        }
        let check = |name: &str, protocol: u8, remote: &str, local: &str, expected: (u32, bool)| {
            let context = context(protocol, remote, local);
            assert_eq!(table.test(&context).unwrap(), expected, "{name}");
            if let Ok(golden) = &golden {
                assert_eq!(golden.test_lookup(&context).unwrap(), expected, "{name}, in C");
            }
        };
        check("an open port", 17, v4, "192.0.2.1:30000", chosen);
        check("an open port, IPv6", 17, v6, "[2001:db8::1]:30002", chosen);
        check("any address", 17, v4, "192.0.2.9:30004", chosen);
        check("any address, IPv6", 17, v6, "[2001:db8::9]:30004", chosen);
        check("any address of IPv4", 17, v4, "192.0.2.9:30006", chosen);
        check("any address, but of IPv4", 17, v6, "[2001:db8::9]:30006", usual);
        check("IPv4 written as IPv6", 17, v4, "192.0.2.1:30008", chosen);
        check("TCP", 6, v4, "192.0.2.1:30000", usual);
        check("another port", 17, v4, "192.0.2.1:30001", usual);
        check("another address", 17, v4, "192.0.2.2:30000", usual);
        check("another address, IPv6", 17, v6, "[2001:db8::2]:30002", usual);
        check("the other family", 17, v6, "[2001:db8::1]:30000", usual);
        check("the other family, IPv4", 17, v4, "192.0.2.1:30002", usual);

        table.connect(30_000, Some(v4.parse().unwrap()));
        table.connect(30_002, Some(v6.parse().unwrap()));
        table.connect(30_001, Some(v6.parse().unwrap()));
        check("the peer", 17, v4, "192.0.2.1:30000", chosen);
        check("the peer, IPv6", 17, v6, "[2001:db8::1]:30002", chosen);
        check("another port of the peer", 17, "198.51.100.7:4001", "192.0.2.1:30000", dropped);
        check("a stranger", 17, "198.51.100.8:4000", "192.0.2.1:30000", dropped);
        check("a stranger, IPv6", 17, "[2001:db8:7::8]:4000", "[2001:db8::1]:30002", dropped);
        check("not open", 17, v4, "192.0.2.1:30001", usual);
        let programs = if golden.is_ok() { 2 } else { 1 };
        let strangers = [30_000, 30_002, 30_001].map(|port| table.strangers(port) / programs);
        assert_eq!(strangers, [2, 1, 0]);
        table.connect(30_000, None);
        check("anyone again", 17, "198.51.100.8:4000", "192.0.2.1:30000", chosen);
        table.close(30_000);
        check("closed", 17, v4, "192.0.2.1:30000", usual);
        assert!(table.open("192.0.2.2:30000".parse().unwrap(), 7));
        check("a worker without a socket", 17, v4, "192.0.2.2:30000", usual);
    });
}

#[test]
fn datagrams_reach_the_worker_that_owns_their_port() {
    on_a_host("datagrams_reach_the_worker_that_owns_their_port", |cable| {
        let sockets =
            [receiver("127.0.0.1:0"), receiver("[::1]:0"), receiver("127.0.0.1:0"), receiver("[::1]:0")];
        let table = LookupTable::load(both(&sockets)).unwrap();
        let heard = |socket: &UdpSocket| {
            let mut buffer = [0; 64];
            socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())
        };
        for ipv6 in [false, true] {
            let near = cable.near.ip(ipv6);
            table.open((near, 30_000).into(), 0);
            table.open((near, 30_002).into(), 1);
            // What is not ours is left to its socket.
            let other = UdpSocket::bind((near, 30_001)).unwrap();
            other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let sender = cable.far.run(|| UdpSocket::bind((cable.far.ip(ipv6), 4000)).unwrap());
            for port in [30_000_u16, 30_002, 30_001] {
                sender.send_to(&port.to_be_bytes(), (near, port)).unwrap();
            }
            assert_eq!(heard(&other).unwrap(), 30_001_u16.to_be_bytes());
            assert_eq!(heard(&sockets[usize::from(ipv6)]).unwrap(), 30_000_u16.to_be_bytes());
            assert_eq!(heard(&sockets[2 + usize::from(ipv6)]).unwrap(), 30_002_u16.to_be_bytes());

            // A stranger is dropped, and nobody tells him that a port is there or not.
            table.connect(30_000, Some((cable.far.ip(ipv6), 4001).into()));
            sender.send_to(b"stranger", (near, 30_000)).unwrap();
            assert_eq!(heard(&sockets[usize::from(ipv6)]), None);
            assert_eq!(table.strangers(30_000), if ipv6 { 2 } else { 1 });
            table.close(30_000);
            table.close(30_002);
        }
    });
}

#[test]
fn processes_in_one_namespace_leave_each_others_ports_alone() {
    on_a_host("processes_in_one_namespace_leave_each_others_ports_alone", |cable| {
        let near = cable.near.ip(false);
        let [ours, theirs] = [(); 2].map(|()| [receiver("127.0.0.1:0"), receiver("[::1]:0")]);
        let first = LookupTable::load(both(&ours)).unwrap();
        let second = LookupTable::load(both(&theirs)).unwrap();
        first.open((near, 30_000).into(), 0);
        second.open((near, 30_002).into(), 0);
        let sender = cable.far.run(|| UdpSocket::bind((cable.far.ip(false), 4000)).unwrap());
        let say = |port: u16| sender.send_to(&port.to_be_bytes(), (near, port)).map(drop).unwrap();
        let hears = |socket: &UdpSocket, port: u16| {
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).unwrap_or(0);
            buffer[..len] == port.to_be_bytes()
        };
        say(30_000);
        say(30_002);
        assert!(hears(&ours[0], 30_000) && hears(&theirs[0], 30_002));
        // One of them ends.
        drop(first);
        let bound = UdpSocket::bind((near, 30_000)).unwrap();
        bound.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        say(30_000);
        say(30_002);
        assert!(hears(&bound, 30_000) && hears(&theirs[0], 30_002));
    });
}
