//! Many calls of one kind, a few at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{Ended, Originate, OriginateError, Outbound};
use crate::model::{Event, EventKind, Id, Moment, RecordState, TenantId};

/// Many calls to make.
#[derive(Clone, Debug)]
pub struct Batch {
    /// All but the number.
    pub call: Originate,
    /// Whom to call.
    pub numbers: Vec<String>,
    /// New calls per second, at most.
    pub calls_per_second: f64,
    /// Calls at once, at most.
    pub concurrency: usize,
}

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BatchProgress {
    /// The batch.
    pub id: Id,
    /// How it is doing.
    pub state: BatchState,
    /// Numbers in it.
    pub total: usize,
    /// Calls that were begun.
    pub started: usize,
    /// Calls that run.
    pub running: usize,
    /// Calls that were answered and are over.
    pub completed: usize,
    /// Calls that found the callee busy.
    pub busy: usize,
    /// Calls that nobody answered.
    pub no_answer: usize,
    /// Calls that failed, or could not even be begun.
    pub failed: usize,
    /// Calls that were cancelled with the batch, running or not begun.
    pub cancelled: usize,
    /// When it was begun.
    pub created_at: Moment,
    /// When its last call ended.
    pub ended_at: Option<Moment>,
    /// What went wrong last.
    pub last_failure: Option<String>,
}

/// How a batch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Calls are being made.
    Running,
    /// No more calls are begun; those that run may end.
    Cancelling,
    /// All is over.
    Done,
    /// All is over, before every number was called.
    Cancelled,
}

/// The batches of this process: those that run and the last that ended. They are not kept over a restart.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    all: Arc<Mutex<BTreeMap<Id, Entry>>>,
}

#[derive(Clone, Debug)]
struct Entry {
    tenant: TenantId,
    progress: BatchProgress,
    cancel: CancellationToken,
    hang_up: CancellationToken,
}

impl Batches {
    /// Begins one.
    ///
    /// # Errors
    /// [`OriginateError::Full`] when as many run as may.
    pub fn begin(&self, outbound: &Arc<Outbound>, batch: Batch) -> Result<BatchProgress, OriginateError> {
        let progress = BatchProgress {
            id: Id::new(),
            state: BatchState::Running,
            total: batch.numbers.len(),
            started: 0,
            running: 0,
            completed: 0,
            busy: 0,
            no_answer: 0,
            failed: 0,
            cancelled: 0,
            created_at: Moment::now(),
            ended_at: None,
            last_failure: None,
        };
        let entry = Entry {
            tenant: batch.call.tenant.clone(),
            progress: progress.clone(),
            cancel: CancellationToken::new(),
            hang_up: CancellationToken::new(),
        };
        {
            let mut all = self.lock();
            while all.len() >= MOST_BATCHES {
                let over = all.iter().find(|(_, entry)| entry.progress.ended_at.is_some());
                let Some(over) = over.map(|(id, _)| *id) else { return Err(OriginateError::Full) };
                all.remove(&over);
            }
            all.insert(progress.id, entry.clone());
        }
        let running =
            Running { batches: self.clone(), outbound: Arc::clone(outbound), entry, id: progress.id };
        tokio::spawn(running.run(batch));
        Ok(progress)
    }

    /// How far one of a tenant is.
    #[must_use]
    pub fn progress(&self, tenant: &TenantId, id: Id) -> Option<BatchProgress> {
        self.lock().get(&id).filter(|entry| entry.tenant == *tenant).map(|entry| entry.progress.clone())
    }

    /// Those of a tenant, oldest first.
    #[must_use]
    pub fn list(&self, tenant: &TenantId) -> Vec<BatchProgress> {
        let all = self.lock();
        all.values().filter(|entry| entry.tenant == *tenant).map(|entry| entry.progress.clone()).collect()
    }

    /// Begins no more calls of it, and ends those that run if `hang_up`; false when there is none.
    pub fn cancel(&self, tenant: &TenantId, id: Id, hang_up: bool) -> bool {
        let mut all = self.lock();
        let Some(entry) = all.get_mut(&id).filter(|entry| entry.tenant == *tenant) else { return false };
        entry.cancel.cancel();
        if hang_up {
            entry.hang_up.cancel();
        }
        if entry.progress.ended_at.is_none() {
            entry.progress.state = BatchState::Cancelling;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch at work.
#[derive(Clone)]
struct Running {
    batches: Batches,
    outbound: Arc<Outbound>,
    entry: Entry,
    id: Id,
}

impl Running {
    async fn run(self, batch: Batch) {
        let places = Arc::new(Semaphore::new(batch.concurrency.max(1)));
        let mut ticks = interval(Duration::from_secs_f64(1.0 / batch.calls_per_second.clamp(0.01, 1000.0)));
        // Calls that waited for a place do not come all at once afterwards.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Instant::now();
        for number in &batch.numbers {
            let place = tokio::select! {
                () = self.entry.cancel.cancelled() => break,
                place = async {
                    ticks.tick().await;
                    Arc::clone(&places).acquire_owned().await
                } => place,
            };
            let Ok(place) = place else { break };
            self.begin(Originate { to: number.clone(), ..batch.call.clone() }, place).await;
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                self.tell().await;
            }
        }
        let all = u32::try_from(batch.concurrency.max(1)).unwrap_or(u32::MAX);
        // Every call has its limits, so this ends.
        let _ = places.acquire_many(all).await;
        self.update(|progress| {
            let left = progress.total - progress.started;
            progress.cancelled += left;
            progress.state = if left > 0 { BatchState::Cancelled } else { BatchState::Done };
            progress.ended_at = Some(Moment::now());
        });
        self.tell().await;
    }

    /// Begins a call; while there is no room for it, waits a little, over and over.
    async fn begin(&self, call: Originate, place: OwnedSemaphorePermit) {
        let ended = loop {
            let (done, ended) = oneshot::channel();
            match self.outbound.originate_told(call.clone(), Some(done)).await {
                Ok(id) => break Ok((id, ended)),
                Err(OriginateError::Full) if !self.entry.cancel.is_cancelled() => sleep(FULL_PAUSE).await,
                Err(error) => break Err(error.to_string()),
            }
        };
        self.update(|progress| progress.started += 1);
        match ended {
            Ok((id, ended)) => {
                self.update(|progress| progress.running += 1);
                let running = self.clone();
                tokio::spawn(async move {
                    running.wait(id, ended).await;
                    drop(place);
                });
            }
            Err(error) => self.update(|progress| {
                progress.failed += 1;
                progress.last_failure = Some(error);
            }),
        }
    }

    async fn wait(&self, id: Id, mut ended: oneshot::Receiver<Ended>) {
        let ended = tokio::select! {
            ended = &mut ended => ended,
            () = self.entry.hang_up.cancelled() => {
                let table = &self.outbound.context.table;
                if let Some(call) = table.call_by_leg(id) {
                    table.hang_up(call.id);
                }
                ended.await
            }
        };
        self.update(|progress| {
            progress.running -= 1;
            match ended.as_ref().map(|ended| ended.state) {
                Ok(RecordState::Completed) => progress.completed += 1,
                Ok(RecordState::Busy) => progress.busy += 1,
                Ok(RecordState::NoAnswer) => progress.no_answer += 1,
                Ok(RecordState::Cancelled) => progress.cancelled += 1,
                Ok(_) | Err(_) => {
                    progress.failed += 1;
                    progress.last_failure =
                        ended.ok().map(|ended| format!("{} {}", ended.status, ended.cause));
                }
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut BatchProgress)) {
        if let Some(entry) = self.batches.lock().get_mut(&self.id) {
            change(&mut entry.progress);
        }
    }

    /// Tells how far it is. What cannot be told now is in the next one.
    async fn tell(&self) {
        let Some(progress) = self.batches.progress(&self.entry.tenant, self.id) else { return };
        let event = Event::new(&self.entry.tenant, EventKind::BatchProgress, self.id, json!(progress));
        if let Err(error) = self.outbound.directory.tell(&event).await {
            tracing::warn!(%error, "the progress of a batch is not told");
        }
    }
}

/// Batches that are known at once, running or not.
const MOST_BATCHES: usize = 200;
const TELL_EVERY: Duration = Duration::from_secs(5);
const FULL_PAUSE: Duration = Duration::from_millis(200);
