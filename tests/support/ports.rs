//! Free ports on loopback, so that test processes run side by side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free for both UDP and TCP on `ip`.
pub(crate) fn free_port(ip: IpAddr) -> u16 {
    for _ in 0..200 {
        let Ok(tcp) = TcpListener::bind(SocketAddr::new(ip, 0)) else { continue };
        let port = tcp.local_addr().expect("a bound socket has an address").port();
        if UdpSocket::bind(SocketAddr::new(ip, port)).is_ok() {
            return port;
        }
    }
    panic!("no port on {ip} is free for UDP and TCP");
}

/// A port that is free for UDP on `ip`, with the three after it: SIPp opens audio and video, and their RTCP.
pub(crate) fn free_sipp_media_port(ip: IpAddr) -> u16 {
    for _ in 0..200 {
        let first = free_port(ip);
        let four = (first..=first.saturating_add(3)).map(|port| UdpSocket::bind(SocketAddr::new(ip, port)));
        if first < u16::MAX - 3 && four.collect::<Result<Vec<_>, _>>().is_ok() {
            return first;
        }
    }
    panic!("no four ports in a row on {ip} are free for UDP");
}

/// A free port on 127.0.0.1.
pub(crate) fn free_loopback_port() -> u16 {
    free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The first of `count` UDP ports that nobody uses, for the media of one process. They lie below the
/// kernel's ephemeral ports, and processes start their search at different places.
pub(crate) fn free_media_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let blocks = (MEDIA_END - MEDIA_START) / count;
    let start = u16::try_from(std::process::id() % u32::from(blocks)).expect("below a u16");
    for _ in 0..blocks {
        let block = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
        let first = MEDIA_START + block * count;
        if (first..first + count).all(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} media ports in a row are free");
}

const MEDIA_START: u16 = 12_000;
const MEDIA_END: u16 = 32_000;
