//! A stream as its owner has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::command::{Command, Digit, StreamId};
use engine::stream::{App, StreamParameters, StreamStatistics};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{ANSWER_PATIENCE, MediaError, MediaEvent, Removal, Shared};

/// A stream of the engine. Dropping it removes the stream, with RTCP BYE.
#[derive(Debug)]
pub struct MediaStream {
    handle: StreamHandle,
    local: SocketAddr,
    events: mpsc::Receiver<MediaEvent>,
    /// Whether dropping must still remove it.
    live: bool,
    /// Whether the owner knows that it is gone.
    lost: bool,
}

/// Asks a stream for its figures, from anywhere, as long as it lives.
#[derive(Clone, Debug)]
pub struct StreamHandle {
    shared: Arc<Shared>,
    id: StreamId,
}

impl StreamHandle {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    /// The figures now.
    ///
    /// # Errors
    /// When the stream has ended or its worker does not answer.
    pub async fn statistics(&self) -> Result<StreamStatistics, MediaError> {
        let (report, statistics) = oneshot::channel();
        {
            let mut streams = self.shared.streams();
            let registration = streams.get_mut(&self.id).ok_or(MediaError::Ended)?;
            if registration.reports.len() >= WAITING_REPORTS {
                return Err(MediaError::Overloaded);
            }
            registration.reports.push(report);
        }
        self.shared.send(Command::QueryStream { id: self.id }).await?;
        match timeout(ANSWER_PATIENCE, statistics).await {
            Ok(statistics) => statistics.map_err(|_| MediaError::Ended),
            Err(_) => Err(MediaError::Overloaded),
        }
    }
}

impl MediaStream {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: StreamId,
        local: SocketAddr,
        events: mpsc::Receiver<MediaEvent>,
    ) -> Self {
        Self { handle: StreamHandle { shared, id }, local, events, live: true, lost: false }
    }

    /// Where RTP is received.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// A handle to ask for figures.
    #[must_use]
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
    }

    /// The next event. After [`MediaEvent::Lost`] it never completes. Cancel safe.
    pub async fn next_event(&mut self) -> MediaEvent {
        if self.lost {
            return std::future::pending().await;
        }
        let event = self.events.recv().await.unwrap_or(MediaEvent::Lost);
        self.lost = event == MediaEvent::Lost;
        event
    }

    /// Applies a new offer/answer outcome.
    ///
    /// # Errors
    /// When the worker does not take the command.
    pub async fn update(&self, parameters: StreamParameters) -> Result<(), MediaError> {
        self.send(Command::UpdateStream { id: self.handle.id, parameters }).await
    }

    /// Changes what the caller hears and who hears the caller.
    ///
    /// # Errors
    /// When the worker does not take the command.
    pub async fn attach(&self, app: App) -> Result<(), MediaError> {
        self.send(Command::Attach { id: self.handle.id, app }).await
    }

    /// Sends a key to the caller (RFC 4733).
    ///
    /// # Errors
    /// When the worker does not take the command.
    pub async fn send_dtmf(&self, digit: Digit, duration: Duration) -> Result<(), MediaError> {
        self.send(Command::SendDtmf { id: self.handle.id, digit, duration }).await
    }

    /// Hands a key that came by signalling to the app.
    ///
    /// # Errors
    /// When the worker does not take the command.
    pub async fn relay_dtmf(&self, digit: Digit, duration: Duration) -> Result<(), MediaError> {
        self.send(Command::RelayDtmf { id: self.handle.id, digit, duration }).await
    }

    /// The figures now.
    ///
    /// # Errors
    /// When the stream has ended or its worker does not answer.
    pub async fn statistics(&self) -> Result<StreamStatistics, MediaError> {
        self.handle.statistics().await
    }

    /// Ends the stream with RTCP BYE; its last figures.
    ///
    /// # Errors
    /// When the stream has ended already or its worker does not answer.
    pub async fn remove(mut self) -> Result<StreamStatistics, MediaError> {
        let (removed, statistics) = oneshot::channel();
        match self.handle.shared.streams().get_mut(&self.handle.id) {
            Some(registration) => registration.removed = Some(removed),
            None => {
                self.live = false;
                return Err(MediaError::Ended);
            }
        }
        self.handle.shared.remove_later(Removal::Stream(self.handle.id));
        self.live = false;
        match timeout(ANSWER_PATIENCE, statistics).await {
            Ok(statistics) => statistics.map_err(|_| MediaError::Ended),
            Err(_) => Err(MediaError::Overloaded),
        }
    }

    /// Lets go of a stream that never started.
    pub(super) fn forget(mut self) {
        self.live = false;
    }

    async fn send(&self, command: Command) -> Result<(), MediaError> {
        self.handle.shared.send(command).await
    }
}

impl Drop for MediaStream {
    fn drop(&mut self) {
        if self.live {
            self.handle.shared.remove_later(Removal::Stream(self.handle.id));
        }
    }
}

/// Questions about one stream that may wait at once.
const WAITING_REPORTS: usize = 16;
