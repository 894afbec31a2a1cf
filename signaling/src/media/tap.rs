//! Listeners of calls: WebSockets that hear a stream or a relay and are not heard.

use engine::ai::dialect::{TapDialect, TapTracks};
use engine::ai::tap::{TapConfig, TapFigures, TapHandle, TapId, Taps};
use engine::ai::{CallMeta, ConnectError};
use engine::command::{Command, Tapped};

use super::{Media, MediaError, RelayHandle, Removal, Shared, StreamHandle};

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// One call has only so many listeners.
    #[error("the call has {} listeners already; end one first", Taps::CAPACITY)]
    TooMany,
    /// The listener cannot be reached, or the configuration cannot work.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The call cannot be told.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// A listener of a call.
#[derive(Clone, Debug)]
pub struct MediaTap {
    call: Tapped,
    handle: TapHandle,
    /// What it understands.
    pub dialect: TapDialect,
    /// What it hears.
    pub tracks: TapTracks,
}

impl MediaTap {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> TapId {
        self.handle.id()
    }

    /// What it has heard.
    #[must_use]
    pub fn figures(&self) -> TapFigures {
        self.handle.figures()
    }
}

impl StreamHandle {
    /// The call, for [`Media::tap`].
    #[must_use]
    pub fn tapped(&self) -> Tapped {
        Tapped::Stream(self.id())
    }
}

impl RelayHandle {
    /// The call, for [`Media::tap`].
    #[must_use]
    pub fn tapped(&self) -> Tapped {
        Tapped::Relay(self.id())
    }
}

impl Media {
    /// Has a listener hear a call until the call is over, the listener closes, or [`Media::untap`].
    ///
    /// # Errors
    /// When the call has too many, or the listener cannot be reached.
    pub async fn tap(&self, call: Tapped, config: TapConfig, meta: CallMeta) -> Result<MediaTap, TapError> {
        let (dialect, tracks) = (config.dialect, config.tracks);
        if self.taps(call).len() >= Taps::CAPACITY {
            return Err(TapError::TooMany);
        }
        let (port, mut session) = self.shared.ai.tap(config, meta).await?;
        let tap = MediaTap { call, handle: session.handle(), dialect, tracks };
        {
            // Others may have come meanwhile.
            let mut taps = self.shared.taps();
            if taps.values().filter(|tap| tap.call == call).count() >= Taps::CAPACITY {
                return Err(TapError::TooMany);
            }
            taps.insert(tap.id().0, tap.clone());
        }
        let added = self.shared.send(Command::AddTap { call, tap: port }).await;
        let (shared, id) = (std::sync::Arc::downgrade(&self.shared), tap.id());
        tokio::spawn(async move {
            let end = session.ended().await;
            tracing::info!(tap = id.0, ?end, "a listener of a call has ended");
            if let Some(shared) = shared.upgrade() {
                shared.taps().remove(&id.0);
                shared.remove_later(Removal::Tap(call, id));
            }
        });
        added?;
        Ok(tap)
    }

    /// The listeners of a call, oldest first.
    #[must_use]
    pub fn taps(&self, call: Tapped) -> Vec<MediaTap> {
        self.shared.taps().values().filter(|tap| tap.call == call).cloned().collect()
    }

    /// Ends a listener of a call; false if there is no such one.
    #[must_use]
    pub fn untap(&self, call: Tapped, id: TapId) -> bool {
        let taps = self.shared.taps();
        let Some(tap) = taps.get(&id.0).filter(|tap| tap.call == call) else { return false };
        tap.handle.stop();
        true
    }
}

impl Shared {
    fn taps(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<u64, MediaTap>> {
        self.taps.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
