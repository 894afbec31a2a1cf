//! One test body for all devices: what a worker may rely on.

mod inside;
mod kinds;
mod netns;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use xdp::af_xdp::ModeWanted;
use xdp::io_uring::{self, UringDevice};
use xdp::netem::{Conditions, Netem, NetemClock};
use xdp::udp::{Options, UdpDevice};
use xdp::{Device, Full, MAX_DATAGRAM_BYTES, Outgoing, Path, PortIndex};

use inside::open_again;
use kinds::{
    Pair, V4, V6, af_xdp, every_kind, good_netem, kernel_kinds, loopback, meet, sk_lookup_workers, udp,
    unprivileged, uring, urings,
};
use netns::Cable;

fn open(device: &mut dyn Device, ip: IpAddr) -> (PortIndex, SocketAddr) {
    let port = device.open(SocketAddr::new(ip, 0)).expect("a free port");
    (port, device.local_address(port).expect("an open port"))
}

fn queue(device: &mut dyn Device, port: PortIndex, remote: SocketAddr, payload: &[u8]) -> Result<bool, Full> {
    device.transmit(&mut |buffer| {
        assert_eq!(buffer.len(), MAX_DATAGRAM_BYTES);
        buffer[..payload.len()].copy_from_slice(payload);
        Some(Outgoing { path: Path { port, remote }, len: payload.len() })
    })
}

fn send(device: &mut dyn Device, port: PortIndex, remote: SocketAddr, payload: &[u8]) {
    assert_eq!(queue(device, port, remote, payload), Ok(true));
    device.flush();
}

type Heard = (PortIndex, SocketAddr, Vec<u8>);

fn receive(device: &mut dyn Device, budget: usize) -> Vec<Heard> {
    let mut heard = Vec::new();
    let count = device.receive(budget, &mut |datagram| {
        heard.push((datagram.port, datagram.remote, datagram.payload.to_vec()));
        None
    });
    assert!((heard.len()..=budget).contains(&count), "{count} taken, {} heard", heard.len());
    heard
}

/// Receives until `count` have come, or no more come for a while.
fn receive_all(device: &mut dyn Device, count: usize) -> Vec<Heard> {
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(2);
    while heard.len() < count && Instant::now() < deadline {
        device.wait(Duration::from_millis(20));
        heard.extend(receive(device, 64));
    }
    heard.extend(receive_waiting(device));
    heard
}

/// Receives what waits.
fn receive_waiting(device: &mut dyn Device) -> Vec<Heard> {
    let mut heard = Vec::new();
    // Twice nothing: a device may hand out what it had seen before what has come since.
    let mut nothings = 0;
    while nothings < 2 {
        let more = receive(device, 64);
        nothings = if more.is_empty() { nothings + 1 } else { 0 };
        heard.extend(more);
    }
    heard
}

#[test]
fn a_datagram_arrives_with_its_port_and_sender_and_can_be_answered() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (_, _) = open(&mut *far, ip[1]);
        let (port, local) = open(&mut *near, ip[0]);
        let (far_port, far_local) = open(&mut *far, ip[1]);
        send(&mut *near, port, far_local, b"hello");
        assert_eq!(receive_all(&mut *far, 1), [(far_port, local, b"hello".to_vec())], "{kind}");
        send(&mut *far, far_port, local, b"");
        assert_eq!(receive_all(&mut *near, 1), [(port, far_local, Vec::new())], "{kind}");
    }
}

#[test]
fn datagrams_of_a_port_stay_in_order_through_budgets_and_full_queues() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (port, _) = open(&mut *near, ip[0]);
        let (_, remote) = open(&mut *far, ip[1]);
        for number in 0..40u8 {
            assert_eq!(queue(&mut *near, port, remote, &[number]), Ok(true), "{kind}");
        }
        near.flush();
        let mut numbers = Vec::new();
        while numbers.len() < 40 {
            far.wait(Duration::from_secs(2));
            let heard = receive(&mut *far, 7);
            assert!((1..=7).contains(&heard.len()), "{kind}: {} of budget 7", heard.len());
            numbers.extend(heard.into_iter().map(|(_, _, payload)| payload[0]));
        }
        assert_eq!(numbers, (0..40).collect::<Vec<u8>>(), "{kind}");
    }
}

#[test]
fn one_turn_serves_several_ports() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let ports: Vec<_> = (0..5).map(|_| open(&mut *near, ip[0])).collect();
        let (_, remote) = open(&mut *far, ip[1]);
        for round in 0..3 {
            for (port, _) in &ports {
                assert_eq!(queue(&mut *near, *port, remote, &[round]), Ok(true));
            }
        }
        near.flush();
        let heard = receive_all(&mut *far, 15);
        for (_, local) in ports {
            let rounds: Vec<_> =
                heard.iter().filter(|heard| heard.1 == local).map(|heard| heard.2[0]).collect();
            assert_eq!(rounds, [0, 1, 2], "{kind}");
        }
    }
}

#[test]
fn an_address_is_opened_once() {
    for (kind, Pair { mut near, mut far, ip, one_host, .. }) in every_kind() {
        if !one_host {
            continue;
        }
        let (port, local) = open(&mut *near, ip[0]);
        assert_eq!(far.open(local).map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse), "{kind}");
        near.close(port);
        assert_eq!(near.local_address(port), None);
        open_again(&mut *far, local);
    }
}

#[test]
fn a_connected_port_hears_one_address_until_it_is_told_otherwise() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (port, local) = open(&mut *near, ip[0]);
        let (friend, friend_local) = open(&mut *far, ip[1]);
        let (stranger, _) = open(&mut *far, ip[1]);
        near.connect(port, Some(friend_local));
        send(&mut *far, stranger, local, b"stranger");
        send(&mut *far, friend, local, b"friend");
        let payloads = |heard: Vec<Heard>| heard.into_iter().map(|heard| heard.2).collect::<Vec<_>>();
        assert_eq!(payloads(receive_all(&mut *near, 1)), [b"friend"], "{kind}");
        send(&mut *near, port, friend_local, b"answer");
        assert_eq!(receive_all(&mut *far, 1), [(friend, local, b"answer".to_vec())], "{kind}");
        near.connect(port, None);
        send(&mut *far, stranger, local, b"stranger");
        assert_eq!(payloads(receive_all(&mut *near, 1)), [b"stranger"], "{kind}");
        assert_eq!(near.local_address(port), Some(local), "{kind}");
    }
}

#[test]
fn a_datagram_is_sent_on_from_where_it_lies() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (caller, caller_address) = open(near.as_mut(), ip[0]);
        let (inside, inside_address) = open(far.as_mut(), ip[1]);
        let (outside, outside_address) = open(far.as_mut(), ip[1]);
        for n in 0..5 {
            send(near.as_mut(), caller, inside_address, &[n, 1, 2, 3]);
        }
        let until = Instant::now() + Duration::from_secs(2);
        let mut taken = 0;
        while taken < 5 && Instant::now() < until {
            taken += far.receive(3, &mut |datagram| {
                assert_eq!(datagram.port, inside, "{kind}");
                datagram.payload[1] = 9;
                Some(Outgoing { path: Path { port: outside, remote: caller_address }, len: 3 })
            });
            far.flush();
            near.flush();
        }
        let heard = receive_all(near.as_mut(), 5);
        let expected: Vec<Heard> = (0..5).map(|n| (caller, outside_address, vec![n, 9, 2])).collect();
        assert_eq!(heard, expected, "{kind}");
    }
}

#[test]
fn what_a_port_has_queued_leaves_before_it_closes() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (port, local) = open(&mut *near, ip[0]);
        let (far_port, remote) = open(&mut *far, ip[1]);
        assert_eq!(queue(&mut *near, port, remote, b"bye"), Ok(true));
        near.close(port);
        assert_eq!(receive_all(&mut *far, 1).len(), 1, "{kind}");
        // Nobody hears it, and sending to nobody harms nobody.
        send(&mut *far, far_port, local, b"too late");
        assert_eq!(receive(&mut *near, 8), [], "{kind}");
        send(&mut *near, port, remote, b"from a closed port");
        assert_eq!(receive(&mut *far, 8), [], "{kind}");
        assert_eq!(near.counters().transmit_errors.value(), 1, "{kind}");
        near.close(PortIndex(u32::MAX));
        near.connect(PortIndex(u32::MAX), None);
    }
}

#[test]
fn a_closed_remote_port_costs_a_connected_port_nothing_else() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (port, local) = open(&mut *near, ip[0]);
        let (gone, gone_local) = open(&mut *far, ip[1]);
        far.close(gone);
        near.connect(port, Some(gone_local));
        for _ in 0..3 {
            send(&mut *near, port, gone_local, b"anybody there");
            assert_eq!(receive(&mut *near, 8), [], "{kind}");
        }
        let back = open_again(&mut *far, gone_local);
        send(&mut *far, back, local, b"yes");
        assert_eq!(receive_all(&mut *near, 1), [(port, gone_local, b"yes".to_vec())], "{kind}");
        send(&mut *near, port, gone_local, b"good");
        assert_eq!(receive_all(&mut *far, 1).len(), 1, "{kind}");
    }
}

#[test]
fn nothing_to_write_sends_nothing() {
    for (kind, Pair { mut near, .. }) in every_kind() {
        assert_eq!(near.transmit(&mut |_| None), Ok(false), "{kind}");
        near.flush();
        assert_eq!(near.counters().transmitted_datagrams.value(), 0, "{kind}");
    }
}

#[test]
fn waiting_ends_with_a_datagram_with_the_doorbell_or_in_time() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let start = Instant::now();
        near.wait(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30), "{kind}");

        let doorbell = near.doorbell();
        doorbell.ring();
        near.wait(Duration::from_secs(60));
        let ringer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            doorbell.ring();
        });
        near.wait(Duration::from_secs(60));
        ringer.join().expect("no panic");

        let (port, local) = open(&mut *far, ip[1]);
        let (_, remote) = open(&mut *near, ip[0]);
        send(&mut *far, port, remote, b"wake up");
        near.wait(Duration::from_secs(60));
        assert_eq!(receive(&mut *near, 8).len(), 1, "{kind}");
        assert_eq!(near.local_address(PortIndex(9)), None);
        assert_ne!(local, remote);
        assert!(start.elapsed() < Duration::from_secs(50), "{kind}: it slept through");
    }
}

#[test]
fn a_ring_is_not_lost_to_a_receive_before_the_wait() {
    for (kind, Pair { mut near, .. }) in every_kind() {
        let start = Instant::now();
        near.doorbell().ring();
        assert_eq!(receive(&mut *near, 8), []);
        near.wait(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(50), "{kind}: the ring was lost");
    }
}

#[test]
fn everything_moved_is_counted() {
    for (kind, Pair { mut near, mut far, ip, .. }) in every_kind() {
        let (port, _) = open(&mut *near, ip[0]);
        let (_, remote) = open(&mut *far, ip[1]);
        send(&mut *near, port, remote, &[0; 100]);
        send(&mut *near, port, remote, &[0; MAX_DATAGRAM_BYTES]);
        assert_eq!(receive_all(&mut *far, 2).len(), 2, "{kind}");
        let (sent, heard) = (near.counters(), far.counters());
        assert_eq!((sent.transmitted_datagrams.value(), sent.transmitted_bytes.value()), (2, 1600), "{kind}");
        assert_eq!((heard.received_datagrams.value(), heard.received_bytes.value()), (2, 1600), "{kind}");
    }
}

#[test]
fn a_datagram_larger_than_a_buffer_is_dropped_and_counted() {
    for (kind, Pair { mut near, .. }) in kernel_kinds(V4) {
        let (port, local) = open(&mut *near, V4);
        let socket = std::net::UdpSocket::bind((V4, 0)).expect("a socket");
        for len in [MAX_DATAGRAM_BYTES + 1, 9000, 3] {
            socket.send_to(&vec![len as u8; len], local).expect("sent");
        }
        let heard = receive_all(&mut *near, 1);
        assert_eq!(heard, [(port, socket.local_addr().expect("bound"), vec![3; 3])], "{kind}");
        assert_eq!(near.counters().receive_truncated.value(), 2, "{kind}");
        assert_eq!(near.counters().received_datagrams.value(), 3, "{kind}");
    }
}

#[test]
fn a_dual_stack_port_shows_ipv4_as_ipv4() {
    for (kind, Pair { mut near, mut far, .. }) in kernel_kinds(V4) {
        let both = near.open("[::]:0".parse().expect("an address")).expect("a free port");
        let port_number = near.local_address(both).expect("open").port();
        let (v4, v4_local) = open(&mut *far, V4);
        let (v6, v6_local) = open(&mut *far, V6);
        for (port, local, ip) in [(v4, v4_local, V4), (v6, v6_local, V6)] {
            send(&mut *far, port, SocketAddr::new(ip, port_number), b"ping");
            assert_eq!(receive_all(&mut *near, 1), [(both, local, b"ping".to_vec())], "{kind}");
            near.connect(both, Some(local));
            send(&mut *near, both, local, b"pong");
            assert_eq!(receive_all(&mut *far, 1).len(), 1, "{kind}");
            near.connect(both, None);
        }
    }
}

#[test]
fn no_more_ports_are_opened_than_agreed() {
    let udp = UdpDevice::new(&Options { ports: 2, ..Options::default() }).expect("descriptors");
    let mut kinds: Vec<Box<dyn Device>> = vec![Box::new(udp)];
    match UringDevice::new(&io_uring::Options { ports: 2, ..io_uring::Options::default() }) {
        Ok(device) => kinds.push(Box::new(device)),
        Err(reason) => netns::skip("io_uring", &reason.to_string()),
    }
    for mut device in kinds {
        let (first, _) = open(&mut *device, V4);
        open(&mut *device, V4);
        let refused = device.open(SocketAddr::new(V4, 0)).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::QuotaExceeded), "{}", device.name());
        device.close(first);
        assert_eq!(open(&mut *device, V4).0, first, "{}", device.name());
    }
}

/// Far more has come than there are buffers: the rest waits in its sockets.
#[test]
fn what_has_no_buffer_yet_is_not_lost() {
    for (kind, Pair { mut near, mut far, ip, .. }) in kernel_kinds(V4) {
        let ports: Vec<_> = (0..10).map(|_| open(&mut *far, ip[1])).collect();
        let (from, _) = open(&mut *near, ip[0]);
        for number in 0..20u8 {
            for (_, remote) in &ports {
                assert_eq!(queue(&mut *near, from, *remote, &[number]), Ok(true));
            }
        }
        near.flush();
        let heard = receive_all(&mut *far, 200);
        for (port, _) in ports {
            let numbers: Vec<u8> =
                heard.iter().filter(|heard| heard.0 == port).map(|heard| heard.2[0]).collect();
            assert_eq!(numbers, (0..20).collect::<Vec<u8>>(), "{kind}");
        }
    }
}

#[test]
fn a_device_works_on_another_thread_than_its_makers_and_its_end_frees_its_ports() {
    for (kind, Pair { mut near, mut far, ip, .. }) in unprivileged().into_iter().chain(urings()) {
        let (port, remote) = open(&mut *far, ip[1]);
        let local = std::thread::spawn(move || {
            let (port, local) = open(&mut *near, ip[0]);
            send(&mut *near, port, remote, b"hello");
            near.wait(Duration::from_millis(1));
            local
        });
        let local = local.join().expect("no panic");
        assert_eq!(receive_all(&mut *far, 1), [(port, local, b"hello".to_vec())], "{kind}");
        open_again(&mut *far, local);
    }
}

#[test]
fn netem_repeats_itself_with_the_same_seed_only() {
    let run = |seed| {
        let Pair { mut near, far, ip, .. } = loopback(V4);
        let conditions = Conditions {
            loss: 0.2,
            duplication: 0.1,
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(30),
        };
        let nanos = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let clock = NetemClock::Virtual(std::sync::Arc::clone(&nanos));
        let mut far = Netem::new(far, conditions, Conditions::default(), seed, clock);
        let (port, _) = open(&mut *near, ip[0]);
        let (_, remote) = open(&mut far, ip[1]);
        let mut heard = Vec::new();
        for number in 0..200u64 {
            send(&mut *near, port, remote, &number.to_be_bytes());
            nanos.store(number * 1_000_000, std::sync::atomic::Ordering::Release);
            heard.extend(receive(&mut far, 64).into_iter().map(|heard| heard.2));
        }
        nanos.store(10_000_000_000, std::sync::atomic::Ordering::Release);
        heard.extend(receive(&mut far, 4096).into_iter().map(|heard| heard.2));
        heard
    };
    let heard = run(7);
    assert_eq!(heard, run(7));
    assert_ne!(heard, run(8));
    let mut sorted = heard.clone();
    sorted.sort();
    assert_ne!(heard, sorted, "jitter reorders");
    let received = sorted.len();
    sorted.dedup();
    assert!(sorted.len() < received, "some came twice");
    assert!((130..190).contains(&sorted.len()), "{} of 200 came", sorted.len());
}

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, to: usize, payload: Vec<u8> },
    Flush,
    Connect { port: usize, remote: Option<usize> },
    Reopen { port: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        6 => (0..4usize, 0..4usize, payload).prop_map(|(from, to, payload)| Step::Send { from, to, payload }),
        2 => Just(Step::Flush),
        1 => (0..4usize, prop::option::of(0..4usize)).prop_map(|(port, remote)| Step::Connect { port, remote }),
        1 => (0..4usize).prop_map(|port| Step::Reopen { port }),
    ]
}

/// Plays a trace over four ports, two per device; returns what each port heard, by sender.
fn play(pair: Pair, steps: &[Step]) -> Vec<Vec<(usize, Vec<u8>)>> {
    let Pair { near, far, ip, .. } = pair;
    let mut devices = [near, far];
    let mut ports: Vec<_> = (0..4).map(|index| open(&mut *devices[index % 2], ip[index % 2])).collect();
    let mut heard = vec![Vec::new(); 4];
    // Each port's traffic is read after each step, so that closing loses the same everywhere.
    let mut collect = |devices: &mut [Box<dyn Device>; 2], ports: &[(PortIndex, SocketAddr)]| {
        for (index, device) in devices.iter_mut().enumerate() {
            for (port, remote, payload) in receive_waiting(&mut **device) {
                let to = (0..4).find(|to| to % 2 == index && ports[*to].0 == port).expect("a known port");
                let from = (0..4).find(|from| ports[*from].1 == remote).expect("a known sender");
                heard[to].push((from, payload));
            }
        }
    };
    for step in steps {
        match step {
            Step::Send { from, to, payload } => {
                let remote = ports[*to].1;
                assert_eq!(queue(&mut *devices[from % 2], ports[*from].0, remote, payload), Ok(true));
            }
            Step::Flush => devices.iter_mut().for_each(|device| device.flush()),
            Step::Connect { port, remote } => {
                // A queue is sent by the connection of its flush.
                devices.iter_mut().for_each(|device| device.flush());
                collect(&mut devices, &ports);
                devices[port % 2].connect(ports[*port].0, remote.map(|remote| ports[remote].1));
            }
            Step::Reopen { port } => {
                devices.iter_mut().for_each(|device| device.flush());
                collect(&mut devices, &ports);
                devices[port % 2].close(ports[*port].0);
                ports[*port].0 = open_again(&mut *devices[port % 2], ports[*port].1);
            }
        }
        collect(&mut devices, &ports);
    }
    devices.iter_mut().for_each(|device| device.flush());
    collect(&mut devices, &ports);
    heard.iter_mut().for_each(|heard| heard.sort_by_key(|(from, _)| *from));
    heard
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn all_devices_do_the_same(steps in prop::collection::vec(step(), 1..60)) {
        let expected = play(loopback(V4), &steps);
        prop_assert_eq!(&play(loopback(V6), &steps), &expected);
        prop_assert_eq!(&play(good_netem(V4), &steps), &expected);
        prop_assert_eq!(&play(udp(V4), &steps), &expected);
        prop_assert_eq!(&play(udp(V6), &steps), &expected);
        for ip in [V4, V6] {
            if let Some(pair) = uring(ip) {
                prop_assert_eq!(&play(pair, &steps), &expected);
            }
        }
    }
}

proptest! {
    // Hosts take long to make.
    #![proptest_config(ProptestConfig { cases: 1, ..ProptestConfig::default() })]
    #[test]
    fn sk_lookup_does_the_same(runs in prop::collection::vec(prop::collection::vec(step(), 1..60), 6)) {
        let cable = Cable::or_skip("sk_lookup_does_the_same", netns::Options::default());
        let Some(cable) = cable.inspect(meet).map(Rc::new) else { return Ok(()) };
        for (steps, ip) in runs.iter().zip([V4, V6].into_iter().cycle()) {
            prop_assert_eq!(&play(sk_lookup_workers(&cable, ip), steps), &play(loopback(V4), steps));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, ..ProptestConfig::default() })]
    #[test]
    fn af_xdp_does_the_same(runs in prop::collection::vec(prop::collection::vec(step(), 1..60), 4)) {
        let cable = Cable::or_skip("af_xdp_does_the_same", netns::Options::default());
        let Some(cable) = cable.inspect(meet).map(Rc::new) else { return Ok(()) };
        let kinds = [ModeWanted::Native, ModeWanted::Generic].into_iter().flat_map(|mode| [(mode, false), (mode, true)]);
        for (steps, (mode, ipv6)) in runs.iter().zip(kinds) {
            prop_assert_eq!(&play(af_xdp(&cable, mode, ipv6), steps), &play(loopback(V4), steps));
        }
    }
}
