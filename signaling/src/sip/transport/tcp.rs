//! SIP over TCP (RFC 3261 18): an accept loop with caps, one reader and one writer per connection.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::{SipConnection, TransportEvent};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Flow, Handle, RawSender, TcpSender, WRITE_QUEUE_BYTES, sip_addr};
use crate::sip::config::SipLimits;
use crate::sip::counters::SipCounters;
use crate::sip::incoming::Transport;
use crate::sip::message::{Frame, frame};

/// Messages that may wait for a slow reader before the connection is given up.
const WRITE_QUEUE: usize = 512;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The connections that are open, for the caps, and to be used again (RFC 5923).
#[derive(Default)]
pub(in crate::sip) struct TcpConnections {
    per_source: Mutex<HashMap<IpAddr, usize>>,
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

/// A connection that does not keep it in use.
struct Open {
    transport: Transport,
    remote: SocketAddr,
    name: Arc<str>,
    local: SocketAddr,
    connection: SipConnection,
    queue: mpsc::WeakSender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// What a connection is, besides its bytes.
pub(super) struct Link {
    pub(super) transport: Transport,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Whom a certificate has proven the peer to be.
    pub(super) name: String,
}

impl TcpConnections {
    pub(in crate::sip) fn count(&self) -> usize {
        self.per_source.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// An open connection to a peer. Over TLS it has to be one whose peer has proven its name, unless it came to us: then
    /// no name is asked for.
    pub(in crate::sip) fn open(
        &self,
        remote: SocketAddr,
        transport: Transport,
        name: Option<&str>,
        counters: &Arc<SipCounters>,
    ) -> Option<Flow> {
        let connections = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |open: &&Open| {
            let proven =
                transport != Transport::Tls || name.is_none_or(|name| open.name.eq_ignore_ascii_case(name));
            open.remote == remote && open.transport == transport && proven
        };
        connections.values().filter(fits).find_map(|open| {
            let queue = open.queue.upgrade().filter(|queue| !queue.is_closed())?;
            Some(Flow {
                transport,
                local: open.local,
                remote,
                name: open.name.clone(),
                connection: open.connection.clone(),
                raw: RawSender::Tcp(TcpSender { queue, room: open.room.clone() }),
                counters: counters.clone(),
            })
        })
    }

    fn note(self: &Arc<Self>, flow: &Flow) -> Noted {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if let RawSender::Tcp(sender) = &flow.raw {
            let open = Open {
                transport: flow.transport,
                remote: flow.remote,
                name: flow.name.clone(),
                local: flow.local,
                connection: flow.connection.clone(),
                queue: sender.queue.downgrade(),
                room: sender.room.clone(),
            };
            self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, open);
        }
        Noted { connections: self.clone(), id }
    }

    pub(super) fn admit(self: &Arc<Self>, source: IpAddr, limits: &SipLimits) -> Option<Admission> {
        let mut sources = self.per_source.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.values().sum::<usize>() >= limits.tcp_connections {
            return None;
        }
        let count = sources.entry(source).or_default();
        if *count >= limits.tcp_connections_per_source {
            return None;
        }
        *count += 1;
        Some(Admission { connections: self.clone(), source })
    }
}

/// Until its end a connection may be used again.
struct Noted {
    connections: Arc<TcpConnections>,
    id: u64,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

pub(super) struct Admission {
    connections: Arc<TcpConnections>,
    source: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut sources = self.connections.per_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// What every connection is served with.
pub(in crate::sip) struct TcpContext<H> {
    pub(in crate::sip) connections: Arc<TcpConnections>,
    pub(in crate::sip) limits: SipLimits,
    pub(in crate::sip) counters: Arc<SipCounters>,
    pub(in crate::sip) closing: CancellationToken,
    pub(in crate::sip) handler: Arc<H>,
}

impl<H> Clone for TcpContext<H> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            limits: self.limits.clone(),
            counters: self.counters.clone(),
            closing: self.closing.clone(),
            handler: self.handler.clone(),
        }
    }
}

/// Opens a listening socket.
pub(in crate::sip) fn bind_tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process in TIME_WAIT must not keep this one from starting.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(256)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until the context closes.
pub(in crate::sip) async fn listen<H: Handle>(listener: TcpListener, context: TcpContext<H>) {
    loop {
        let accepted = tokio::select! {
            () = context.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, remote)) = accepted else {
            // Out of descriptors or a connection that was reset while it waited: the next may do better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(admission) = context.connections.admit(remote.ip(), &context.limits) else {
            context.counters.tcp_refused.increment();
            continue;
        };
        context.counters.tcp_accepted.increment();
        // An error means that the connection has already broken.
        let _ = start_tcp(stream, remote, &context, Some(admission)).await;
    }
}

/// Opens a connection to a peer for a request of ours (RFC 3261 18.1.1).
pub(in crate::sip) async fn connect<H: Handle>(remote: SocketAddr, context: &TcpContext<H>) -> Option<Flow> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(remote)).await.ok()?.ok()?;
    start_tcp(stream, remote, context, None).await
}

async fn start_tcp<H: Handle>(
    stream: TcpStream,
    remote: SocketAddr,
    context: &TcpContext<H>,
    admission: Option<Admission>,
) -> Option<Flow> {
    let local = stream.local_addr().ok()?;
    stream.set_nodelay(true).ok()?;
    let link = Link { transport: Transport::Tcp, local, remote, name: String::new() };
    start(stream.into_split(), link, context, admission).await
}

/// Serves a byte stream.
pub(super) async fn start<H, R, W>(
    (read, write): (R, W),
    link: Link,
    context: &TcpContext<H>,
    admission: Option<Admission>,
) -> Option<Flow>
where
    H: Handle,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let Link { transport, local, remote, name } = link;
    let (_unused, incoming) = mpsc::unbounded_channel();
    let (outgoing, messages) = mpsc::channel(WRITE_QUEUE);
    let (raw, bytes) = mpsc::channel(WRITE_QUEUE);
    let address = sip_addr(transport, remote);
    let connection =
        ChannelConnection::create_connection_bounded(incoming, outgoing, address, None).await.ok()?;
    let flow = Flow {
        transport,
        local,
        remote,
        name: Arc::from(name),
        connection: SipConnection::Channel(connection),
        raw: RawSender::Tcp(TcpSender { queue: raw, room: Arc::new(Semaphore::new(WRITE_QUEUE_BYTES)) }),
        counters: context.counters.clone(),
    };
    let closing = context.closing.child_token();
    tokio::spawn(write_loop(write, messages, bytes, closing.clone(), context.counters.clone()));
    let mut reader =
        Reader { read, flow: flow.clone(), buffer: Vec::new(), scanned: 0, context: context.clone() };
    let noted = context.connections.note(&flow);
    tokio::spawn(async move {
        let _kept = (admission, noted);
        tokio::select! {
            () = closing.cancelled() => {}
            () = reader.run() => closing.cancel(),
        }
    });
    Some(flow)
}

async fn write_loop<W: AsyncWrite + Send + Unpin>(
    mut write: W,
    mut messages: mpsc::Receiver<TransportEvent>,
    mut bytes: mpsc::Receiver<(Vec<u8>, OwnedSemaphorePermit)>,
    closing: CancellationToken,
    counters: Arc<SipCounters>,
) {
    loop {
        // The room is given back when the bytes are written.
        let (data, _room) = tokio::select! {
            biased;
            Some(message) = messages.recv() => match message {
                TransportEvent::Incoming(message, _, _) => (message.to_bytes(), None),
                _ => continue,
            },
            Some((bytes, room)) = bytes.recv() => (bytes, Some(room)),
            () = closing.cancelled() => break,
            else => break,
        };
        // A peer that does not read costs its own connection only.
        let writing = async {
            write.write_all(&data).await?;
            // TLS has a buffer of its own.
            write.flush().await
        };
        if !matches!(timeout(WRITE_TIMEOUT, writing).await, Ok(Ok(()))) {
            counters.transmit_errors.increment();
            break;
        }
    }
    closing.cancel();
    drop(bytes);
    // A peer that reads nothing does not hear of the end, either.
    let _ = timeout(WRITE_TIMEOUT, write.shutdown()).await;
    drop(write);
    // Transactions go on sending until their timers end them, which a failed send would prevent.
    while messages.recv().await.is_some() {
        counters.transmit_errors.increment();
    }
}

struct Reader<H, R> {
    read: R,
    flow: Flow,
    buffer: Vec<u8>,
    /// How far the buffer was searched for the end of a head, so that a trickle is not searched again.
    scanned: usize,
    context: TcpContext<H>,
}

impl<H: Handle, R: AsyncRead + Send + Unpin> Reader<H, R> {
    async fn run(&mut self) {
        let mut idle_since = Instant::now();
        let mut chunk = vec![0; 8192];
        loop {
            // Who does not read is not read from; the writer gives up on them in time.
            self.flow.drained().await;
            let limits = &self.context.limits;
            let wait = if self.buffer.is_empty() { limits.tcp_idle } else { limits.tcp_message };
            let deadline = idle_since + wait;
            match tokio::time::timeout_at(deadline, self.read.read(&mut chunk)).await {
                Err(_) if self.buffer.is_empty() && self.flow.in_use() => idle_since = Instant::now(),
                Err(_) => {
                    self.context.counters.tcp_idle_closed.increment();
                    return;
                }
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(length)) => {
                    if self.buffer.is_empty() {
                        idle_since = Instant::now();
                    }
                    self.buffer.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    let before = self.buffer.len();
                    if !self.drain().await {
                        self.context.counters.tcp_framing_errors.increment();
                        // Leaves a last answer the time to go out.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        return;
                    }
                    if self.buffer.len() < before {
                        idle_since = Instant::now();
                    }
                    // Many busy connections must not keep the UDP socket waiting for its turn.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Handles what is complete. `false` when the stream cannot be framed any more.
    async fn drain(&mut self) -> bool {
        loop {
            match frame(&self.buffer, self.scanned) {
                Frame::KeepAlive { length, ping } => {
                    self.context.counters.keepalives.increment();
                    if ping {
                        // RFC 5626 3.5.1: a double CRLF is answered by a single one.
                        self.flow.send(b"\r\n".to_vec());
                    }
                    self.consume(length);
                }
                Frame::Incomplete { scanned } => {
                    self.scanned = scanned;
                    return true;
                }
                Frame::Message { length } => {
                    let message = self.buffer.get(..length).unwrap_or_default();
                    self.context.handler.handle(&self.flow, message).await;
                    self.consume(length);
                }
                Frame::Broken => {
                    self.context.handler.handle(&self.flow, &self.buffer).await;
                    return false;
                }
            }
        }
    }

    fn consume(&mut self, length: usize) {
        self.buffer.drain(..length.min(self.buffer.len()));
        self.scanned = 0;
    }
}
