//! The task that listens to the engine's doorbell and hands events to whoever owns the stream.

use std::io;
use std::sync::{Arc, PoisonError, Weak};

use engine::Doorbell;
use engine::EngineEvents;
use engine::command::{RelayId, StreamId, Tapped};
use engine::event::Event;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;

use super::{COMMAND_PAUSE, MediaEvent, RelayEvent, Removal, Shared};

/// Starts the task. It ends when the facade is dropped.
pub(super) fn spawn(shared: &Arc<Shared>, events: EngineEvents) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a Doorbell owns its eventfd and never swaps it"
    )]
    let doorbell = AsyncFd::with_interest(events.doorbell().clone(), Interest::READABLE)?;
    tokio::spawn(run(Arc::downgrade(shared), Arc::clone(&shared.wake), doorbell, events));
    Ok(())
}

async fn run(
    shared: Weak<Shared>,
    wake: Arc<tokio::sync::Notify>,
    doorbell: AsyncFd<Doorbell>,
    mut events: EngineEvents,
) {
    loop {
        let mut blocked = false;
        {
            let Some(shared) = shared.upgrade() else { return };
            for _ in 0..EVENTS_PER_TURN {
                let Some(event) = events.poll() else { break };
                shared.dispatch(event);
            }
            let mut removals = shared.removals.lock().unwrap_or_else(PoisonError::into_inner);
            removals.retain(|removal| {
                let is_there = match removal {
                    Removal::Stream(id) | Removal::Tap(Tapped::Stream(id), _) => {
                        shared.streams().contains_key(id)
                    }
                    Removal::Relay(id) | Removal::Tap(Tapped::Relay(id), _) => {
                        shared.relays().contains_key(id)
                    }
                };
                is_there && shared.engine.send(removal.command()).is_err()
            });
            blocked |= !removals.is_empty();
        }
        tokio::select! {
            ready = doorbell.readable() => {
                let Ok(mut ready) = ready else { return };
                // Clear, hear, look: in this order no ring is missed.
                ready.clear_ready();
                doorbell.get_ref().hear();
            }
            () = wake.notified() => {}
            () = sleep(COMMAND_PAUSE), if blocked => {}
        }
    }
}

impl Shared {
    fn dispatch(&self, event: Event) {
        match event {
            Event::StreamAdded { id } => {
                let added = self.streams().get_mut(&id).and_then(|stream| stream.added.take());
                // Nobody waits any more: the owner's drop has sent, or will send, the removal.
                if added.is_none_or(|added| added.send(Ok(())).is_err()) {
                    self.counters.events_unclaimed.increment();
                }
            }
            Event::StreamFailed { id, error, stream } => {
                let failed = self.streams().remove(&id).and_then(|stream| stream.added);
                if failed.is_none_or(|failed| failed.send(Err((error, stream))).is_err()) {
                    self.counters.events_unclaimed.increment();
                }
            }
            Event::Latched { id, remote } => self.tell(id, MediaEvent::Latched(remote)),
            Event::Dtmf { id, digit, duration, inband } => {
                self.tell(id, MediaEvent::Dtmf { digit, duration, inband });
            }
            Event::PlayFinished { id, report } => self.tell(id, MediaEvent::PlayFinished(report)),
            Event::MediaTimeout { id } => self.tell(id, MediaEvent::Timeout),
            Event::RemoteBye { id } => self.tell(id, MediaEvent::RemoteBye),
            Event::StreamReport { id, statistics } => {
                let waiting = self.streams().get_mut(&id).map(|stream| std::mem::take(&mut stream.reports));
                for report in waiting.into_iter().flatten() {
                    let _ = report.send(statistics);
                }
            }
            // Dropped here, off the media threads; the AI port's other end sees that.
            Event::AppDetached { id: _, app } => drop(app),
            Event::TapDetached { call: _, tap } => drop(tap),
            Event::StreamRemoved { id, statistics, stream } => {
                drop(stream);
                self.counters.streams_removed.increment();
                let registration = self.streams().remove(&id);
                if let Some(registration) = registration {
                    let _ = registration.events.try_send(MediaEvent::Lost);
                    if let Some(removed) = registration.removed {
                        let _ = removed.send(statistics);
                    }
                }
            }
            Event::StreamPanicked { id } => {
                tracing::error!(stream = ?id, "a stream's code panicked and only this stream ended; please report it");
                self.counters.streams_panicked.increment();
                let registration = self.streams().remove(&id);
                if let Some(registration) = registration {
                    let _ = registration.events.try_send(MediaEvent::Lost);
                }
            }
            Event::RelayAdded { id } => {
                let added = self.relays().get_mut(&id).and_then(|relay| relay.added.take());
                if added.is_none_or(|added| added.send(Ok(())).is_err()) {
                    self.counters.events_unclaimed.increment();
                }
            }
            Event::RelayFailed { id, side, error, relay } => {
                let failed = self.relays().remove(&id).and_then(|relay| relay.added);
                if failed.is_none_or(|failed| failed.send(Err((side, error, relay))).is_err()) {
                    self.counters.events_unclaimed.increment();
                }
            }
            Event::Relay { id, event } => self.tell_relay(id, event),
            // Dropped here, off the media threads.
            Event::RelayUpdated { id: _, update } => drop(update),
            Event::RelayUnknown { id: _, memory } => drop(memory),
            Event::RelayReport { id, report } => {
                let waiting = self.relays().get_mut(&id).and_then(|relay| {
                    // Each question has an answer of its own; who has given up waiting needs none.
                    relay.reports.retain(|waiting| !waiting.is_closed());
                    (!relay.reports.is_empty()).then(|| relay.reports.remove(0))
                });
                if let Some(waiting) = waiting {
                    let _ = waiting.send(report);
                }
            }
            Event::RelayRemoved { id, relay } => {
                self.counters.relays_removed.increment();
                let registration = self.relays().remove(&id);
                if let Some(registration) = registration {
                    let _ = registration.events.try_send(RelayEvent::Lost);
                    if let Some(removed) = registration.removed {
                        let _ = removed.send(relay.last_statistics());
                    }
                }
            }
            Event::RelayPanicked { id } => {
                tracing::error!(relay = ?id, "a relay's code panicked and only this relay ended; please report it");
                self.counters.relays_panicked.increment();
                let registration = self.relays().remove(&id);
                if let Some(registration) = registration {
                    let _ = registration.events.try_send(RelayEvent::Lost);
                }
            }
        }
    }

    fn tell_relay(&self, id: RelayId, event: engine::relay::RelayEvent) {
        use engine::relay::RelayEvent as Engine;
        let event = match event {
            Engine::Latched { side, remote } => RelayEvent::Latched { side, remote },
            Engine::Dtmf { side, digit, duration, inband } => {
                RelayEvent::Dtmf { side, digit, duration, inband }
            }
            Engine::MediaTimeout => RelayEvent::Timeout,
        };
        let vital = event == RelayEvent::Timeout;
        let sent = self.relays().get(&id).map(|relay| {
            if !vital && relay.events.capacity() <= EVENTS_RESERVED {
                return Err(TrySendError::Full(event));
            }
            relay.events.try_send(event)
        });
        match sent {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => self.counters.events_dropped.increment(),
            Some(Err(TrySendError::Closed(_))) | None => self.counters.events_unclaimed.increment(),
        }
    }

    fn tell(&self, id: StreamId, event: MediaEvent) {
        let vital = matches!(event, MediaEvent::PlayFinished(_) | MediaEvent::Timeout | MediaEvent::Lost);
        let sent = self.streams().get(&id).map(|stream| {
            // What a call may wait for finds room whatever the peer has sent.
            if !vital && stream.events.capacity() <= EVENTS_RESERVED {
                return Err(TrySendError::Full(event));
            }
            stream.events.try_send(event)
        });
        match sent {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => self.counters.events_dropped.increment(),
            Some(Err(TrySendError::Closed(_))) | None => self.counters.events_unclaimed.increment(),
        }
    }
}

/// Places in a stream's queue that keys and the like leave free.
const EVENTS_RESERVED: usize = 8;
/// Events dispatched before other tasks of the thread get their turn.
const EVENTS_PER_TURN: usize = 1024;
