use std::net::UdpSocket;
use std::time::Instant;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;
use crate::Path;
use crate::netns::{self, Cable, Host};

fn device(options: &Options) -> SkLookupDevice {
    open(options, 1).expect("root may").pop().expect("one worker, one device")
}

fn bind(host: &Host, ipv6: bool) -> UdpSocket {
    let socket = UdpSocket::bind((host.ip(ipv6), 0)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

/// Receives until something comes, for two seconds at most.
fn hear(device: &mut SkLookupDevice) -> Option<(PortIndex, Vec<u8>)> {
    let end = Instant::now() + Duration::from_secs(2);
    let mut heard = None;
    while heard.is_none() && Instant::now() < end {
        device.wait(Duration::from_millis(20));
        device.receive(1, &mut |datagram| {
            heard = Some((datagram.port, datagram.payload.to_vec()));
            None
        });
    }
    heard
}

fn local(device: &SkLookupDevice, port: PortIndex) -> SocketAddr {
    device.local_address(port).expect("an open port")
}

#[test]
fn without_its_program_a_device_goes_on_through_the_ports_own_sockets() {
    let test = "without_its_program_a_device_goes_on_through_the_ports_own_sockets";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| {
        for ipv6 in [false, true] {
            let mut device = device(&Options::default());
            let port = device.open(SocketAddr::new(cable.near.ip(ipv6), 0)).expect("a free port");
            let peer = cable.far.run(|| bind(&cable.far, ipv6));
            peer.send_to(b"first", local(&device, port)).expect("sent");
            assert_eq!(hear(&mut device), Some((port, b"first".to_vec())));
            assert_eq!(device.counters.receive_fallback.value(), 0);

            // The one that knew the ports goes with the last who had it.
            let sockets = device.families.each_ref().map(|_| None);
            let ignorant = LookupTable::load(sockets).expect("root may");
            let table = std::mem::replace(&mut device.table, Arc::new(ignorant));
            assert_eq!(Arc::strong_count(&table), 1);
            drop(table);
            // The kernel takes the program away soon after its last owner is gone.
            let end = Instant::now() + Duration::from_secs(5);
            while device.counters.receive_fallback.value() == 0 {
                assert!(Instant::now() < end, "the program is still there");
                peer.send_to(b"second", local(&device, port)).expect("sent");
                assert_eq!(hear(&mut device), Some((port, b"second".to_vec())));
            }
            peer.send_to(b"third", local(&device, port)).expect("sent");
            assert_eq!(hear(&mut device), Some((port, b"third".to_vec())));
            assert_eq!(device.counters.receive_fallback.value(), 2);
            let remote = peer.local_addr().expect("bound");
            let path = Path { port, remote };
            assert_eq!(device.transmit(&mut |_| Some(Outgoing { path, len: 7 })), Ok(true));
            device.flush();
            assert_eq!(peer.recv_from(&mut [0; 16]).expect("heard"), (7, local(&device, port)));
        }
    });
}

#[test]
fn strangers_are_dropped_by_the_program_and_counted() {
    let test = "strangers_are_dropped_by_the_program_and_counted";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| {
        let mut device = device(&Options::default());
        for ipv6 in [false, true] {
            let port = device.open(SocketAddr::new(cable.near.ip(ipv6), 0)).expect("a free port");
            let [friend, stranger] = [0; 2].map(|_| cable.far.run(|| bind(&cable.far, ipv6)));
            device.connect(port, Some(friend.local_addr().expect("bound")));
            let before = device.counters.receive_strangers.value();
            for _ in 0..3 {
                stranger.send_to(b"stranger", local(&device, port)).expect("sent");
            }
            friend.send_to(b"friend", local(&device, port)).expect("sent");
            assert_eq!(hear(&mut device), Some((port, b"friend".to_vec())));
            assert_eq!(device.table.strangers(local(&device, port).port()), 3);
            for _ in 0..4 {
                device.receive(8, &mut |_| panic!("there is nothing more"));
            }
            assert_eq!(device.counters.receive_strangers.value() - before, 3);
            device.close(port);
        }
    });
}

#[test]
fn what_the_shared_socket_has_no_room_for_is_counted() {
    let test = "what_the_shared_socket_has_no_room_for_is_counted";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| {
        let mut device = device(&Options { receive_buffer_bytes: 16 * 1024, ..Options::default() });
        let port = device.open(SocketAddr::new(cable.near.ip(false), 0)).expect("a free port");
        let peer = bind(&cable.near, false);
        for _ in 0..200 {
            peer.send_to(&[0; 200], local(&device, port)).expect("sent");
        }
        let heard = device.receive(1000, &mut |_| None);
        peer.send_to(b"after", local(&device, port)).expect("sent");
        assert_eq!(hear(&mut device), Some((port, b"after".to_vec())));
        assert!(heard < 200, "{heard} of 200 heard");
        assert_eq!(device.counters.receive_overflows.value(), 200 - heard as u64);
    });
}

#[test]
fn two_processes_leave_each_others_ports_alone() {
    let test = "two_processes_leave_each_others_ports_alone";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| {
        let mut devices = [device(&Options::default()), device(&Options::default())];
        let ip = cable.near.ip(false);
        let ports = devices.each_mut().map(|device| device.open(SocketAddr::new(ip, 0)).expect("free"));
        let taken = local(&devices[1], ports[1]);
        let refused = devices[0].open(taken).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::AddrInUse));
        let peer = cable.far.run(|| bind(&cable.far, false));
        for (device, port) in devices.iter_mut().zip(ports) {
            peer.send_to(b"yours", local(device, port)).expect("sent");
            assert_eq!(hear(device), Some((port, b"yours".to_vec())));
            assert_eq!(device.counters.received_datagrams.value(), 1);
            assert_eq!(device.counters.receive_fallback.value(), 0);
        }
    });
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    if !rustix::process::geteuid().is_root() {
        let refused = open(&Options::default(), 1).map(drop).expect_err("not root").to_string();
        assert!(refused.contains("CAP_"), "{refused}");
        return;
    }
    // Capabilities are a thread's.
    let refused_with = |kept: CapabilitySet| {
        let thread = std::thread::spawn(move || {
            let mut sets = capabilities(None).expect("ours");
            (sets.effective, sets.permitted) = (kept, kept);
            set_capabilities(None, sets).expect("fewer are always allowed");
            open(&Options::default(), 1).map(drop).expect_err("not allowed").to_string()
        });
        thread.join().expect("no panic")
    };
    let refused = refused_with(CapabilitySet::empty());
    assert!(refused.contains("CAP_NET_RAW"), "{refused}");
    let refused = refused_with(CapabilitySet::NET_RAW);
    assert!(refused.contains("CAP_BPF"), "{refused}");
}

#[test]
fn it_needs_no_leave_to_look_at_the_kernels_memory() {
    let test = "it_needs_no_leave_to_look_at_the_kernels_memory";
    if let Err(error) = crate::bpf::probe() {
        netns::skip(test, &error.to_string());
        return;
    }
    let opened = std::thread::spawn(|| {
        let mut sets = capabilities(None).expect("ours");
        let kept = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
        (sets.effective, sets.permitted) = (kept, kept);
        set_capabilities(None, sets).expect("fewer are always allowed");
        open(&Options::default(), 1).map(drop).map_err(|error| error.to_string())
    });
    assert_eq!(opened.join().expect("no panic"), Ok(()), "without CAP_PERFMON");
}
