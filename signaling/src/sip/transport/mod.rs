//! Sockets, with limits before anything else (RFC 3261 18).

mod tcp;
mod tls;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rsipstack::sip::{Host, HostWithPort, Transport as BoughtTransport};
use rsipstack::transport::{SipAddr, SipConnection};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub(super) use tcp::{TcpConnections, TcpContext, bind_tcp, connect, listen};
pub(super) use tls::Tls;
pub use tls::TlsError;
pub(super) use udp::{UdpListener, receive};

use super::counters::SipCounters;
use super::incoming::Transport;
use super::message::Via;

/// Who gets what arrives.
pub(super) trait Handle: Send + Sync + 'static {
    /// One datagram, or one framed message of a stream.
    fn handle(&self, flow: &Flow, data: &[u8]) -> impl Future<Output = ()> + Send;
}

/// The way back to a peer: a UDP socket and an address, or a TCP connection.
#[derive(Clone)]
pub(super) struct Flow {
    pub(super) transport: Transport,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Whom a certificate has proven the peer to be; empty where none was asked for.
    name: Arc<str>,
    connection: SipConnection,
    raw: RawSender,
    counters: Arc<SipCounters>,
}

#[derive(Clone)]
enum RawSender {
    Udp(Arc<UdpSocket>),
    Tcp(TcpSender),
}

/// The way into a connection's writer, bounded in messages and in bytes: a peer that asks and does not read
/// must not make us hold its answers.
#[derive(Clone)]
struct TcpSender {
    queue: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl TcpSender {
    fn try_send(&self, bytes: Vec<u8>) -> bool {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(length) else { return false };
        self.queue.try_send((bytes, room)).is_ok()
    }

    /// Waits until at most half of the room is taken.
    async fn drained(&self) {
        // It is never closed, and half of it is given back as soon as it is had.
        let _ = self.room.acquire_many(WRITE_QUEUE_BYTES as u32 / 2).await;
    }
}

/// What may wait to be written to a connection: room for one of the largest messages and some more.
const WRITE_QUEUE_BYTES: usize = 128 * 1024;

impl Flow {
    pub(super) fn connection(&self) -> SipConnection {
        self.connection.clone()
    }

    pub(super) fn remote_sip_addr(&self) -> SipAddr {
        sip_addr(self.transport, self.remote)
    }

    /// The same socket towards another peer; a TCP connection has only the one.
    pub(super) fn towards(&self, remote: SocketAddr) -> Self {
        match self.transport {
            Transport::Udp => Self { remote, ..self.clone() },
            Transport::Tcp | Transport::Tls => self.clone(),
        }
    }

    /// Where the answer to a request over UDP goes that does not ask for its source port with `rport`: the
    /// port of its sent-by (RFC 3261 18.2.2, RFC 3581 4). Some gateways send from one port and listen on
    /// another. Where the sent-by is not the address that it came from there is a NAT between, or a name that
    /// anybody can write, and only the source port leads back.
    pub(super) fn for_answers(&self, via: &Via) -> Self {
        let sent_by = via.host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let direct = sent_by == Some(self.remote.ip().to_canonical()) && via.param("rport").is_none();
        if self.transport == Transport::Udp && direct {
            return self.towards(SocketAddr::new(self.remote.ip(), via.port.unwrap_or(5060)));
        }
        self.clone()
    }

    /// Whether something sent now can still arrive.
    pub(super) fn is_open(&self) -> bool {
        match &self.raw {
            RawSender::Udp(_) => true,
            RawSender::Tcp(sender) => !sender.queue.is_closed(),
        }
    }

    /// Whether somebody besides the connection's reader holds this flow.
    fn in_use(&self) -> bool {
        match &self.raw {
            RawSender::Udp(_) => true,
            RawSender::Tcp(sender) => sender.queue.strong_count() > 1,
        }
    }

    /// Waits until a peer has read enough of our answers to be asked for more.
    async fn drained(&self) {
        if let RawSender::Tcp(sender) = &self.raw {
            sender.drained().await;
        }
    }

    /// Sends bytes, waiting for the socket where it is busy. `false` when they cannot go out.
    pub(super) async fn transmit(&self, bytes: Vec<u8>) -> bool {
        let sent = match &self.raw {
            RawSender::Udp(socket) => socket.send_to(&bytes, self.remote).await.is_ok(),
            RawSender::Tcp(sender) => sender.try_send(bytes),
        };
        if !sent {
            self.counters.transmit_errors.increment();
        }
        sent
    }

    /// Completes when the connection is gone; never for datagrams.
    pub(super) async fn closed(&self) {
        match &self.raw {
            RawSender::Udp(_) => std::future::pending().await,
            RawSender::Tcp(sender) => sender.queue.closed().await,
        }
    }

    /// Sends bytes without a transaction and without waiting; what the network does not take is counted.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        let sent = match &self.raw {
            RawSender::Udp(socket) => socket.try_send_to(&bytes, self.remote).is_ok(),
            RawSender::Tcp(sender) => sender.try_send(bytes),
        };
        if !sent {
            self.counters.transmit_errors.increment();
        }
    }

    /// The local address as the peer sees it: never `0.0.0.0` or `::`.
    pub(super) fn local_ip(&self) -> IpAddr {
        if !self.local.ip().is_unspecified() {
            return self.local.ip();
        }
        // The kernel's routing table knows; connecting a UDP socket sends nothing.
        let any = if self.remote.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let probe = std::net::UdpSocket::bind(any).and_then(|socket| {
            socket.connect(self.remote)?;
            socket.local_addr()
        });
        probe.map_or_else(|_| self.local.ip(), |address| address.ip())
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} - {}", self.transport.name(), self.local, self.remote)
    }
}

fn sip_addr(transport: Transport, address: SocketAddr) -> SipAddr {
    let transport = match transport {
        Transport::Udp => BoughtTransport::Udp,
        Transport::Tcp => BoughtTransport::Tcp,
        Transport::Tls => BoughtTransport::Tls,
    };
    let host = Host::IpAddr(address.ip());
    SipAddr { r#type: Some(transport), addr: HostWithPort { host, port: Some(address.port().into()) } }
}
