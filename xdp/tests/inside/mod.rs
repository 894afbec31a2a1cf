//! A device that lives on a host of [`crate::netns`]: whatever thread calls it, its sockets are made there.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use xdp::af_xdp::{self, AfXdpDevice, ModeWanted, Options, Refusal};
use xdp::{
    Device, DeviceCounters, Doorbell, Flow, FlowCounters, Full, Handle, Outgoing, PortIndex, Unpromoted,
};

use crate::netns::{Cable, Host};

/// See the module's documentation.
pub struct Inside<D> {
    pub device: D,
    namespace: String,
}

/// Has the hosts of a cable learn each other's addresses, so that nothing of a test waits for that.
pub fn introduce(cable: &Cable, ipv6: bool) {
    let bind = |host: &Host| host.run(|| UdpSocket::bind((host.ip(ipv6), 4000)).expect("free"));
    let (near, far) = (bind(&cable.near), bind(&cable.far));
    far.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    // On a thread of its own: work of io_uring devices interrupts the one of the test.
    cable.far.run(|| {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            // A single one may be lost, such as while a neighbour is found.
            near.send_to(b"hello", (cable.far.ip(ipv6), 4000)).expect("sent");
            match far.recv_from(&mut [0; 16]) {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "heard: {error}"),
            }
        }
    });
}

/// Opens the interface of a host for some workers.
pub fn af_xdp(
    host: &Host,
    workers: usize,
    change: impl FnOnce(&mut Options) + Send,
) -> Result<Vec<Inside<AfXdpDevice>>, Refusal> {
    let mut options = Options { frames: 1024, ring: 256, ..Options::new(&host.interface) };
    change(&mut options);
    let udp = xdp::udp::Options { ports: 64, transmit_queue: 8, ..xdp::udp::Options::default() };
    let devices = host.run(|| af_xdp::open(&options, workers, &udp))?;
    Ok(devices.into_iter().map(|device| Inside { device, namespace: host.namespace.clone() }).collect())
}

/// Opens an address that was just closed. A test beside this one that starts a program holds it for a moment: the new
/// process has all descriptors until it runs its own text.
pub fn open_again(device: &mut dyn Device, local: SocketAddr) -> PortIndex {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match device.open(local) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.expect("just closed"),
        }
    }
}

/// One worker's device, in a mode.
pub fn one(host: &Host, mode: ModeWanted) -> Inside<AfXdpDevice> {
    let devices = af_xdp(host, 1, |options| options.mode = mode);
    devices.expect("the machine has AF_XDP").pop().expect("one worker, one device")
}

impl<D: Device> Inside<D> {
    pub fn new(host: &Host, device: D) -> Self {
        Self { device, namespace: host.namespace.clone() }
    }
}

impl<D: Device> Device for Inside<D> {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        let outside = File::open("/proc/thread-self/ns/net")?;
        let inside = File::open(format!("/run/netns/{}", self.namespace))?;
        move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))?;
        let port = self.device.open(local);
        move_into_link_name_space(outside.as_fd(), Some(LinkNameSpaceType::Network))?;
        port
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.device.local_address(port)
    }

    fn close(&mut self, port: PortIndex) {
        self.device.close(port);
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        self.device.connect(port, remote);
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        self.device.receive(budget, handle)
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        self.device.transmit(write)
    }

    fn flush(&mut self) {
        self.device.flush();
    }

    fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        self.device.promote(port, flow)
    }

    fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        self.device.demote(port)
    }

    fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        self.device.flow_counters(port)
    }

    fn wait(&mut self, timeout: Duration) {
        self.device.wait(timeout);
    }

    fn doorbell(&self) -> Doorbell {
        self.device.doorbell()
    }

    fn counters(&self) -> Arc<DeviceCounters> {
        self.device.counters()
    }

    fn name(&self) -> &'static str {
        self.device.name()
    }
}
