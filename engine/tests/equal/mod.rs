//! One engine side and one far side on a cable, through any kind of device.
#![allow(unreachable_pub, reason = "a module of a test binary")]
#![expect(clippy::disallowed_methods, reason = "devices take real time")]

#[path = "../../../xdp/tests/netns/mod.rs"]
pub mod netns;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netns::{Cable, Options};
use xdp::af_xdp::{self, ModeWanted};
use xdp::io_uring::UringDevice;
use xdp::loopback::LoopbackNetwork;
use xdp::sk_lookup;
use xdp::udp::UdpDevice;
use xdp::{Device, DeviceCounters, Outgoing, Path, PortIndex};

/// The devices that are to be equal, the one first that the others are held to.
pub const KINDS: [Kind; 6] = [
    Kind::Loopback,
    Kind::Udp,
    Kind::IoUring,
    Kind::SkLookup,
    Kind::AfXdp(ModeWanted::Generic),
    Kind::AfXdp(ModeWanted::Native),
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Loopback,
    Udp,
    IoUring,
    SkLookup,
    AfXdp(ModeWanted),
}

/// Which way checksums come, which makes a difference to who reads frames.
#[derive(Clone, Copy, Debug)]
pub enum Checksums {
    Complete,
    LeftToTheCard,
}

/// The far side: a phone's ports, one per party.
pub struct Far {
    device: Box<dyn Device>,
    ports: Vec<PortIndex>,
    pub addresses: Vec<SocketAddr>,
}

/// The address of the engine's host in a family.
pub fn engine_ip(ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]) } else { IpAddr::from([198, 18, 0, 1]) }
}

/// The address of the far host.
pub fn far_ip(ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]) } else { IpAddr::from([198, 18, 0, 2]) }
}

/// Runs `body` on the engine's host with a device of this kind, and with the far side, which has these ports open. `None`
/// if this machine does not have the device; that is said by name.
pub fn on<T: Send>(
    test: &str,
    kind: Kind,
    checksums: Checksums,
    far_ports: &[SocketAddr],
    body: impl FnOnce(Box<dyn Device>, Far) -> T + Send,
) -> Option<T> {
    let name = format!("{test} with {kind:?}, {checksums:?}");
    if kind == Kind::Loopback {
        let network = LoopbackNetwork::new();
        let device = || Box::new(network.device(4096).expect("descriptors"));
        return Some(body(device(), Far::new(device(), far_ports)));
    }
    let options = Options { checksums: matches!(checksums, Checksums::Complete), ..Options::default() };
    let cable = Cable::or_skip(&name, options)?;
    assert_eq!((cable.near.ip(false), cable.near.ip(true)), (engine_ip(false), engine_ip(true)));
    let udp = || UdpDevice::new(&xdp::udp::Options::default()).expect("descriptors");
    if kind == Kind::AfXdp(ModeWanted::Native) {
        // Frames that a native program sends through veth arrive only where the other end receives by NAPI.
        cable.far.ethtool(&["-K", &cable.far.interface, "gro", "on"]).expect("ethtool");
    }
    let far = cable.far.run(|| Far::new(Box::new(udp()), far_ports));
    let near = &cable.near;
    near.run(|| {
        let device: Result<Box<dyn Device>, String> = match kind {
            Kind::Loopback | Kind::Udp => Ok(Box::new(udp())),
            Kind::IoUring => UringDevice::new(&xdp::io_uring::Options::default())
                .map(|device| Box::new(device) as Box<dyn Device>)
                .map_err(|error| error.to_string()),
            Kind::SkLookup => sk_lookup::open(&sk_lookup::Options::default(), 1)
                .map(|mut devices| Box::new(devices.remove(0)) as Box<dyn Device>)
                .map_err(|error| error.to_string()),
            Kind::AfXdp(mode) => {
                let options = af_xdp::Options { mode, ..af_xdp::Options::new(&near.interface) };
                af_xdp::open(&options, 1, &xdp::udp::Options::default())
                    .map_err(|error| error.to_string())
                    .and_then(|devices| devices.into_iter().next().ok_or_else(|| "no device".to_owned()))
                    .map(|device| Box::new(device) as Box<dyn Device>)
            }
        };
        match device {
            Ok(device) => Some(body(device, far)),
            Err(reason) => {
                netns::skip(&name, &reason);
                None
            }
        }
    })
}

impl Far {
    fn new(mut device: Box<dyn Device>, ports: &[SocketAddr]) -> Self {
        let ports = ports.iter().map(|&local| device.open(local).expect("a free port")).collect();
        let mut far = Self { device, ports, addresses: Vec::new() };
        let address = |port: &PortIndex| far.device.local_address(*port).expect("open");
        far.addresses = far.ports.iter().map(address).collect();
        far
    }

    /// Sends from one of the ports.
    pub fn send(&mut self, from: usize, remote: SocketAddr, payload: &[u8]) {
        let sent = self.device.transmit(&mut |buffer| {
            buffer[..payload.len()].copy_from_slice(payload);
            Some(Outgoing { path: Path { port: self.ports[from], remote }, len: payload.len() })
        });
        assert_eq!(sent, Ok(true));
        self.device.flush();
    }

    /// Listens until `enough`, for two seconds at most.
    pub fn listen(
        &mut self,
        mut heard: impl FnMut(usize, SocketAddr, &[u8]),
        mut enough: impl FnMut() -> bool,
    ) {
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            let ports = &self.ports;
            let count = self.device.receive(64, &mut |datagram| {
                let to = ports.iter().position(|&port| port == datagram.port).expect("one of ours");
                heard(to, datagram.remote, datagram.payload);
                None
            });
            if count == 0 && (enough() || Instant::now() > end) {
                return;
            }
            if count == 0 {
                self.device.wait(Duration::from_millis(1));
            }
        }
    }
}

/// Receives from a device until `count` datagrams have been handed on, for two seconds at most.
pub fn receive(device: &mut dyn Device, count: usize, mut handle: impl FnMut(xdp::Datagram<'_>)) {
    let end = Instant::now() + Duration::from_secs(2);
    let mut handled = 0;
    while handled < count && Instant::now() < end {
        device.receive(64, &mut |datagram| {
            handled += 1;
            handle(datagram);
            None
        });
        if handled < count {
            device.wait(Duration::from_millis(1));
        }
    }
}

/// Whether what came and went took the way that the device is for: no port's own socket received, and kernel sockets
/// sent no more than what was due before the peer's MAC was known.
pub fn took_its_way(counters: &DeviceCounters) -> bool {
    let DeviceCounters { receive_fallback, transmit_no_route, transmitted_datagrams, .. } = counters;
    receive_fallback.value() == 0 && transmit_no_route.value() * 10 <= transmitted_datagrams.value()
}

/// The counters that all devices have in common.
pub fn common(counters: &DeviceCounters) -> Vec<(&'static str, u64)> {
    let DeviceCounters {
        received_datagrams,
        received_bytes,
        receive_truncated,
        transmitted_datagrams,
        transmitted_bytes,
        transmit_full,
        transmit_errors,
        ..
    } = counters;
    vec![
        ("received_datagrams", received_datagrams.value()),
        ("received_bytes", received_bytes.value()),
        ("receive_truncated", receive_truncated.value()),
        ("transmitted_datagrams", transmitted_datagrams.value()),
        ("transmitted_bytes", transmitted_bytes.value()),
        ("transmit_full", transmit_full.value()),
        ("transmit_errors", transmit_errors.value()),
    ]
}
