//! Many datagrams of many ports in one call: received from a socket that gets what is for others, with the address
//! that each was sent to, and sent with headers of our own.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg take raw pointers to buffers and addresses")]

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::mmsg::{NO_ADDRESS, from_system, to_system};
use crate::MAX_DATAGRAM_BYTES;

/// How many datagrams a call takes or sends at most.
pub(crate) const BATCH: usize = 64;

/// Datagrams that one call has received.
pub(crate) struct Incoming {
    payloads: Box<[[u8; MAX_DATAGRAM_BYTES]]>,
    addresses: Box<[libc::sockaddr_in6]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    taken: usize,
}

/// What is known of a received datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The sender; `None` for an address family that is not IP.
    pub(crate) remote: Option<SocketAddr>,
    /// Where it was sent to, if the kernel says so.
    pub(crate) local: Option<SocketAddr>,
    /// How many bytes, at most [`MAX_DATAGRAM_BYTES`].
    pub(crate) len: usize,
    /// Whether there were more.
    pub(crate) truncated: bool,
    /// How many datagrams the socket has dropped for want of room, in all, modulo 2^32; `None` before the first.
    pub(crate) dropped: Option<u32>,
}

/// One datagram to send: an IP header and what follows, in two pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// The IP and the UDP header.
    pub(crate) header: &'a [u8],
    /// The UDP payload.
    pub(crate) payload: &'a [u8],
    /// Where the kernel routes it to; the port is not looked at.
    pub(crate) destination: SocketAddr,
}

/// Room for the original destination and the count of dropped datagrams.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

// SAFETY: the pointers in it are used within `receive` only, and written before.
unsafe impl Send for Incoming {}

impl Incoming {
    /// Takes the memory for one call.
    pub(crate) fn new() -> Self {
        Self {
            payloads: vec![[0; MAX_DATAGRAM_BYTES]; BATCH].into(),
            addresses: vec![NO_ADDRESS; BATCH].into(),
            controls: vec![Control([0; CONTROL_BYTES]); BATCH].into(),
            vectors: vec![NO_VECTOR; BATCH].into(),
            headers: vec![NO_HEADER; BATCH].into(),
            taken: 0,
        }
    }

    /// Takes waiting datagrams, at most `limit` and [`BATCH`], without blocking.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        self.taken = 0;
        let count = limit.min(BATCH);
        let buffers = self.payloads.iter_mut().zip(&mut self.addresses).zip(&mut self.controls).take(count);
        let parts = buffers.zip(&mut self.vectors).zip(&mut self.headers);
        for ((((payload, address), control), vector), header) in parts {
            *vector = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
            header.msg_hdr.msg_name = (&raw mut *address).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: the first `count` headers, which do not exceed the slice, have just been pointed to one vector,
        // buffer, address and control buffer each, with their lengths, all of which this value owns.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        self.taken = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
        Ok(self.taken)
    }

    /// What the last call received, below the number that it returned, and its payload.
    pub(crate) fn datagram(&mut self, index: usize) -> Option<(Head, &mut [u8])> {
        if index >= self.taken {
            return None;
        }
        let header = self.headers.get(index)?;
        let control_len = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        let mut head = Head {
            remote: from_system(self.addresses.get(index)?),
            local: None,
            len: (header.msg_len as usize).min(MAX_DATAGRAM_BYTES),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            dropped: None,
        };
        read_control(self.controls.get(index)?.0.get(..control_len)?, &mut head);
        Some((head, self.payloads.get_mut(index)?.get_mut(..head.len)?))
    }

    /// The payload again, as it is now.
    pub(crate) fn payload(&self, index: usize) -> &[u8; MAX_DATAGRAM_BYTES] {
        &self.payloads[index % BATCH]
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Incoming").field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// Sends packets in order without blocking, at most [`BATCH`]; returns how many went.
pub(crate) fn transmit<'a>(
    socket: BorrowedFd<'_>,
    packets: impl Iterator<Item = Packet<'a>>,
) -> io::Result<usize> {
    let mut addresses = [NO_ADDRESS; BATCH];
    let mut vectors = [[NO_VECTOR; 2]; BATCH];
    let mut headers = [NO_HEADER; BATCH];
    let mut count = 0;
    let parts = packets.zip(&mut addresses).zip(&mut vectors).zip(&mut headers);
    for (((packet, address), vectors), header) in parts {
        // A raw IPv6 socket takes the port for a protocol.
        let destination = SocketAddr::new(packet.destination.ip(), 0);
        let scope_id = match packet.destination {
            SocketAddr::V6(destination) => destination.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        header.msg_hdr.msg_namelen = to_system(destination, destination.is_ipv6(), address);
        if destination.is_ipv6() {
            address.sin6_scope_id = scope_id;
        }
        // The kernel only reads what is sent.
        *vectors = [packet.header, packet.payload]
            .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        header.msg_hdr.msg_name = (&raw mut *address).cast();
        header.msg_hdr.msg_iov = vectors.as_mut_ptr();
        header.msg_hdr.msg_iovlen = 2;
        count += 1;
    }
    // SAFETY: the first `count` headers, which do not exceed the array, point to two live vectors with the pieces'
    // lengths and one live address each.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Has a UDP socket say where its datagrams were sent to and how many it dropped.
pub(crate) fn tell_destinations(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_option(socket, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?;
    } else {
        set_option(socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    }
    set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// Sets a socket's buffers, beyond the limit of the host where this process may.
pub(crate) fn set_buffers(socket: BorrowedFd<'_>, receive: usize, transmit: usize) -> io::Result<()> {
    let sizes =
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, transmit)];
    for (force, ask, bytes) in sizes {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        if set_option(socket, libc::SOL_SOCKET, force, bytes).is_err() {
            set_option(socket, libc::SOL_SOCKET, ask, bytes)?;
        }
    }
    Ok(())
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option is an int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads control messages: `cmsghdr` and data, each padded to 8 bytes.
fn read_control(mut control: &[u8], head: &mut Head) {
    while let Some((start, _)) = control.split_first_chunk::<CMSG_HEADER>() {
        // SAFETY: cmsghdr is plain integers of these 16 bytes, any of which are valid.
        let message = unsafe { ptr::from_ref(start).cast::<libc::cmsghdr>().read_unaligned() };
        let len = message.cmsg_len as usize;
        let Some(data) = control.get(CMSG_HEADER..len) else { return };
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
                let mut address = NO_ADDRESS;
                let len = data.len().min(size_of::<libc::sockaddr_in6>());
                // SAFETY: the length fits both, and any bytes are a sockaddr_in6.
                unsafe { ptr::copy_nonoverlapping(data.as_ptr(), (&raw mut address).cast(), len) };
                head.local = from_system(&address);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                head.dropped = data.first_chunk().copied().map(u32::from_ne_bytes);
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(CMSG_ALIGNMENT)..).unwrap_or_default();
    }
}

const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();
const CMSG_ALIGNMENT: usize = size_of::<usize>();

const CONTROL_BYTES: usize = 96;

const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

const NO_HEADER: libc::mmsghdr = {
    // SAFETY: mmsghdr is plain integers and pointers, for which zero is a valid value.
    unsafe { mem::zeroed() }
};

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_socket_says_where_a_datagram_was_sent_to() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(local).expect("a free port");
            let local = socket.local_addr().expect("bound");
            tell_destinations(socket.as_fd(), local.is_ipv6()).expect("a UDP socket can");
            let sender = UdpSocket::bind((local.ip(), 0)).expect("a free port");
            sender.send_to(b"hello", local).expect("sent");
            sender.send_to(&[7; MAX_DATAGRAM_BYTES + 1], local).expect("sent");
            let mut incoming = Incoming::new();
            assert_eq!(incoming.receive(socket.as_fd(), 1).expect("received"), 1);
            assert!(incoming.datagram(1).is_none());
            let (head, payload) = incoming.datagram(0).expect("one");
            assert_eq!(payload, b"hello");
            let remote = sender.local_addr().ok();
            assert_eq!((head.local, head.remote, head.truncated), (Some(local), remote, false));
            assert_eq!(head.dropped, None);
            assert_eq!(incoming.receive(socket.as_fd(), 99).expect("received"), 1);
            assert!(incoming.datagram(0).expect("one").0.truncated);
            let error = incoming.receive(socket.as_fd(), 99).expect_err("nothing more");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_socket_counts_what_it_had_no_room_for() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        tell_destinations(socket.as_fd(), false).expect("a UDP socket can");
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4096).expect("a size");
        let local = socket.local_addr().expect("bound");
        for _ in 0..100 {
            socket.send_to(&[0; 1000], local).expect("sent");
        }
        let mut incoming = Incoming::new();
        let before = incoming.receive(socket.as_fd(), BATCH).expect("received");
        socket.send_to(b"after", local).expect("sent");
        assert_eq!(incoming.receive(socket.as_fd(), BATCH).expect("received"), 1);
        let (head, _) = incoming.datagram(0).expect("one");
        assert_eq!(head.dropped.map(|dropped| dropped as usize), Some(100 - before));
    }

    #[test]
    fn control_messages_that_end_early_are_no_harm() {
        let mut head = Head { remote: None, local: None, len: 0, truncated: false, dropped: None };
        let mut message = [0; 40];
        for len in [0usize, 1, 15, 16, 17, 39, 40, 41, usize::MAX] {
            message[..8].copy_from_slice(&len.to_ne_bytes());
            message[8..12].copy_from_slice(&libc::SOL_IP.to_ne_bytes());
            message[12..16].copy_from_slice(&libc::IP_ORIGDSTADDR.to_ne_bytes());
            for end in 0..=message.len() {
                read_control(&message[..end], &mut head);
            }
        }
        message[..8].copy_from_slice(&32usize.to_ne_bytes());
        message[16..24].copy_from_slice(&[2, 0, 0x12, 0x34, 192, 0, 2, 1]);
        read_control(&message, &mut head);
        assert_eq!(head.local, Some((Ipv4Addr::new(192, 0, 2, 1), 0x1234).into()));
    }
}
