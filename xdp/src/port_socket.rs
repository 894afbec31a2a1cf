//! One bound kernel UDP socket: what keeps a port ours on every device.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// A port of a device of sockets.
#[derive(Debug)]
pub(crate) struct PortSocket {
    fd: OwnedFd,
    local: SocketAddr,
    /// The only address that is heard. An IPv4 socket is really connected to it.
    connected: Option<SocketAddr>,
}

impl PortSocket {
    /// Binds a socket that does not block. `receive_buffer_bytes` is what the kernel keeps for it.
    pub(crate) fn bind(local: SocketAddr, receive_buffer_bytes: usize) -> io::Result<Self> {
        let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
        sockopt::set_socket_recv_buffer_size(&fd, receive_buffer_bytes)?;
        rustix::net::bind(&fd, &local)?;
        let local = rustix::net::getsockname(&fd)?.try_into()?;
        Ok(Self { fd, local, connected: None })
    }

    /// The address, with the number that the system chose if it was bound to port 0.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Hears and sends to one address only, or anyone again (`None`).
    pub(crate) fn connect(&mut self, remote: Option<SocketAddr>) {
        if self.local.is_ipv6() {
            // After connect and disconnect an IPv6 socket still hears its former peer only (seen on Linux
            // 6.18; an IPv4 socket hears everyone again). So it is never connected; `hears` filters.
            self.connected = remote;
            return;
        }
        let connected = remote.is_some_and(|remote| rustix::net::connect(&self.fd, &remote).is_ok());
        let former = std::mem::replace(&mut self.connected, remote.filter(|_| connected));
        // It is a hint: a port that talks to anyone works too, one tied to the former peer does not.
        if !connected && former.is_some() && rustix::net::connect_unspec(&self.fd).is_ok() {
            // The kernel gives up a port that it chose itself; one that was asked for is still bound.
            let _ = rustix::net::bind(&self.fd, &self.local);
        }
    }

    /// Whether datagrams from `remote` are for the owner: before and while the kernel connects a socket, others
    /// can be queued on it.
    pub(crate) fn hears(&self, remote: SocketAddr) -> bool {
        self.connected.is_none_or(|connected| connected == remote)
    }

    /// The address to give to the kernel with a datagram to `remote`; none if the socket is connected to it.
    pub(crate) fn destination(&self, remote: SocketAddr) -> Option<SocketAddr> {
        (!self.is_connected() || self.connected != Some(remote)).then_some(remote)
    }

    /// Whether the kernel connects it. ICMP errors about earlier datagrams are reported to such a socket only.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.is_some() && self.local.is_ipv4()
    }
}

impl AsFd for PortSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether an error of a send may be about an earlier datagram (ICMP, on a connected socket): this one was not
/// tried.
pub(crate) fn is_asynchronous(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    )
}
