//! Sockets. Receive times are the kernel's (`SO_TIMESTAMPNS`, taken when the packet entered the receive queue), so
//! a late reader does not look like a late packet.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use anyhow::{Context as _, bail};
use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
};

use super::{clock, sip::frame_length};

/// Space for one datagram and its control messages; reused for all.
pub(super) struct ReceiveBuffer {
    pub(super) bytes: Box<[u8]>,
    control: Vec<u8>,
}

/// A received datagram: its length in the buffer and what the kernel says of it.
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) source: SocketAddr,
    /// Monotonic; the kernel's where `kernel_time` is set, else the time of reading.
    pub(super) arrival_ns: u64,
    pub(super) kernel_time: bool,
    /// Datagrams this socket dropped since it was opened, where the kernel says.
    pub(super) dropped: Option<u32>,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 65_536].into_boxed_slice(), control: cmsg_space!(TimeSpec, u32) }
    }

    /// One datagram; `None` when there is none. `offset_ns` is [`clock::realtime_offset_ns`].
    pub(super) fn receive(&mut self, socket: &UdpSocket, offset_ns: i64) -> io::Result<Option<Received>> {
        match self.read(socket, offset_ns) {
            // An ICMP error of something sent earlier.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            other => other,
        }
    }

    /// What a stream has, and when the last of it arrived; 0 bytes at its end.
    pub(super) fn receive_stream(
        &mut self,
        socket: &TcpStream,
        offset_ns: i64,
    ) -> io::Result<Option<(usize, u64)>> {
        Ok(self.read(socket, offset_ns)?.map(|received| (received.len, received.arrival_ns)))
    }

    fn read(&mut self, socket: &impl AsFd, offset_ns: i64) -> io::Result<Option<Received>> {
        let descriptor = socket.as_fd().as_raw_fd();
        let mut iov = [IoSliceMut::new(&mut self.bytes[..])];
        let control = Some(&mut self.control[..]);
        let message = match recvmsg::<SockaddrStorage>(descriptor, &mut iov, control, MsgFlags::MSG_DONTWAIT)
        {
            Ok(message) => message,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let now_ns = clock::now_ns();
        let (mut kernel_ns, mut dropped) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => {
                    let realtime_ns = time.tv_sec() * 1_000_000_000 + time.tv_nsec();
                    let monotonic_ns = u64::try_from(realtime_ns - offset_ns).unwrap_or(0);
                    // A stepped wall clock would show as a time in the future or long ago.
                    let plausible = monotonic_ns <= now_ns + 1_000_000
                        && now_ns.saturating_sub(monotonic_ns) < 5_000_000_000;
                    kernel_ns = plausible.then_some(monotonic_ns);
                }
                ControlMessageOwned::RxqOvfl(count) => dropped = Some(count),
                _ => {}
            }
        }
        // A stream has none.
        let source = message.address.as_ref().and_then(address).unwrap_or(NOWHERE);
        Ok(Some(Received {
            len: message.bytes,
            source,
            arrival_ns: kernel_ns.unwrap_or(now_ns),
            kernel_time: kernel_ns.is_some(),
            dropped,
        }))
    }
}

/// A non-blocking UDP socket with kernel timestamps.
pub(super) fn udp(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    Ok(socket)
}

/// Hands out even/odd port pairs of a range.
pub(super) struct PortRange {
    ip: IpAddr,
    next: u32,
    last: u32,
    step: u32,
}

impl PortRange {
    /// The share of worker `part` of `parts`.
    pub(super) fn new(ip: IpAddr, (low, high): (u16, u16), part: u32, parts: u32) -> Self {
        let even = u32::from(low) + u32::from(low) % 2;
        Self { ip, next: even + 2 * part, last: u32::from(high), step: 2 * parts }
    }

    /// RTP and RTCP sockets on the next free pair.
    pub(super) fn bind_pair(&mut self) -> anyhow::Result<(UdpSocket, UdpSocket)> {
        while self.next < self.last {
            let port = self.next as u16;
            self.next += self.step;
            match (udp(SocketAddr::new(self.ip, port)), udp(SocketAddr::new(self.ip, port + 1))) {
                (Ok(rtp), Ok(rtcp)) => return Ok((rtp, rtcp)),
                (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::AddrInUse => {}
                (Err(error), _) | (_, Err(error)) => {
                    return Err(error).with_context(|| format!("cannot open {} port {port}", self.ip));
                }
            }
        }
        bail!("not enough free ports in --ports for --calls: each call takes two")
    }
}

/// Where SIP messages go and come from.
pub(super) enum SipTransport {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, peer: SocketAddr, incoming: Vec<u8>, outgoing: VecDeque<u8> },
}

impl SipTransport {
    pub(super) fn open_udp(local: IpAddr) -> anyhow::Result<Self> {
        let socket =
            udp(SocketAddr::new(local, 0)).with_context(|| format!("cannot open a UDP socket on {local}"))?;
        // The answers to a burst of calls come within milliseconds.
        setsockopt(&socket, sockopt::RcvBuf, &2_000_000)?;
        Ok(Self::Udp(socket))
    }

    pub(super) fn open_tcp(peer: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&peer, std::time::Duration::from_secs(5))
            .with_context(|| format!("cannot connect to {peer} over TCP"))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp { stream, peer, incoming: Vec::new(), outgoing: VecDeque::new() })
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp { stream, .. } => stream.local_addr(),
        }
    }

    /// Sends or queues a message. On TCP everything goes along the one connection.
    pub(super) fn send(&mut self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send_to(bytes, to).map(|_| ()),
            Self::Tcp { outgoing, .. } => {
                if outgoing.len() > MAX_TCP_QUEUE {
                    return Err(io::Error::other("the far end does not read its TCP connection"));
                }
                outgoing.extend(bytes);
                self.flush()
            }
        }
    }

    /// Writes what a full TCP socket left over.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Self::Tcp { stream, outgoing, .. } = self else { return Ok(()) };
        while !outgoing.is_empty() {
            match stream.write(outgoing.as_slices().0) {
                Ok(written) => drop(outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next whole message with its source and time of arrival.
    pub(super) fn receive(
        &mut self,
        buffer: &mut ReceiveBuffer,
        offset_ns: i64,
    ) -> io::Result<Option<(Vec<u8>, SocketAddr, u64)>> {
        match self {
            Self::Udp(socket) => {
                let received = buffer.receive(socket, offset_ns)?;
                Ok(received.map(|r| (buffer.bytes[..r.len].to_vec(), r.source, r.arrival_ns)))
            }
            Self::Tcp { stream, peer, incoming, .. } => loop {
                // Keep-alives between messages (RFC 5626) are line ends.
                let blank = incoming.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                incoming.drain(..blank);
                if let Some(length) = frame_length(incoming) {
                    return Ok(Some((incoming.drain(..length).collect(), *peer, clock::now_ns())));
                }
                if incoming.len() > 65_536 {
                    return Err(io::Error::other("a SIP message over TCP is longer than 64 KiB"));
                }
                match stream.read(&mut buffer.bytes[..]) {
                    Ok(0) => return Err(io::Error::other("the far end closed its TCP connection")),
                    Ok(read) => incoming.extend_from_slice(&buffer.bytes[..read]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            },
        }
    }
}

impl AsFd for SipTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp { stream, .. } => stream.as_fd(),
        }
    }
}

/// The local address that routes to `target`.
pub(super) fn route_to(target: SocketAddr) -> anyhow::Result<IpAddr> {
    let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target).with_context(|| format!("no route to {target}"))?;
    Ok(socket.local_addr()?.ip())
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|&address| SocketAddr::V4(SocketAddrV4::from(address)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|&address| SocketAddr::V6(SocketAddrV6::from(address))))
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const MAX_TCP_QUEUE: usize = 16 << 20;
