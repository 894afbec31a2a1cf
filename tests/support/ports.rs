//! Free ports on loopback, so that test processes run side by side.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free for both UDP and TCP on `ip`, and was not given to another test of this process.
pub(crate) fn free_port(ip: IpAddr) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..200 {
        let Ok(tcp) = TcpListener::bind(SocketAddr::new(ip, 0)) else { continue };
        let port = tcp.local_addr().expect("a bound socket has an address").port();
        let free = UdpSocket::bind(SocketAddr::new(ip, port)).is_ok();
        if free && GIVEN.lock().expect("no test panics in here").insert(port) {
            return port;
        }
    }
    panic!("no port on {ip} is free for UDP and TCP");
}

/// A port that is free for UDP on `ip`, with the three after it: SIPp opens audio and video, and their RTCP.
pub(crate) fn free_sipp_media_port(ip: IpAddr) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    free_block(&NEXT, SIPP_START..MEDIA_START, 4, ip)
}

/// A free port on 127.0.0.1.
pub(crate) fn free_loopback_port() -> u16 {
    free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The first of `count` UDP ports that nobody uses, for the media of one process.
pub(crate) fn free_media_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    free_block(&NEXT, MEDIA_START..MEDIA_END, count, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// The first port of the next free block. Blocks lie below the kernel's ephemeral ports, and processes start their
/// search at different places.
fn free_block(next: &AtomicU16, ports: Range<u16>, count: u16, ip: IpAddr) -> u16 {
    let blocks = (ports.end - ports.start) / count;
    let start = u16::try_from(std::process::id() % u32::from(blocks)).expect("below a u16");
    for _ in 0..blocks {
        let block = (start + next.fetch_add(1, Ordering::Relaxed)) % blocks;
        let first = ports.start + block * count;
        if (first..first + count).all(|port| UdpSocket::bind(SocketAddr::new(ip, port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} media ports in a row are free on {ip}");
}

const SIPP_START: u16 = 9_000;
const MEDIA_START: u16 = 12_000;
const MEDIA_END: u16 = 32_000;
