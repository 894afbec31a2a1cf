//! The program on an interface: forwarding on a cable, what the kernel keeps, and what is left when the process dies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};
use xdp::bpf::{Assembler, Link, Mode, Program, ProgramKind, Register::R0};
use xdp::program::{Event, KernelFlow, Options, XdpProgram};
use xdp::{FlowCounters, Rewriting};

use crate::forward::flow;
use crate::frames::rtp;
use crate::netns::{self, Cable};

/// Makes a cable, or says that the test is skipped.
fn cable(test: &str, options: netns::Options) -> Option<Cable> {
    if let Err(error) = xdp::bpf::probe() {
        netns::skip(test, &error.to_string());
        return None;
    }
    Cable::or_skip(test, options)
}

/// The program on the near end, with its addresses.
fn attached(cable: &Cable, mode: Mode) -> (XdpProgram, Link) {
    let program = XdpProgram::load(Options::default()).unwrap();
    for ipv6 in [false, true] {
        program.set_address(cable.near.ip(ipv6), cable.near.mac).unwrap();
    }
    let link = cable.near.run(|| program.attach(cable.near.index(), mode)).unwrap();
    (program, link)
}

/// A veth hands frames from a program only to an end that has a program, too.
fn passing(cable: &Cable) -> Link {
    let mut code = Assembler::new();
    code.mov(R0, 2).exit();
    let program = Program::load("pass", ProgramKind::Xdp, &code.build().unwrap()).unwrap();
    cable.far.run(|| program.attach(cable.far.index(), Mode::Native)).unwrap()
}

fn socket(host: &netns::Host, ipv6: bool, port: u16) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind((host.ip(ipv6), port))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

#[test]
fn a_call_is_relayed_on_a_cable_without_user_space() {
    let test = "a_call_is_relayed_on_a_cable_without_user_space";
    for checksums in [true, false] {
        let Some(cable) = cable(test, netns::Options { checksums, ..netns::Options::default() }) else {
            return;
        };
        let _passing = passing(&cable);
        for (mode, ipv6) in
            [(Mode::Native, false), (Mode::Native, true), (Mode::Generic, false), (Mode::Generic, true)]
        {
            let context = format!("{mode:?} IPv6 {ipv6} checksums {checksums}");
            let (program, link) = attached(&cable, mode);
            let (near, far) = (cable.near.ip(ipv6), cable.far.ip(ipv6));
            let [caller, callee] = [4000, 5004].map(|port| socket(&cable.far, ipv6, port));
            let ports = program.ports();
            let rewriting = Rewriting { ssrc: Some(77), sequence_offset: 100, timestamp_offset: 1000 };
            for (port, source, local, remote, rewriting) in
                [(30_000, 4000, 30_002, 5004, rewriting), (30_002, 5004, 30_000, 4000, Rewriting::default())]
            {
                ports.open(port, near).unwrap();
                let flow = KernelFlow {
                    source: (far, source).into(),
                    local: (near, local).into(),
                    remote: (far, remote).into(),
                    interface: cable.near.index(),
                    source_mac: cable.near.mac,
                    next_hop_mac: cable.far.mac,
                    rewriting,
                    ..flow(ipv6)
                };
                ports.promote(port, &flow).unwrap();
            }
            let mut buffer = [0; 2000];
            for number in 0..50_u16 {
                let audio = usize::from(number) * 3;
                caller.send_to(&rtp(0, 7, number, 5, 9, audio), (near, 30_000)).unwrap();
                let (len, from) =
                    callee.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(from, SocketAddr::from((near, 30_002)), "{context}");
                assert_eq!(buffer[..len], rtp(0, 7, number + 100, 1005, 77, audio), "{context}");
                callee.send_to(&rtp(0, 101, number, 6, 8, audio), (near, 30_002)).unwrap();
                let (len, from) =
                    caller.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(from, SocketAddr::from((near, 30_000)), "{context}");
                assert_eq!(buffer[..len], rtp(0, 101, number, 6, 8, audio), "{context}");
            }
            assert!(
                matches!(
                    ports.counters(30_000),
                    Some(FlowCounters { packets: 50, first_sequence: 0, highest_sequence: 49, .. })
                ),
                "{context}"
            );
            // RTCP on the same port, and everything after the flow has ended, is for a socket: here, the kernel's.
            let kernel = socket(&cable.near, ipv6, 30_000);
            caller.send_to(&rtp(1, 72, 0, 0, 0, 16), (near, 30_000)).unwrap();
            assert_eq!(kernel.recv(&mut buffer).unwrap(), 28, "{context}");
            assert_eq!(ports.demote(30_000).map(|counters| counters.packets), Some(50));
            caller.send_to(&rtp(0, 7, 50, 0, 0, 16), (near, 30_000)).unwrap();
            assert_eq!(kernel.recv(&mut buffer).unwrap(), 28, "{context}");
            let counters = program.counters().unwrap();
            assert_eq!((counters.count(Event::RaisedControl), counters.forwarded), (1, 100), "{context}");
            drop(link);
        }
    }
}

/// Sends an ICMP echo request and waits for the answer.
fn ping(to: IpAddr) {
    let (family, protocol, request, answer, header) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, 0),
    };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).unwrap();
    let limit = Some(Duration::from_secs(5));
    rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, limit).unwrap();
    // Nothing but the type; of ICMPv6 the kernel writes the checksum.
    let [check_0, check_1] = (!(u16::from(request) << 8)).to_be_bytes();
    let echo = [request, 0, check_0, check_1, 0, 0, 0, 0];
    rustix::net::sendto(&socket, &echo, SendFlags::empty(), &SocketAddr::new(to, 0)).unwrap();
    loop {
        // Neighbour discovery is heard, too.
        let mut buffer = [0; 256];
        let (len, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())
            .unwrap_or_else(|error| panic!("no answer from {to}: {error}"));
        if len > header && buffer[header] == answer {
            return;
        }
    }
}

/// Ping, TCP and UDP of the far host to the near one's kernel.
fn kernel_answers(cable: &Cable) {
    for ipv6 in [false, true] {
        let near = cable.near.ip(ipv6);
        cable.far.run(|| ping(near));
        let server = cable.near.run(|| TcpListener::bind((near, 0))).unwrap();
        let mut client = cable.far.run(|| TcpStream::connect(server.local_addr().unwrap())).unwrap();
        client.write_all(b"question").unwrap();
        let (mut served, _) = server.accept().unwrap();
        let mut buffer = [0; 8];
        served.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"question");
        let [asked, asking] = [socket(&cable.near, ipv6, 5060), socket(&cable.far, ipv6, 0)];
        asking.send_to(b"OPTIONS", asked.local_addr().unwrap()).unwrap();
        assert_eq!(asked.recv(&mut buffer).unwrap(), 7);
    }
}

/// Not a test of its own: the process that another test kills. It holds the program until then.
#[test]
fn a_process_that_holds_the_program() {
    let Ok(settings) = std::env::var("SIDETONE_TEST_HOLD") else { return };
    let [index, address, mode] = settings.split(',').collect::<Vec<_>>()[..] else { panic!("{settings}") };
    let program = XdpProgram::load(Options::default()).unwrap();
    let address = address.parse().unwrap();
    program.set_address(address, [2, 0, 0, 0, 0, 1]).unwrap();
    program.ports().open(30_000, address).unwrap();
    program.ports().connect(30_000, Some("192.0.2.99:9".parse().unwrap()));
    let mode = if mode == "native" { Mode::Native } else { Mode::Generic };
    let _link = program.attach(index.parse().unwrap(), mode).unwrap();
    // Not by the harness, which keeps what a test says.
    std::io::stderr().write_all(b"attached\n").unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn the_kernel_works_beside_the_program_and_nothing_is_left_of_a_killed_process() {
    let test = "the_kernel_works_beside_the_program_and_nothing_is_left_of_a_killed_process";
    for mode in ["native", "generic"] {
        let Some(cable) = cable(test, netns::Options::default()) else { return };
        let settings = format!("{},{},{mode}", cable.near.index(), cable.near.ip(false));
        let mut child = cable.near.run(|| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "cable::a_process_that_holds_the_program", "--nocapture"])
                .env("SIDETONE_TEST_HOLD", settings)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "attached");
        let show = || {
            let output = cable
                .near
                .command("ip")
                .args(["-d", "link", "show", &cable.near.interface])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().contains("xdp")
        };
        assert!(show(), "{mode}");
        kernel_answers(&cable);
        // A media port: nobody is believed but one who is not there.
        let media = socket(&cable.near, false, 30_000);
        let sender = socket(&cable.far, false, 4000);
        let heard = |limit: Duration| {
            media.set_read_timeout(Some(limit)).unwrap();
            sender.send_to(b"media", (cable.near.ip(false), 30_000)).unwrap();
            media.recv(&mut [0; 8]).is_ok()
        };
        assert!(!heard(Duration::from_millis(100)), "{mode}");

        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while show() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!show(), "{mode}");
        assert!(heard(Duration::from_secs(5)), "{mode}");
        kernel_answers(&cable);
        // The next one finds the interface free, in either mode.
        drop(attached(&cable, Mode::Native));
        drop(attached(&cable, Mode::Generic));
        kernel_answers(&cable);
    }
}
