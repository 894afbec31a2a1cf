//! The AF_XDP device and those who look after it: the thread that knows the next hops, rules that choose by the source.

mod inside;
mod netns;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use inside::Inside;
use netns::{Cable, Host};
use xdp::af_xdp::{AfXdpDevice, ModeWanted};
use xdp::{Device, Outgoing, Path, PortIndex};

fn command(host: &Host, line: &str) {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let output = host.command(program).args(words).output().expect("ip runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
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

/// Sends until nothing goes through the kernel any more.
fn until_by_rings(device: &mut Inside<AfXdpDevice>, path: Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let before = device.counters().transmit_no_route.value();
        send(device, path, b"found");
        if device.counters().transmit_no_route.value() == before {
            return;
        }
        assert!(Instant::now() < deadline, "the next hop is found");
        device.wait(Duration::from_millis(5));
    }
}

#[test]
fn where_rules_choose_by_the_source_the_rings_send_for_the_interfaces_own_addresses_only() {
    let test = "where_rules_choose_by_the_source_the_rings_send_for_the_interfaces_own_addresses_only";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let near_host = &cable.near;
    command(near_host, "ip addr add 198.51.100.1/32 dev lo");
    let mut near = inside::one(near_host, ModeWanted::Native);
    let (own, _) = open(&mut near, SocketAddr::new(near_host.ipv4.into(), 0));
    let (other, _) = open(&mut near, "198.51.100.1:0".parse().expect("an address"));
    let far = cable.far.run(|| UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket"));
    let remote = far.local_addr().expect("bound");
    let [own, other] = [own, other].map(|port| Path { port, remote });
    until_by_rings(&mut near, own);
    until_by_rings(&mut near, other);

    command(near_host, "ip rule add from 198.51.100.1 blackhole");
    let deadline = Instant::now() + Duration::from_secs(5);
    let counters = near.counters();
    let before = counters.transmit_no_route.value();
    while counters.transmit_no_route.value() == before {
        send(&mut near, other, b"by the rule");
        assert!(Instant::now() < deadline, "the kernel is asked");
        near.wait(Duration::from_millis(5));
    }
    until_by_rings(&mut near, own);
    let before = counters.transmit_no_route.value();
    for _ in 0..3 {
        send(&mut near, own, b"by rings");
        send(&mut near, other, b"by the rule");
    }
    assert_eq!(counters.transmit_no_route.value() - before, 3);
}

#[test]
fn a_new_address_comes_by_the_rings_without_a_worker_having_looked() {
    let test = "a_new_address_comes_by_the_rings_without_a_worker_having_looked";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let near_host = &cable.near;
    let mut near = inside::one(near_host, ModeWanted::Native);
    let interface = near.device.interface();
    let (_, local) = open(&mut near, "0.0.0.0:0".parse().expect("an address"));
    let redirected = || {
        let counters = interface.program_counters().expect("the program's");
        counters.count(xdp::program::Event::Redirected)
    };
    command(near_host, &format!("ip addr add 198.18.0.77/24 dev {}", near_host.interface));
    command(&cable.far, &format!("ip addr add 198.18.0.78/24 dev {}", cable.far.interface));
    let far = cable.far.run(|| UdpSocket::bind("198.18.0.78:0").expect("a socket"));
    let target = SocketAddr::new([198, 18, 0, 77].into(), local.port());
    let deadline = Instant::now() + Duration::from_secs(5);
    while redirected() == 0 {
        assert!(Instant::now() < deadline, "the program is told of the address");
        cable.far.run(|| far.send_to(b"hello", target).expect("sent"));
        std::thread::sleep(Duration::from_millis(5));
    }

    // And the kernel's again once it is gone: the other end keeps the MAC for a while.
    command(near_host, &format!("ip addr del 198.18.0.77/24 dev {}", near_host.interface));
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let before = redirected();
        cable.far.run(|| far.send_to(b"hello", target).expect("sent"));
        std::thread::sleep(Duration::from_millis(20));
        if redirected() == before {
            break;
        }
        assert!(Instant::now() < deadline, "the program is told that it is gone");
    }
}

#[test]
fn what_is_sent_on_keeps_its_differentiated_services() {
    let test = "what_is_sent_on_keeps_its_differentiated_services";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    inside::introduce(&cable, false);
    let mut near = inside::one(&cable.near, ModeWanted::Native);
    let (port, local) = open(&mut near, SocketAddr::new(cable.near.ipv4.into(), 0));
    // A raw socket hears headers, too.
    let (far, raw) = cable.far.run(|| {
        let raw = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::RAW,
            Some(rustix::net::ipproto::UDP),
        );
        (UdpSocket::bind((cable.far.ipv4, 0)).expect("a socket"), UdpSocket::from(raw.expect("root may")))
    });
    let remote = far.local_addr().expect("bound");
    let path = Path { port, remote };
    until_by_rings(&mut near, path);
    rustix::net::sockopt::set_ip_tos(&far, 0xb8).expect("anyone may");
    raw.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let before = near.counters().transmit_no_route.value();
    let deadline = Instant::now() + Duration::from_secs(5);
    let class = 'heard: loop {
        assert!(Instant::now() < deadline, "it comes back");
        far.send_to(b"priority", local).expect("sent");
        near.wait(Duration::from_millis(20));
        near.receive(8, &mut |datagram| Some(Outgoing { path, len: datagram.payload.len() }));
        near.flush();
        let mut packet = [0; 128];
        while let Ok(len) = raw.recv(&mut packet) {
            if packet[..len].ends_with(b"priority") {
                break 'heard packet[1];
            }
        }
    };
    assert_eq!(class, 0xb8);
    assert_eq!(near.counters().transmit_no_route.value(), before, "by the rings");
}

#[test]
fn the_thread_that_knows_the_next_hops_keeps_away_from_workers() {
    let test = "the_thread_that_knows_the_next_hops_keeps_away_from_workers";
    let Some(cable) = Cable::or_skip(test, netns::Options::default()) else { return };
    let cpus = xdp::thread::allowed_cpus();
    let worker = cpus[0];
    let devices = cable.near.run(|| {
        xdp::thread::pin(&[worker]).expect("it is allowed");
        // As a program that was started with a priority; one that a worker gives itself is not inherited anyway.
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let chrt = Command::new("chrt").args(["-f", "-p", "10", &thread]).status().expect("chrt runs");
        assert!(chrt.success());
        let mut options = xdp::af_xdp::Options::new(&cable.near.interface);
        options.media_cpus = vec![worker];
        let opened = xdp::af_xdp::open(&options, 1, &xdp::udp::Options::default());
        (opened.expect("the machine has AF_XDP"), namespace("thread-self"))
    });
    let (_devices, near) = devices;
    let tasks = std::fs::read_dir("/proc/self/task").expect("ours");
    let ids = tasks.map(|task| task.expect("listed").file_name().into_string().expect("a number"));
    let text = |id: &str, file: &str| std::fs::read_to_string(format!("/proc/self/task/{id}/{file}"));
    let control = ids.into_iter().find(|id| {
        text(id, "comm").is_ok_and(|name| name.trim() == "net-control")
            && namespace(&format!("self/task/{id}")) == near
    });
    let control = control.expect("there is one");
    let settled = || {
        let stat = text(&control, "stat").expect("it runs");
        // proc_pid_stat(5): the 41st field; the second ends with the only parenthesis.
        let policy = stat.rsplit(')').next().expect("more").split_whitespace().nth(38);
        let status = text(&control, "status").expect("it runs");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let allowed = allowed.expect("a line").trim();
        let beside = cpus.len() == 1
            || !allowed.split(',').any(|range| range.split('-').next() == Some(&worker.to_string()));
        // SCHED_OTHER.
        policy == Some("0") && beside
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !settled() {
        assert!(Instant::now() < deadline, "CPU or policy of the worker's parent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What tells the network namespace of a thread or process.
fn namespace(task: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{task}/ns/net"));
    link.map(|link| link.display().to_string()).unwrap_or_default()
}
