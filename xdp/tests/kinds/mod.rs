//! The kinds of devices, as pairs that reach each other.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use xdp::Device;
use xdp::af_xdp::ModeWanted;
use xdp::io_uring::{self, UringDevice};
use xdp::loopback::LoopbackNetwork;
use xdp::netem::{Conditions, Netem, NetemClock};
use xdp::sk_lookup::{self, SkLookupDevice};
use xdp::udp::{Options, UdpDevice};

use crate::inside::{self, Inside};
use crate::netns::{self, Cable};

/// Two devices of one kind that reach each other.
pub struct Pair {
    pub near: Box<dyn Device>,
    pub far: Box<dyn Device>,
    /// The addresses that they open ports on.
    pub ip: [IpAddr; 2],
    /// Whether an address of one is an address of the other, too.
    pub one_host: bool,
    /// What they live in, if not in the machine's own network. Dropped behind them.
    _cable: Option<Rc<Cable>>,
}

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

pub fn udp(ip: IpAddr) -> Pair {
    let options = Options { ports: 64, transmit_queue: 8, ..Options::default() };
    let device = || Box::new(UdpDevice::new(&options).expect("descriptors")) as Box<dyn Device>;
    Pair { near: device(), far: device(), ip: [ip; 2], one_host: true, _cable: None }
}

/// `None` where io_uring is forbidden, which the runner is told.
pub fn uring(ip: IpAddr) -> Option<Pair> {
    let options = io_uring::Options {
        ports: 64,
        transmit_queue: 8,
        receive_buffers: 32,
        ..io_uring::Options::default()
    };
    let device = || UringDevice::new(&options).map(|device| Box::new(device) as Box<dyn Device>);
    match (device(), device()) {
        (Ok(near), Ok(far)) => Some(Pair { near, far, ip: [ip; 2], one_host: true, _cable: None }),
        (Err(reason), _) | (_, Err(reason)) => {
            netns::skip("io_uring", &reason.to_string());
            None
        }
    }
}

pub fn loopback(ip: IpAddr) -> Pair {
    let network = LoopbackNetwork::new();
    let device = || Box::new(network.device(256).expect("descriptors")) as Box<dyn Device>;
    Pair { near: device(), far: device(), ip: [ip; 2], one_host: true, _cable: None }
}

pub fn good_netem(ip: IpAddr) -> Pair {
    let wrap = |device| {
        let good = Conditions::default();
        Box::new(Netem::new(device, good, good, 1, NetemClock::real())) as Box<dyn Device>
    };
    let Pair { near, far, ip, .. } = loopback(ip);
    Pair { near: wrap(near), far: wrap(far), ip, one_host: true, _cable: None }
}

/// An AF_XDP device at each end of a cable.
pub fn af_xdp(cable: &Rc<Cable>, mode: ModeWanted, ipv6: bool) -> Pair {
    let end = |host| Box::new(inside::one(host, mode)) as Box<dyn Device>;
    let (near, far) = (end(&cable.near), end(&cable.far));
    let ip = [cable.near.ip(ipv6), cable.far.ip(ipv6)];
    Pair { near, far, ip, one_host: false, _cable: Some(Rc::clone(cable)) }
}

/// Two workers of one interface.
pub fn af_xdp_workers(cable: &Rc<Cable>) -> Pair {
    let mut devices = inside::af_xdp(&cable.near, 2, |_| ()).expect("the machine has AF_XDP").into_iter();
    let mut device = || Box::new(devices.next().expect("two of them")) as Box<dyn Device>;
    let ip = [cable.near.ip(false); 2];
    Pair { near: device(), far: device(), ip, one_host: true, _cable: Some(Rc::clone(cable)) }
}

/// An sk_lookup device at each end of a cable.
pub fn sk_lookup(cable: &Rc<Cable>, ipv6: bool) -> Pair {
    let end = |host| Box::new(lookup_workers(host, 1).remove(0)) as Box<dyn Device>;
    let (near, far) = (end(&cable.near), end(&cable.far));
    let ip = [cable.near.ip(ipv6), cable.far.ip(ipv6)];
    Pair { near, far, ip, one_host: false, _cable: Some(Rc::clone(cable)) }
}

/// Two workers of one host.
pub fn sk_lookup_workers(cable: &Rc<Cable>, ip: IpAddr) -> Pair {
    let mut devices = lookup_workers(&cable.near, 2).into_iter();
    let mut device = || Box::new(devices.next().expect("two of them")) as Box<dyn Device>;
    Pair { near: device(), far: device(), ip: [ip; 2], one_host: true, _cable: Some(Rc::clone(cable)) }
}

pub fn lookup_workers(host: &netns::Host, workers: usize) -> Vec<Inside<SkLookupDevice>> {
    let options = sk_lookup::Options { ports: 64, transmit_queue: 8, ..sk_lookup::Options::default() };
    let devices = host.run(|| sk_lookup::open(&options, workers)).expect("root may");
    devices.into_iter().map(|device| Inside::new(host, device)).collect()
}

/// Has the hosts learn each other's MAC: until then, the kernel keeps what it is to send.
pub fn meet(cable: &Cable) {
    for ipv6 in [false, true] {
        let bind = |host: &netns::Host| {
            let socket = host.run(|| std::net::UdpSocket::bind((host.ip(ipv6), 0)).expect("free"));
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket
        };
        let (near, far) = (bind(&cable.near), bind(&cable.far));
        for (from, to) in [(&near, &far), (&far, &near)] {
            from.send_to(b"hello", to.local_addr().expect("bound")).expect("sent");
            // A wait may be interrupted.
            while to.recv(&mut [0; 8]).is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
        }
    }
}

type Make = fn(&Rc<Cable>) -> Pair;

/// One after the other: the pairs on a cable take turns.
pub fn every_kind() -> impl Iterator<Item = (&'static str, Pair)> {
    let kinds: [(&str, Make); 9] = [
        ("AF_XDP native IPv4", |cable| af_xdp(cable, ModeWanted::Native, false)),
        ("AF_XDP native IPv6", |cable| af_xdp(cable, ModeWanted::Native, true)),
        ("AF_XDP generic IPv4", |cable| af_xdp(cable, ModeWanted::Generic, false)),
        ("AF_XDP generic IPv6", |cable| af_xdp(cable, ModeWanted::Generic, true)),
        ("AF_XDP two workers", af_xdp_workers),
        ("sk_lookup IPv4", |cable| sk_lookup(cable, false)),
        ("sk_lookup IPv6", |cable| sk_lookup(cable, true)),
        ("sk_lookup two workers IPv4", |cable| sk_lookup_workers(cable, V4)),
        ("sk_lookup two workers IPv6", |cable| sk_lookup_workers(cable, V6)),
    ];
    let cable = Cable::or_skip("the privileged devices among all devices", netns::Options::default());
    let cable = cable.inspect(meet).map(Rc::new);
    let privileged = kinds.into_iter().filter_map(move |(kind, make)| Some((kind, make(cable.as_ref()?))));
    // Last, because the end of a ring interrupts a later wait of its thread.
    unprivileged().into_iter().chain(privileged).chain(urings())
}

pub fn urings() -> Vec<(&'static str, Pair)> {
    let kinds = [("io_uring IPv4", V4), ("io_uring IPv6", V6)];
    kinds.into_iter().filter_map(|(name, ip)| Some((name, uring(ip)?))).collect()
}

pub fn unprivileged() -> Vec<(&'static str, Pair)> {
    vec![
        ("udp IPv4", udp(V4)),
        ("udp IPv6", udp(V6)),
        ("loopback IPv4", loopback(V4)),
        ("loopback IPv6", loopback(V6)),
        ("netem", good_netem(V4)),
    ]
}

/// The kinds that hear other programs on this host.
pub fn kernel_kinds(ip: IpAddr) -> Vec<(&'static str, Pair)> {
    let mut kinds = vec![("udp", udp(ip))];
    kinds.extend(uring(ip).map(|pair| ("io_uring", pair)));
    kinds
}
