//! Many datagrams of one socket in one call.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg take raw pointers to buffers and addresses")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::MAX_DATAGRAM_BYTES;

/// How many datagrams one call takes at most. Media sockets hold one or two.
pub(crate) const RECEIVE_BATCH: usize = 16;

/// How many datagrams one call sends at most.
pub(crate) const TRANSMIT_BATCH: usize = 32;

/// What [`receive_batch`] says about the buffer with the same index.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// How many bytes of the buffer.
    pub(crate) len: usize,
    /// Whether the datagram was longer than the buffer.
    pub(crate) truncated: bool,
    /// The sender; `None` for an address family that is not IP.
    pub(crate) remote: Option<SocketAddr>,
}

/// One datagram for [`transmit_batch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending<'a> {
    /// `None` on a connected socket.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) payload: &'a [u8],
}

/// Takes waiting datagrams, at most one per buffer and [`RECEIVE_BATCH`], without blocking.
pub(crate) fn receive_batch(
    socket: BorrowedFd<'_>,
    buffers: &mut [[u8; MAX_DATAGRAM_BYTES]],
    received: &mut [Received; RECEIVE_BATCH],
) -> io::Result<usize> {
    let mut addresses = [NO_ADDRESS; RECEIVE_BATCH];
    let mut vectors = [NO_VECTOR; RECEIVE_BATCH];
    let mut headers = [NO_HEADER; RECEIVE_BATCH];
    let count = buffers.len().min(RECEIVE_BATCH);
    let parts = buffers.iter_mut().zip(&mut addresses).zip(&mut vectors).zip(&mut headers);
    for (((buffer, address), vector), header) in parts {
        *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        header.msg_hdr.msg_name = (&raw mut *address).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the first `count` headers point to one live vector, buffer and address each, with their lengths,
    // and `count` does not exceed the array.
    let taken = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let taken = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
    for ((received, header), address) in received.iter_mut().zip(&headers).zip(&addresses).take(taken) {
        *received = Received {
            len: (header.msg_len as usize).min(MAX_DATAGRAM_BYTES),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            remote: from_system(address),
        };
    }
    Ok(taken)
}

/// Takes one waiting datagram without blocking: two thirds of the cost of [`receive_batch`], which always looks for
/// another one.
pub(crate) fn receive_one(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8; MAX_DATAGRAM_BYTES],
) -> io::Result<Received> {
    let mut address = NO_ADDRESS;
    let mut address_len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    // SAFETY: buffer and address are live and as long as is said.
    let len = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            // Answers with the whole length.
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            (&raw mut address).cast(),
            &raw mut address_len,
        )
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let truncated = len > buffer.len();
    Ok(Received { len: len.min(buffer.len()), truncated, remote: from_system(&address) })
}

/// Sends one datagram without blocking.
pub(crate) fn transmit_one(socket: BorrowedFd<'_>, ipv6: bool, datagram: Sending<'_>) -> io::Result<()> {
    let mut address = NO_ADDRESS;
    let (name, name_len) = match datagram.remote {
        Some(remote) => {
            let len = to_system(remote, ipv6, &mut address);
            (ptr::from_ref(&address).cast(), len)
        }
        None => (ptr::null(), 0),
    };
    // SAFETY: the payload and, if not null, the address are live and as long as is said.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            datagram.payload.as_ptr().cast(),
            datagram.payload.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            name,
            name_len,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends datagrams in order without blocking, at most [`TRANSMIT_BATCH`]; returns how many went.
pub(crate) fn transmit_batch<'a>(
    socket: BorrowedFd<'_>,
    ipv6: bool,
    datagrams: impl Iterator<Item = Sending<'a>>,
) -> io::Result<usize> {
    let mut addresses = [NO_ADDRESS; TRANSMIT_BATCH];
    let mut vectors = [NO_VECTOR; TRANSMIT_BATCH];
    let mut headers = [NO_HEADER; TRANSMIT_BATCH];
    let mut count = 0;
    let parts = datagrams.zip(&mut addresses).zip(&mut vectors).zip(&mut headers);
    for (((datagram, address), vector), header) in parts {
        // The kernel only reads what is sent.
        let iov_base = datagram.payload.as_ptr().cast_mut().cast();
        *vector = libc::iovec { iov_base, iov_len: datagram.payload.len() };
        if let Some(remote) = datagram.remote {
            header.msg_hdr.msg_namelen = to_system(remote, ipv6, address);
            header.msg_hdr.msg_name = (&raw mut *address).cast();
        }
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers point to one live vector, payload and, if not null, address each, with
    // their lengths, and `count` does not exceed the array.
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

/// Reads a socket address of either family; IPv4-mapped IPv6 becomes IPv4.
pub(crate) fn from_system(address: &libc::sockaddr_in6) -> Option<SocketAddr> {
    match i32::from(address.sin6_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_in6 is longer than sockaddr_in and as aligned, every bit pattern is valid, and
            // the family says that the kernel wrote a sockaddr_in.
            let address = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddrV4::new(ip, port).into(),
                None => SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

/// Writes a socket address as a socket of the given family wants it; returns its length.
pub(crate) fn to_system(remote: SocketAddr, ipv6: bool, address: &mut libc::sockaddr_in6) -> libc::socklen_t {
    let (ip, scope_id) = match remote {
        SocketAddr::V4(remote) if !ipv6 => {
            let address = &raw mut *address;
            let short = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: remote.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*remote.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the target is a whole sockaddr_in6, which is longer than sockaddr_in and as aligned.
            unsafe { address.cast::<libc::sockaddr_in>().write(short) };
            return size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        SocketAddr::V4(remote) => (remote.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(remote) => (*remote.ip(), remote.scope_id()),
    };
    *address = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: remote.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
        sin6_scope_id: scope_id,
    };
    size_of::<libc::sockaddr_in6>() as libc::socklen_t
}

pub(crate) const NO_ADDRESS: libc::sockaddr_in6 = libc::sockaddr_in6 {
    sin6_family: 0,
    sin6_port: 0,
    sin6_flowinfo: 0,
    sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
    sin6_scope_id: 0,
};

const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

const NO_HEADER: libc::mmsghdr = {
    // SAFETY: mmsghdr is plain integers and pointers, for which zero is a valid value.
    unsafe { mem::zeroed() }
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_survives_the_way_through_the_system(ip: std::net::IpAddr, port: u16, ipv6: bool) {
            let ipv6 = ipv6 || ip.is_ipv6();
            let mut system = NO_ADDRESS;
            to_system(SocketAddr::new(ip, port), ipv6, &mut system);
            prop_assert_eq!(from_system(&system), Some(SocketAddr::new(ip.to_canonical(), port)));
        }
    }

    #[test]
    fn a_foreign_address_family_is_no_address() {
        assert_eq!(from_system(&NO_ADDRESS), None);
    }
}
