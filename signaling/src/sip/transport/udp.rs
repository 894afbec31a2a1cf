//! SIP over UDP: one socket per local address.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use rsipstack::platform::net::UdpSocket as BoughtUdpSocket;
use rsipstack::transport::SipConnection;
use rsipstack::transport::udp::{UdpConnection, UdpInner};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Flow, Handle, RawSender, sip_addr};
use crate::sip::counters::SipCounters;
use crate::sip::incoming::Transport;

/// A bound UDP socket.
pub(in crate::sip) struct UdpListener {
    socket: Arc<UdpSocket>,
    connection: SipConnection,
    local: SocketAddr,
    counters: Arc<SipCounters>,
}

impl UdpListener {
    pub(in crate::sip) fn bind(address: SocketAddr, counters: Arc<SipCounters>) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Room for bursts, so that a flood does not push out the BYEs of running calls. The kernel may
        // grant less, which is no error.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let local = socket.local_addr()?;
        let sender = CountingSocket { socket: socket.clone(), counters: counters.clone() };
        let inner = UdpInner { conn: Arc::new(sender), addr: sip_addr(Transport::Udp, local) };
        // `attach` is asynchronous in name only.
        let attached = UdpConnection::attach(inner, None, None).now_or_never();
        let connection = SipConnection::Udp(attached.ok_or(std::io::ErrorKind::WouldBlock)?);
        Ok(Self { socket, connection, local, counters })
    }

    pub(in crate::sip) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(in crate::sip) fn flow(&self, remote: SocketAddr) -> Flow {
        Flow {
            transport: Transport::Udp,
            local: self.local,
            remote,
            name: Arc::from(""),
            connection: self.connection.clone(),
            raw: RawSender::Udp(self.socket.clone()),
            counters: self.counters.clone(),
        }
    }
}

/// Hands every datagram to the handler, one after the other, forever.
pub(in crate::sip) async fn receive<H: Handle>(listener: Arc<UdpListener>, handler: Arc<H>) {
    let mut buffer = vec![0; 65_536];
    loop {
        match listener.socket.recv_from(&mut buffer).await {
            Ok((length, remote)) => {
                if let Some(datagram) = buffer.get(..length).filter(|_| remote.port() != 0) {
                    handler.handle(&listener.flow(remote), datagram).await;
                }
            }
            // ICMP errors of earlier datagrams surface here and say nothing about this socket.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Sending for the transactions; receiving is ours.
struct CountingSocket {
    socket: Arc<UdpSocket>,
    counters: Arc<SipCounters>,
}

#[async_trait::async_trait]
impl BoughtUdpSocket for CountingSocket {
    async fn recv_from(&self, _buffer: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        std::future::pending().await
    }

    async fn send_to(&self, bytes: &[u8], address: SocketAddr) -> rsipstack::Result<usize> {
        // A datagram that the kernel refuses is a lost one: the transaction's timers must go on as they
        // would, or it never ends.
        if self.socket.send_to(bytes, address).await.is_err() {
            self.counters.transmit_errors.increment();
        }
        Ok(bytes.len())
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
