//! The HTTP server: accepts, times out slow clients, limits how many there are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::door::Peer;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The local address cannot be had.
    #[error("cannot listen for HTTP on {address}: {source}; choose another address with --http-bind")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}

/// An open address that nobody serves yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    local: SocketAddr,
}

impl HttpListener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let bind = |source| HttpError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let local = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, local })
    }

    /// Where it listens, after port 0 was replaced.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves `router` on the current tokio runtime, to `connections` clients at once.
    #[must_use]
    pub fn serve(self, connections: usize, router: Router) -> HttpServer {
        let stop = CancellationToken::new();
        tokio::spawn(accept(self.listener, connections.max(1), router, stop.clone()));
        HttpServer { local: self.local, stop }
    }
}

/// A running server. Dropping it closes its connections.
#[derive(Debug)]
pub struct HttpServer {
    local: SocketAddr,
    stop: CancellationToken,
}

impl HttpServer {
    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, connections: usize, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(connections));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: give others time to close theirs.
                tracing::warn!(%error, "HTTP connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            // Closed at once: a client that waits in a queue would not know why.
            drop(stream);
            continue;
        };
        let router = router.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(stream, peer.ip(), router) => {}
            }
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.to_canonical()));
        router.call(request)
    });
    // Answers are written whole; waiting for more to send helps nobody.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A client that does not read its answer holds its place no longer than this.
    match tokio::time::timeout(CONNECTION_LIMIT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection ended"),
    }
}

/// A request's head must be complete within this time; the same for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
