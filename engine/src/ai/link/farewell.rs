//! The end of a connection: what is still said, and for how long a peer is waited for.

use tokio::time::timeout;

use super::super::carrier::Close;
use super::super::session::AiFailure;
use super::super::uplink::Uplink;
use super::{Link, LinkEnd};
use crate::time::Duration;

impl Link {
    /// Says what is left to say, with [`Item::Stop`] at its end, and closes. What the backend still sends is
    /// read and thrown away.
    pub(in super::super) async fn say_goodbye(mut self, mut uplink: Uplink) {
        uplink.push_stop();
        let goodbye = async {
            loop {
                for (kind, bytes) in self.outbox.messages().skip(self.written) {
                    self.socket.send(kind, bytes).await?;
                }
                self.outbox.clear();
                self.written = 0;
                let Some(item) = uplink.pop() else { break };
                self.encode(&item);
            }
            self.socket.close(Close::NORMAL).await?;
            self.socket.read_out().await
        };
        match timeout(CLOSE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => tracing::debug!("the AI stream is closed"),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the AI backend did not wait for the end of the stream");
            }
            Err(_) => tracing::debug!("the AI backend did not answer the close in time"),
        }
    }

    /// The courtesies to a peer whose connection is over.
    pub(in super::super) async fn retire(mut self, end: &LinkEnd) {
        let code = match end {
            // Answers the close frame; the carrier has queued it.
            LinkEnd::Closed { .. } => {
                let _ = timeout(CLOSE_TIMEOUT, self.socket.flush()).await;
                return;
            }
            LinkEnd::Failed(AiFailure::Protocol(_)) => Close::PROTOCOL,
            LinkEnd::Failed(AiFailure::MessageTooLarge(_)) => Close::TOO_LARGE,
            LinkEnd::Failed(AiFailure::PingTimeout) => Close::AWAY,
            LinkEnd::Failed(AiFailure::Rejected { .. }) => Close::NORMAL,
            LinkEnd::Failed(_) => return,
        };
        self.close(code).await;
    }

    /// Tells the backend why the connection ends. What it still sends is read for a moment: closing a socket
    /// with unread data resets it, and the close frame would be lost.
    pub(super) async fn close(&mut self, code: u16) {
        let _ = timeout(CLOSE_TIMEOUT, async {
            if self.socket.close(code).await.is_ok() {
                self.socket.discard().await;
            }
        })
        .await;
    }
}

/// How long the end of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
