//! Events as they happen, for readers in this process, with what they missed.
//!
//! One task reads what was placed and tells all subscriptions; places have no gaps, so a subscription sees when it
//! missed something, or began later, and reads that from the outbox itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{sleep, timeout};

use super::counters::EventCounters;
use crate::model::{EventKind, Id, TenantId};
use crate::store::{PlacedEvent, Store, StoreError};

/// Why there is no (more) subscription.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// There are as many as allowed.
    #[error("there are as many event streams as allowed (events.live_streams)")]
    Full,
    /// The event to go on from is not known.
    #[error("the event to go on from is not kept (any more); leave `after` out and read the state anew")]
    Unknown,
    /// Its reader is too slow.
    #[error("the reader is too slow; connect again with after=<the last event's id>")]
    Slow,
    /// The process ends.
    #[error("this server ends; connect again with after=<the last event's id>")]
    Ending,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hands out subscriptions.
#[derive(Clone, Debug)]
pub struct Live {
    store: Store,
    sender: broadcast::Sender<Arc<PlacedEvent>>,
    places: Arc<Semaphore>,
    counters: Arc<EventCounters>,
}

impl Live {
    pub(super) fn new(store: Store, most: usize, counters: Arc<EventCounters>) -> Self {
        Self { store, sender: broadcast::channel(QUEUE).0, places: Arc::new(Semaphore::new(most)), counters }
    }

    /// What happens to `tenant` from now on, or everything after the event `after` that is still kept.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub async fn subscribe(
        &self,
        tenant: TenantId,
        kinds: Vec<EventKind>,
        after: Option<Id>,
    ) -> Result<Subscription, LiveError> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            self.counters.live_refused.increment();
            LiveError::Full
        })?;
        let receiver = self.sender.subscribe();
        let last = self.store.last_position().await?;
        let position = match after {
            None => last,
            Some(after) => self.store.event_position(&tenant, &after).await?.ok_or(LiveError::Unknown)?,
        };
        Ok(Subscription {
            store: self.store.clone(),
            counters: Arc::clone(&self.counters),
            tenant,
            kinds,
            position,
            until: last,
            ready: VecDeque::new(),
            live: false,
            receiver,
            _permit: permit,
        })
    }

    /// Tells subscriptions what was placed, until the sender of `placed` is gone.
    pub(super) async fn run(self, mut placed: watch::Receiver<i64>) {
        let mut position = *placed.borrow_and_update();
        loop {
            let last = *placed.borrow_and_update();
            if self.sender.receiver_count() == 0 {
                position = last;
            }
            while position < last {
                match self.store.events_after(position, PAGE).await {
                    Ok(events) => {
                        // What retention took, nobody gets.
                        position = events.last().map_or(last, |event| event.position);
                        for event in events {
                            let _ = self.sender.send(Arc::new(event));
                        }
                    }
                    Err(_) => {
                        self.counters.store_failures.increment();
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            if placed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One reader.
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    counters: Arc<EventCounters>,
    tenant: TenantId,
    /// All if empty.
    kinds: Vec<EventKind>,
    /// Everything up to here was seen.
    position: i64,
    /// Everything up to here has to be read from the outbox.
    until: i64,
    ready: VecDeque<Arc<PlacedEvent>>,
    /// Whether the last one came by the queue.
    live: bool,
    receiver: broadcast::Receiver<Arc<PlacedEvent>>,
    _permit: OwnedSemaphorePermit,
}

impl Subscription {
    /// The next event. Nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    /// The reader was too slow, the process ends, or the store is down for long.
    pub async fn next(&mut self) -> Result<Arc<PlacedEvent>, LiveError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if self.position < self.until {
                self.catch_up().await?;
                continue;
            }
            match self.receiver.recv().await {
                Ok(event) if event.position <= self.position => {}
                Ok(event) if event.position == self.position + 1 => {
                    self.position = event.position;
                    self.live = true;
                    if self.wants(&event) {
                        return Ok(event);
                    }
                }
                Ok(event) => self.until = event.position,
                // What came while it read the outbox and did not fit the queue is read there, too.
                Err(RecvError::Lagged(_)) if !self.live => self.until = self.store.last_position().await?,
                Err(RecvError::Lagged(_)) => {
                    self.counters.live_slow.increment();
                    return Err(LiveError::Slow);
                }
                Err(RecvError::Closed) => return Err(LiveError::Ending),
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), LiveError> {
        let read = self.store.events_between(&self.tenant, self.position, self.until, PAGE);
        let Ok(events) = timeout(PATIENCE, read).await else {
            return Err(StoreError::Slow(PATIENCE).into());
        };
        let events = events?;
        self.position = match events.last() {
            Some(last) if events.len() == PAGE => last.position,
            _ => self.until,
        };
        let wanted = events.into_iter().map(Arc::new).filter(|event| wants(&self.tenant, &self.kinds, event));
        self.ready.extend(wanted);
        self.live = false;
        Ok(())
    }

    fn wants(&self, event: &PlacedEvent) -> bool {
        wants(&self.tenant, &self.kinds, event)
    }
}

fn wants(tenant: &TenantId, kinds: &[EventKind], event: &PlacedEvent) -> bool {
    event.tenant == *tenant && (kinds.is_empty() || kinds.iter().any(|kind| kind.name() == event.kind))
}

/// Events that a reader may be behind.
const QUEUE: usize = 1_024;
const PAGE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);
