//! A relay as its owner has it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine::AddRelayError;
use engine::command::{Command, Digit, RelayId};
use engine::relay::{Relay, RelayParameters, RelayStatistics, RelayUpdate, Side};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::{
    ANSWER_PATIENCE, COMMAND_PATIENCE, COMMAND_PAUSE, EVENTS_PER_STREAM, Media, MediaError, PORT_ATTEMPTS,
    Removal, Shared,
};

/// What happens in a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// The source of a party's media is known.
    Latched {
        /// Whose.
        side: Side,
        /// The source.
        remote: SocketAddr,
    },
    /// A party pressed a key.
    Dtmf {
        /// Who.
        side: Side,
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
        /// It came as tones in the audio.
        inband: bool,
    },
    /// No packet from either party for the negotiated time. It comes again after media did.
    Timeout,
    /// The relay is gone, by removal or by a bug; nothing more comes.
    Lost,
}

/// A relay of the engine. Dropping it removes the relay.
#[derive(Debug)]
pub struct MediaRelay {
    handle: RelayHandle,
    locals: [SocketAddr; 2],
    events: mpsc::Receiver<RelayEvent>,
    /// Whether dropping must still remove it.
    live: bool,
    /// Whether the owner knows that it is gone.
    lost: bool,
}

/// Asks a relay for its figures, from anywhere, as long as it lives. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    shared: Arc<Shared>,
    id: RelayId,
}

/// Who waits for what of a relay.
#[derive(Debug)]
pub(super) struct RelayRegistration {
    pub(super) events: mpsc::Sender<RelayEvent>,
    pub(super) added: Option<oneshot::Sender<RelayAdded>>,
    pub(super) reports: Vec<oneshot::Sender<Box<RelayStatistics>>>,
    pub(super) removed: Option<oneshot::Sender<RelayStatistics>>,
}

/// Whether a relay's sockets could be opened; if not, the relay comes back.
pub(super) type RelayAdded = Result<(), (Side, io::ErrorKind, Box<Relay>)>;

impl Media {
    /// Starts a relay on free ports of `local_ips`, by [`Side::index`], both of one worker. Ports that another process
    /// has are skipped, up to 20 times.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn add_relay(
        &self,
        local_ips: [IpAddr; 2],
        parameters: RelayParameters,
    ) -> Result<MediaRelay, MediaError> {
        let added = self.try_add_relay(local_ips, parameters).await;
        let counters = &self.shared.counters;
        if added.is_ok() {
            counters.relays_added.increment()
        } else {
            counters.relays_failed.increment()
        }
        added
    }

    async fn try_add_relay(
        &self,
        local_ips: [IpAddr; 2],
        parameters: RelayParameters,
    ) -> Result<MediaRelay, MediaError> {
        let deadline = Instant::now() + COMMAND_PATIENCE;
        let mut relay = Relay::with_options(parameters, self.shared.engine.relay_options());
        let mut last = (Side::A, io::ErrorKind::Other);
        for _ in 0..PORT_ATTEMPTS {
            let (handle, added) = loop {
                match self.register_relay(local_ips, relay) {
                    Ok(registered) => break registered,
                    Err(AddRelayError::CommandRingFull(back)) if Instant::now() < deadline => {
                        relay = back;
                        self.shared.counters.commands_delayed.increment();
                        sleep(COMMAND_PAUSE).await;
                    }
                    Err(AddRelayError::CommandRingFull(_)) => return Err(MediaError::Overloaded),
                    Err(AddRelayError::NoSlot(_)) => return Err(MediaError::NoSlot),
                    Err(AddRelayError::NoPort(_)) => return Err(MediaError::NoPort),
                    Err(AddRelayError::ShutDown(_)) => return Err(MediaError::Ended),
                }
            };
            // From here on the relay is removed if this is not awaited to its end.
            match timeout(ANSWER_PATIENCE, added).await {
                Ok(Ok(Ok(()))) => return Ok(handle),
                Ok(Ok(Err((side, error, back)))) => {
                    handle.forget();
                    relay = back;
                    last = (side, error);
                    if error != io::ErrorKind::AddrInUse {
                        break;
                    }
                    self.shared.counters.ports_in_use.increment();
                }
                Ok(Err(_)) => return Err(MediaError::Ended),
                Err(_) => return Err(MediaError::Overloaded),
            }
        }
        let (side, error) = last;
        Err(MediaError::Socket { address: local_ips[side.index()], error })
    }

    /// How many relays there are, counting those that are just starting or ending.
    #[must_use]
    pub fn relays(&self) -> usize {
        self.shared.relays().len()
    }

    /// Adds a relay and who hears of it in one step, so that its first event finds it.
    fn register_relay(
        &self,
        local_ips: [IpAddr; 2],
        relay: Box<Relay>,
    ) -> Result<(MediaRelay, oneshot::Receiver<RelayAdded>), AddRelayError> {
        let mut relays = self.shared.relays();
        let (id, locals) = self.shared.engine.add_relay(local_ips, relay)?;
        let (event_sender, events) = mpsc::channel(EVENTS_PER_STREAM);
        let (added, added_receiver) = oneshot::channel();
        let registration = RelayRegistration {
            events: event_sender,
            added: Some(added),
            reports: Vec::new(),
            removed: None,
        };
        relays.insert(id, registration);
        drop(relays);
        let handle = RelayHandle { shared: Arc::clone(&self.shared), id };
        Ok((MediaRelay { handle, locals, events, live: true, lost: false }, added_receiver))
    }
}

impl RelayHandle {
    pub(super) const fn id(&self) -> RelayId {
        self.id
    }

    /// The figures now.
    ///
    /// # Errors
    /// When the relay has ended or its worker does not answer.
    pub async fn statistics(&self) -> Result<RelayStatistics, MediaError> {
        let (report, statistics) = oneshot::channel();
        {
            let mut relays = self.shared.relays();
            let registration = relays.get_mut(&self.id).ok_or(MediaError::Ended)?;
            if registration.reports.len() >= WAITING_REPORTS {
                return Err(MediaError::Overloaded);
            }
            registration.reports.push(report);
        }
        let report = Box::default();
        self.shared.send(Command::QueryRelay { id: self.id, report }).await?;
        match timeout(ANSWER_PATIENCE, statistics).await {
            Ok(statistics) => statistics.map(|report| *report).map_err(|_| MediaError::Ended),
            Err(_) => Err(MediaError::Overloaded),
        }
    }

    /// Applies a new offer/answer outcome.
    ///
    /// # Errors
    /// When the relay has ended or the worker does not take the command.
    pub async fn update(&self, parameters: RelayParameters) -> Result<(), MediaError> {
        if !self.shared.relays().contains_key(&self.id) {
            return Err(MediaError::Ended);
        }
        let update = RelayUpdate::new(parameters);
        self.shared.send(Command::UpdateRelay { id: self.id, update }).await
    }
}

impl MediaRelay {
    /// Where RTP is received from each side, by [`Side::index`].
    #[must_use]
    pub const fn locals(&self) -> [SocketAddr; 2] {
        self.locals
    }

    /// A handle to ask for figures.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }

    /// The next event. After [`RelayEvent::Lost`] it never completes. Cancel safe.
    pub async fn next_event(&mut self) -> RelayEvent {
        if self.lost {
            return std::future::pending().await;
        }
        let event = self.events.recv().await.unwrap_or(RelayEvent::Lost);
        self.lost = event == RelayEvent::Lost;
        event
    }

    /// Applies a new offer/answer outcome.
    ///
    /// # Errors
    /// When the relay has ended or the worker does not take the command.
    pub async fn update(&self, parameters: RelayParameters) -> Result<(), MediaError> {
        self.handle.update(parameters).await
    }

    /// The figures now.
    ///
    /// # Errors
    /// When the relay has ended or its worker does not answer.
    pub async fn statistics(&self) -> Result<RelayStatistics, MediaError> {
        self.handle.statistics().await
    }

    /// Ends the relay; its last figures.
    ///
    /// # Errors
    /// When the relay has ended already or its worker does not answer.
    pub async fn remove(mut self) -> Result<RelayStatistics, MediaError> {
        let (removed, statistics) = oneshot::channel();
        match self.handle.shared.relays().get_mut(&self.handle.id) {
            Some(registration) => registration.removed = Some(removed),
            None => {
                self.live = false;
                return Err(MediaError::Ended);
            }
        }
        self.handle.shared.remove_later(Removal::Relay(self.handle.id));
        self.live = false;
        match timeout(ANSWER_PATIENCE, statistics).await {
            Ok(statistics) => statistics.map_err(|_| MediaError::Ended),
            Err(_) => Err(MediaError::Overloaded),
        }
    }

    /// Lets go of a relay that never started.
    fn forget(mut self) {
        self.live = false;
    }
}

impl Drop for MediaRelay {
    fn drop(&mut self) {
        if self.live {
            self.handle.shared.remove_later(Removal::Relay(self.handle.id));
        }
    }
}

/// Questions about one relay that may wait at once.
const WAITING_REPORTS: usize = 16;
