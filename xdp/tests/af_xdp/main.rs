//! The AF_XDP device on a cable: what hostile frames, wrong queues, lost interfaces and missing rights do to it.

#[allow(dead_code, reason = "the program's tests use more of it")]
#[path = "../xdp_program/frames.rs"]
mod frames;
#[path = "../inside/mod.rs"]
mod inside;
#[path = "../netns/mod.rs"]
mod netns;

mod flows;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use frames::{Checksum, Frame};
use inside::Inside;
use netns::{Cable, Host};
use xdp::af_xdp::{AfXdpDevice, ModeWanted, Queues, ZeroCopy};
use xdp::bpf::{Assembler, Ingress, Link, Mode, Program, ProgramKind, Register, Verdict};
use xdp::{Device, Outgoing, Path, PortIndex};

/// Puts whole frames on the cable from the far end.
struct Wire {
    program: Program,
    ingress: Ingress,
    _own: Link,
}

impl Wire {
    fn new(cable: &Cable) -> Self {
        // What is transmitted into a veth is taken only with a program at its own end and, in generic mode of the other,
        // with GRO there.
        cable.near.ethtool(&["-K", &cable.near.interface, "gro", "on"]).expect("ethtool");
        let program = |verdict: Verdict| {
            let mut code = Assembler::new();
            code.mov(Register::R0, verdict as i32).exit();
            Program::load("wire", ProgramKind::Xdp, &code.build().expect("right"))
                .expect("the machine has XDP")
        };
        cable.far.run(|| {
            let own = program(Verdict::Pass)
                .attach(cable.far.index(), Mode::Native)
                .expect("a veth has native mode");
            let ingress = Ingress { interface: cable.far.index(), queue: 0 };
            Self { program: program(Verdict::Transmit), ingress, _own: own }
        })
    }

    fn send(&self, cable: &Cable, frame: &[u8], count: u32) {
        cable.far.run(|| {
            let mut left = count;
            while left > 0 {
                // A signal ends a run of several batches early.
                let batch = left.min(LARGEST_BATCH);
                self.program.run_live(frame, self.ingress, batch, batch).expect("sent");
                left -= batch;
            }
        });
    }
}

/// A frame from the far host to a port of the near one.
fn frame(cable: &Cable, ipv6: bool, port: u16, payload: &[u8]) -> Frame {
    let source = SocketAddr::new(cable.far.ip(ipv6), 5000).to_string();
    let destination = SocketAddr::new(cable.near.ip(ipv6), port).to_string();
    Frame::new(&source, &destination).with(|frame| {
        frame.macs = [cable.near.mac, cable.far.mac];
        frame.payload = payload.to_vec();
    })
}

fn open(device: &mut dyn Device, local: SocketAddr) -> (PortIndex, SocketAddr) {
    let port = device.open(local).expect("a free port");
    (port, device.local_address(port).expect("open"))
}

fn send(device: &mut dyn Device, path: Path, payload: &[u8]) {
    let sent = device.transmit(&mut |buffer| {
        buffer[..payload.len()].copy_from_slice(payload);
        Some(Outgoing { path, len: payload.len() })
    });
    assert_eq!(sent, Ok(true));
    device.flush();
}

type Heard = (PortIndex, SocketAddr, Vec<u8>);

/// What comes until `count` have, or for a while.
fn receive(device: &mut dyn Device, count: usize) -> Vec<Heard> {
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(3);
    while heard.len() < count && Instant::now() < deadline {
        device.wait(Duration::from_millis(20));
        device.receive(64, &mut |datagram| {
            heard.push((datagram.port, datagram.remote, datagram.payload.to_vec()));
            None
        });
    }
    heard
}

/// What the kernel sends in one batch.
const LARGEST_BATCH: u32 = 256;
const MODES: [ModeWanted; 2] = [ModeWanted::Native, ModeWanted::Generic];

#[test]
fn hostile_frames_reach_no_stream_and_harm_nobody() {
    let test = "hostile_frames_reach_no_stream_and_harm_nobody";
    for (mode, ipv6) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
        inside::introduce(&cable, ipv6);
        let wire = Wire::new(&cable);
        let mut near = inside::one(&cable.near, mode);
        let (_, local) = open(&mut near, SocketAddr::new(cable.near.ip(ipv6), 6000));
        let good = frame(&cable, ipv6, local.port(), b"good");
        wire.send(&cable, &good.bytes(), 1);
        assert_eq!(receive(&mut near, 1).len(), 1, "{mode:?} IPv6 {ipv6}: the wire works");

        // Each says what it is.
        let odd = |what: &'static str, change: &dyn Fn(&mut Frame)| {
            (what, frame(&cable, ipv6, local.port(), what.as_bytes()).with(|frame| change(frame)).bytes())
        };
        let mut evil: Vec<(&str, Vec<u8>)> = vec![
            odd("wrong MAC", &|frame| frame.macs[0] = [2, 9, 9, 9, 9, 9]),
            odd("two tags", &|frame| frame.tags = vec![(0x88a8, 5), (0x8100, 6)]),
            odd("lengths beyond the frame", &|frame| frame.wrong_lengths = [300, 300]),
            odd("UDP longer than IP", &|frame| frame.wrong_lengths = [0, 20]),
            odd("UDP shorter than its header", &|frame| {
                frame.wrong_lengths = [0, -4 - frame.payload.len() as i16]
            }),
            odd("not UDP", &|frame| frame.protocol = 47),
            odd("another port", &|frame| frame.destination.set_port(frame.destination.port() + 1)),
        ];
        // To answer these would be to talk with ourselves, or with everybody.
        let group = if ipv6 { "ff02::1" } else { "224.0.0.1" }.parse().expect("an address");
        for (what, source) in [("from ourselves", local.ip()), ("from a group", group)] {
            evil.push(odd(what, &|frame| frame.source.set_ip(source)));
        }
        let mut wrong = odd("wrong checksum", &|_| ());
        *wrong.1.last_mut().expect("not empty") ^= 0x55;
        evil.push(wrong);
        if ipv6 {
            evil.push(odd("no checksum", &|frame| frame.checksum = Checksum::Absent));
            // A hop-by-hop header in front of UDP.
            let (what, mut chain) = odd("extension header", &|_| ());
            let next = std::mem::replace(&mut chain[20], 0);
            chain.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
            let len = u16::from_be_bytes([chain[18], chain[19]]) + 8;
            chain[18..20].copy_from_slice(&len.to_be_bytes());
            evil.push((what, chain));
        } else {
            evil.push(odd("IP options", &|frame| frame.options = vec![1; 4]));
            evil.push(odd("first fragment", &|frame| frame.fragment = 0x2000));
            evil.push(odd("later fragment", &|frame| frame.fragment = 0x0010));
        }
        let good_bytes = good.bytes();
        for len in [14, 20, 34, 41] {
            evil.push(("cut short", good_bytes[..len].to_vec()));
        }
        let mut arp = [&cable.near.mac[..], &cable.far.mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        arp.resize(60, 0x42);
        evil.push(("ARP", arp));
        let mut icmp = good_bytes.clone();
        icmp[if ipv6 { 20 } else { 23 }] = if ipv6 { 58 } else { 1 };
        evil.push(("fake ICMP", icmp));

        let mut heard = Vec::new();
        for (what, bytes) in &evil {
            wire.send(&cable, bytes, 70);
            wire.send(&cable, &good_bytes, 1);
            let deadline = Instant::now() + Duration::from_secs(3);
            while !heard.iter().any(|heard: &Heard| heard.2 == b"good") {
                assert!(
                    Instant::now() < deadline,
                    "{mode:?} IPv6 {ipv6}: the good one behind {what} is lost"
                );
                heard.extend(receive(&mut near, 1));
            }
            heard.retain(|heard| heard.2 != b"good");
        }
        // Whole for the kernel, which takes them for its socket; not from the rings.
        let whole: &[u8] = if ipv6 { b"extension header" } else { b"IP options" };
        heard.retain(|heard| heard.2 != whole);
        assert_eq!(heard, [], "{mode:?} IPv6 {ipv6}");
        assert!(near.counters().receive_checksum_errors.value() >= 70, "{mode:?} IPv6 {ipv6}");
        assert!(near.name().starts_with("af_xdp ") && !near.name().contains("now"), "{}", near.name());
        kernel_still_works(&cable, ipv6);
    }
}

/// TCP and another UDP port of the near host.
fn kernel_still_works(cable: &Cable, ipv6: bool) {
    let address = SocketAddr::new(cable.near.ip(ipv6), 7000);
    let listener = cable.near.run(|| TcpListener::bind(address).expect("free"));
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).expect("five bytes");
        stream.write_all(&bytes).expect("written");
    });
    let mut stream = cable.far.run(|| TcpStream::connect(address).expect("TCP works"));
    stream.write_all(b"hello").expect("written");
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).expect("TCP answers");
    echo.join().expect("no panic");
    inside::introduce(cable, ipv6);
}

#[test]
fn datagrams_on_the_wrong_queue_come_to_their_worker_whole_and_in_order() {
    let test = "datagrams_on_the_wrong_queue_come_to_their_worker_whole_and_in_order";
    let Some(cable) = Cable::or_skip(test, netns::Options { queues: 2, ..netns::Options::default() }) else {
        return;
    };
    inside::introduce(&cable, false);
    let mut devices =
        inside::af_xdp(&cable.near, 2, |options| options.mode = ModeWanted::Native).expect("opened");
    assert_eq!(devices[0].device.taken().queues, [0, 1]);
    let ports: Vec<_> =
        devices.iter_mut().map(|device| open(device, SocketAddr::new(cable.near.ipv4.into(), 0))).collect();
    // Many flows, so that both queues get some for each worker.
    let flows = 8;
    let senders: Vec<UdpSocket> = cable
        .far
        .run(|| (0..flows).map(|_| UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket")).collect());
    let rounds = 60u8;
    let mut heard: Vec<Vec<Heard>> = vec![Vec::new(); 2];
    for round in 0..rounds {
        for sender in &senders {
            for (_, local) in &ports {
                sender.send_to(&[round; 50], local).expect("sent");
            }
        }
        for (device, heard) in devices.iter_mut().zip(&mut heard) {
            device.receive(64, &mut |datagram| {
                heard.push((datagram.port, datagram.remote, datagram.payload.to_vec()));
                None
            });
        }
    }
    for _ in 0..10 {
        for (device, heard) in devices.iter_mut().zip(&mut heard) {
            heard.extend(receive_now(device));
        }
    }
    for (heard, (port, _)) in heard.iter().zip(&ports) {
        assert_eq!(heard.len(), flows * usize::from(rounds), "nothing is lost");
        for sender in &senders {
            let from = sender.local_addr().expect("bound");
            let of_flow: Vec<u8> =
                heard.iter().filter(|heard| heard.1 == from).map(|heard| heard.2[49]).collect();
            assert_eq!(of_flow, (0..rounds).collect::<Vec<_>>(), "in order");
        }
        assert!(heard.iter().all(|heard| heard.0 == *port));
    }
    let handed: u64 = devices.iter().map(|device| device.counters().handed_over.value()).sum();
    assert!(handed > 0, "none landed on the wrong queue");
    assert!(devices.iter().all(|device| device.counters().handover_full.value() == 0));
}

#[test]
fn a_flood_on_one_queue_does_not_starve_the_other() {
    let test = "a_flood_on_one_queue_does_not_starve_the_other";
    let Some(cable) = Cable::or_skip(test, netns::Options { queues: 2, ..netns::Options::default() }) else {
        return;
    };
    inside::introduce(&cable, false);
    let mut near = inside::af_xdp(&cable.near, 1, |_| ()).expect("opened").remove(0);
    assert_eq!(near.device.taken().queues, [0, 1]);
    let (_, local) = open(&mut near, SocketAddr::new(cable.near.ipv4.into(), 0));
    // Many flows, so that both queues get some.
    let senders: Vec<UdpSocket> =
        cable.far.run(|| (0..16).map(|_| UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket")).collect());
    for _ in 0..20 {
        senders.iter().for_each(|sender| assert_eq!(sender.send_to(b"flood", local).expect("sent"), 5));
    }
    // Each turn is for one queue then, and shows all flows of it.
    let mut turn = || {
        let mut heard = Vec::new();
        near.receive(16, &mut |datagram| {
            heard.push(datagram.remote);
            None
        });
        heard
    };
    let [first, second] = [turn(), turn()];
    assert_eq!((first.len(), second.len()), (16, 16));
    assert!(second.iter().all(|remote| !first.contains(remote)), "{first:?} {second:?}");
}

fn receive_now(device: &mut dyn Device) -> Vec<Heard> {
    device.wait(Duration::from_millis(20));
    let mut heard = Vec::new();
    device.receive(1024, &mut |datagram| {
        heard.push((datagram.port, datagram.remote, datagram.payload.to_vec()));
        None
    });
    heard
}

#[test]
fn a_worker_without_a_queue_sends_and_receives_through_another() {
    let test = "a_worker_without_a_queue_sends_and_receives_through_another";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let mut devices = inside::af_xdp(&cable.near, 2, |_| ()).expect("opened");
    let mut without = devices.pop().expect("two");
    let mut with = devices.pop().expect("two");
    let (port, local) = open(&mut without, SocketAddr::new(cable.near.ipv4.into(), 0));
    let far = cable.far.run(|| UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket"));
    far.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let remote = far.local_addr().expect("bound");
    // Until the next hop is known it is the kernel that sends.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut numbers = 0..;
    while without.counters().handed_over.value() == 0 {
        assert!(Instant::now() < deadline, "the next hop is found");
        let number: u32 = numbers.next().expect("endless");
        send(&mut without, Path { port, remote }, &number.to_be_bytes());
        receive_now(&mut with);
        with.flush();
        let mut buffer = [0; 16];
        let (len, from) = far.recv_from(&mut buffer).expect("heard");
        assert_eq!((&buffer[..len], from), (&number.to_be_bytes()[..], local));
    }
    far.send_to(b"back", local).expect("sent");
    receive_now(&mut with);
    assert_eq!(receive(&mut without, 1), [(port, remote, b"back".to_vec())]);
    assert_eq!(with.counters().handed_over.value(), 1);
}

#[test]
fn the_ports_of_a_worker_that_ends_are_the_kernels_again() {
    let test = "the_ports_of_a_worker_that_ends_are_the_kernels_again";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let mut devices = inside::af_xdp(&cable.near, 2, |_| ()).expect("opened");
    let mut ends = devices.pop().expect("two");
    let mut goes_on = devices.pop().expect("two");
    let (_, local) = open(&mut ends, SocketAddr::new(cable.near.ipv4.into(), 0));
    drop(ends);
    let next = cable.near.run(|| UdpSocket::bind(local).expect("free"));
    next.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let far = cable.far.run(|| UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket"));
    far.send_to(b"next", local).expect("sent");
    assert_eq!(receive_now(&mut goes_on), []);
    let mut buffer = [0; 16];
    assert_eq!(next.recv(&mut buffer).expect("heard"), 4);
}

#[test]
fn a_full_fill_ring_is_not_needed_to_go_on() {
    let test = "a_full_fill_ring_is_not_needed_to_go_on";
    for mode in MODES {
        let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
        inside::introduce(&cable, false);
        let wire = Wire::new(&cable);
        let mut near = inside::one(&cable.near, mode);
        let (port, local) = open(&mut near, SocketAddr::new(cable.near.ipv4.into(), 0));
        let flood = frame(&cable, false, local.port(), b"flood").bytes();
        // Many times what the rings hold, while the worker does not look.
        wire.send(&cable, &flood, 5000);
        let mut flooded = 0;
        loop {
            let now = receive_now(&mut near).len();
            flooded += now;
            if now == 0 {
                break;
            }
        }
        assert!((1..5000).contains(&flooded), "{mode:?}: {flooded}");
        std::thread::sleep(Duration::from_millis(60));
        near.receive(1, &mut |_| None);
        let counters = near.counters();
        let counted = counters.ring_receive_dropped.value() + counters.ring_receive_full.value();
        assert!(counted > 0, "{mode:?}");
        wire.send(&cable, &frame(&cable, false, local.port(), b"after").bytes(), 1);
        let remote = SocketAddr::new(cable.far.ipv4.into(), 5000);
        assert_eq!(receive(&mut near, 1), [(port, remote, b"after".to_vec())], "{mode:?}");
    }
}

#[test]
fn without_the_program_traffic_goes_on_through_sockets() {
    let test = "without_the_program_traffic_goes_on_through_sockets";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let mut near = inside::one(&cable.near, ModeWanted::Native);
    let (port, local) = open(&mut near, SocketAddr::new(cable.near.ipv4.into(), 0));
    let far = cable.far.run(|| UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket"));
    far.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let remote = far.local_addr().expect("bound");
    let exchange = |near: &mut Inside<AfXdpDevice>, number: u8| {
        far.send_to(&[number], local).expect("sent");
        assert_eq!(receive(near, 1), [(port, remote, vec![number])]);
        send(near, Path { port, remote }, &[number]);
        let mut buffer = [0; 4];
        assert_eq!(far.recv_from(&mut buffer).expect("answered"), (1, local));
        assert_eq!(buffer[0], number);
    };
    exchange(&mut near, 1);
    near.device.interface().detach().expect("attached until now");
    for number in 2..30 {
        exchange(&mut near, number);
        near.wait(Duration::from_millis(10));
    }
    assert_eq!(near.name(), "af_xdp, now through kernel sockets");
    assert_eq!(near.counters().fallbacks.value(), 1);
    exchange(&mut near, 99);
}

#[test]
fn without_the_interface_other_ways_go_on() {
    let test = "without_the_interface_other_ways_go_on";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let mut near = inside::one(&cable.near, ModeWanted::Native);
    let (port, local) = open(&mut near, "0.0.0.0:0".parse().expect("an address"));
    let there = SocketAddr::new([127, 0, 0, 1].into(), local.port());
    let other = cable.near.run(|| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    other.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let remote = other.local_addr().expect("bound");
    let deleted = cable.near.command("ip").args(["link", "del", &cable.near.interface]).status();
    assert!(deleted.expect("ip runs").success());
    let gone = Instant::now();
    while near.counters().fallbacks.value() == 0 {
        near.wait(Duration::from_millis(200));
        assert!(gone.elapsed() < Duration::from_secs(5), "it is noticed");
    }
    other.send_to(b"hello", there).expect("sent");
    assert_eq!(receive(&mut near, 1), [(port, remote, b"hello".to_vec())]);
    send(&mut near, Path { port, remote }, b"back");
    let mut buffer = [0; 8];
    assert_eq!(other.recv_from(&mut buffer).expect("answered"), (4, there));
    assert_eq!(near.name(), "af_xdp, now through kernel sockets");
}

#[test]
fn a_predecessor_that_is_still_ending_is_waited_for() {
    let test = "a_predecessor_that_is_still_ending_is_waited_for";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    let first = inside::one(&cable.near, ModeWanted::Native);
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(first);
    });
    let second = inside::af_xdp(&cable.near, 1, |options| options.mode = ModeWanted::Native);
    assert!(second.is_ok(), "{:?}", second.err());
    ends.join().expect("no panic");
    let third = inside::af_xdp(&cable.near, 1, |options| options.mode = ModeWanted::Native);
    let refusal = third.err().expect("there is one already").to_string();
    assert!(refusal.contains("another program is attached"), "{refusal}");
}

#[test]
fn what_cannot_be_had_is_said_in_a_sentence() {
    let test = "what_cannot_be_had_is_said_in_a_sentence";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    let refused = |change: &(dyn Fn(&mut xdp::af_xdp::Options) + Sync)| {
        inside::af_xdp(&cable.near, 1, change).err().expect("refused").to_string()
    };
    let interface = &cable.near.interface;
    let no_interface = refused(&|options| options.interface = "st99".to_owned());
    assert_eq!(no_interface, "there is no interface st99; `ip link` shows what there is");
    let zero_copy = refused(&|options| options.zero_copy = ZeroCopy::Require);
    assert!(zero_copy.contains("no zero-copy AF_XDP on queue 0; set `zero_copy`"), "{zero_copy}");
    let queue = refused(&|options| options.queues = Queues::List(vec![0, 7]));
    assert_eq!(queue, format!("{interface} has no queue 7; `ethtool -l {interface}` shows how many it has"));
    let ring = refused(&|options| options.ring = 100);
    assert!(ring.contains("power of two"), "{ring}");
    let opened = inside::af_xdp(&cable.near, 1, |_| ()).expect("the defaults work").remove(0);
    let taken = opened.device.taken().to_string();
    assert!(
        taken.starts_with(&format!("AF_XDP on {interface}, native mode, copy, 1 queue(s); the driver")),
        "{taken}"
    );
}

/// Not a test by itself: a process that opens the interface of its namespace, for the tests below.
#[test]
fn a_process_of_its_own() {
    let Ok(interface) = std::env::var("SIDETONE_TEST_INTERFACE") else { return };
    let options = xdp::af_xdp::Options { frames: 4096, ..xdp::af_xdp::Options::new(&interface) };
    match xdp::af_xdp::open(&options, 1, &xdp::udp::Options { ports: 8, ..xdp::udp::Options::default() }) {
        Err(refusal) => println!("REFUSED {refusal}"),
        Ok(devices) => {
            println!("OPENED {}", devices[0].taken());
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

/// Runs [`a_process_of_its_own`] on a host, behind other programs; returns its first own line.
fn process(host: &Host, before: &[&str]) -> (std::process::Child, String) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &host.namespace]).args(before);
    command.arg(std::env::current_exe().expect("a path"));
    command.args(["--exact", "a_process_of_its_own", "--nocapture", "--test-threads=1"]);
    command.env("SIDETONE_TEST_INTERFACE", &host.interface).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it runs");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("REFUSED") && !line.contains("OPENED") {
        line.clear();
        let len = std::io::BufRead::read_line(&mut output, &mut line).expect("text");
        assert!(len > 0, "it said nothing");
    }
    (child, line)
}

#[test]
fn rights_and_limits_that_are_missing_are_named() {
    let test = "rights_and_limits_that_are_missing_are_named";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    let says = |before: &[&str]| {
        let (mut child, line) = process(&cable.near, before);
        let _ = child.kill();
        let _ = child.wait();
        line
    };
    let without = |capabilities| says(&["setpriv", "--bounding-set", capabilities]);
    let line = without("-net_raw");
    assert!(line.contains("give it CAP_NET_RAW"), "{line}");
    let line = without("-bpf,-sys_admin");
    assert!(line.contains("REFUSED") && line.contains("CAP_BPF"), "{line}");
    let line = without("-perfmon,-sys_admin");
    assert!(line.contains("REFUSED") && line.contains("CAP_PERFMON"), "{line}");
    let line = without("-all,+bpf,+net_admin,+net_raw,+perfmon,+ipc_lock");
    assert!(line.contains("OPENED"), "{line}");
    let line = says(&["setpriv", "--bounding-set", "-ipc_lock", "prlimit", "--memlock=1048576:1048576"]);
    assert!(line.contains("8388608 bytes of packet memory exceed the limit on locked memory"), "{line}");
}

#[test]
fn after_a_kill_nothing_is_left_behind() {
    let test = "after_a_kill_nothing_is_left_behind";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    for _ in 0..2 {
        let (mut child, line) = process(&cable.near, &[]);
        assert!(line.contains("OPENED"), "{line}");
        // `ip netns exec` has become the process itself.
        child.kill().expect("it runs");
        child.wait().expect("it ended");
        kernel_still_works(&cable, false);
        let again = inside::af_xdp(&cable.near, 1, |options| options.mode = ModeWanted::Native);
        assert!(again.is_ok(), "{:?}", again.err());
    }
}
