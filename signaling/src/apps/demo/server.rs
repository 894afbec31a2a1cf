//! The demo agent's socket: a WebSocket server on 127.0.0.1.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Message};

use super::conversation::{Conversation, Output};

/// A running demo agent. Dropping it ends it, calls included.
#[derive(Debug)]
pub struct DemoAgent {
    /// Where it listens: `ws://127.0.0.1:PORT/demo`.
    pub url: String,
    server: JoinHandle<()>,
}

impl DemoAgent {
    /// Starts listening on a free port of 127.0.0.1. Called within a tokio runtime.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("ws://{}/demo", listener.local_addr()?);
        let server = tokio::spawn(serve(TcpListener::from_std(listener)?));
        Ok(Self { url, server })
    }
}

impl Drop for DemoAgent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CALLS));
    // Dropped with this task, and the calls with it.
    let mut calls = tokio::task::JoinSet::new();
    loop {
        while calls.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((tcp, _)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    calls.spawn(async move {
                        if let Err(error) = talk(tcp).await {
                            tracing::debug!(%error, "a call of the demo agent broke");
                        }
                        drop(place);
                    });
                }
                Err(_) => {
                    tracing::warn!(limit = MAX_CALLS, "the demo agent has too many calls, one was refused")
                }
            },
            Err(error) => {
                tracing::warn!(%error, "the demo agent cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn talk(tcp: TcpStream) -> Result<(), tungstenite::Error> {
    tcp.set_nodelay(true)?;
    let mut limits = WebSocketConfig::default();
    limits.max_message_size = Some(MAX_MESSAGE_BYTES);
    limits.max_frame_size = Some(MAX_MESSAGE_BYTES);
    limits.read_buffer_size = READ_BUFFER_BYTES;
    let upgrade = tokio_tungstenite::accept_async_with_config(tcp, Some(limits));
    let mut socket =
        timeout(START_LIMIT, upgrade).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;

    let mut conversation = Conversation::new();
    loop {
        let limit = if conversation.has_started() { IDLE_LIMIT } else { START_LIMIT };
        let Ok(message) = timeout(limit, socket.next()).await else {
            return goodbye(socket, CloseCode::Away).await;
        };
        let Some(message) = message else { return Ok(()) };
        if let Message::Text(text) = message? {
            conversation.handle_message(&text);
        }
        while let Some(output) = conversation.poll_output() {
            match output {
                Output::Send(text) => timeout(WRITE_LIMIT, socket.send(Message::text(text)))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
                Output::Close => return goodbye(socket, CloseCode::Normal).await,
            }
        }
    }
}

/// Closes and reads what still comes until the other side has closed too.
async fn goodbye(
    mut socket: tokio_tungstenite::WebSocketStream<TcpStream>,
    code: CloseCode,
) -> Result<(), tungstenite::Error> {
    let _ = timeout(WRITE_LIMIT, async {
        socket.close(Some(CloseFrame { code, reason: "".into() })).await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<_, tungstenite::Error>(())
    })
    .await;
    Ok(())
}

const MAX_CALLS: usize = 256;
/// Ours are about 400 bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const READ_BUFFER_BYTES: usize = 4096;
/// For the upgrade and for `start`.
const START_LIMIT: Duration = Duration::from_secs(10);
/// A call sends 50 messages a second, or a ping every 10 s on hold.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const WRITE_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
