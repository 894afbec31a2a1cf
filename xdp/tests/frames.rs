//! What the kernel puts on a wire is what the wire formats read, with and without the checksum that veth leaves out.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use netns::{Cable, Host, Options};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use xdp::wire::{MacAddress, Reject, UdpChecksum, UdpFrame};

mod netns;

/// ETH_P_ALL of linux/if_ether.h, in network order.
const ALL: u32 = 0x0003_u16.to_be() as u32;

/// A socket that hears every frame of a host.
fn listen(host: &Host) -> OwnedFd {
    let protocol = Protocol::from_raw(ALL.try_into().expect("not zero"));
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    host.run(|| socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol)))
        .expect("root may listen")
}

/// The next frame that is a datagram to `port`; others are rejected by a reason that fits them.
fn heard(socket: &OwnedFd, port: u16) -> (UdpFrame, Vec<u8>) {
    let start = Instant::now();
    let mut buffer = [0; 2048];
    loop {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing is heard");
        let Ok((len, _)) = recv(socket, &mut buffer[..], RecvFlags::empty()) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        match UdpFrame::parse(&buffer[..len]) {
            Ok(frame) if frame.destination.port() == port => {
                let payload = buffer[frame.payload.clone()].to_vec();
                return (frame, payload);
            }
            Ok(_) | Err(Reject::NotIp | Reject::NotUdp | Reject::ExtensionHeader | Reject::IpOptions) => {}
            Err(reject) => panic!("{reject:?}: {:02x?}", &buffer[..len]),
        }
    }
}

#[test]
fn what_the_kernel_sends_is_read() {
    for checksums in [true, false] {
        let options = Options { checksums, ..Options::default() };
        let Some(cable) = Cable::or_skip("what_the_kernel_sends_is_read", options) else { return };
        let socket = listen(&cable.far);
        for (ipv6, len) in [(false, 0), (false, 5), (false, 172), (true, 1), (true, 172), (true, 1400)] {
            let payload: Vec<u8> = (0..len).map(|number| number as u8).collect();
            let bound = cable.near.run(|| UdpSocket::bind((cable.near.ip(ipv6), 0))).expect("free");
            let source = bound.local_addr().expect("bound");
            let destination = SocketAddr::new(cable.far.ip(ipv6), 5004);
            bound.send_to(&payload, destination).expect("sent");
            let (frame, heard) = heard(&socket, 5004);
            assert_eq!((frame.source, frame.destination), (source, destination));
            assert_eq!(frame.source_mac, MacAddress(cable.near.mac));
            assert_eq!(frame.destination_mac, MacAddress(cable.far.mac));
            assert_eq!((frame.vlan, &heard), (None, &payload));
            let expected = if checksums { UdpChecksum::Full } else { UdpChecksum::Partial };
            assert_eq!(frame.checksum, expected, "IPv6 {ipv6}, {len} bytes");
        }
    }
}
