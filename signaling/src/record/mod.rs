//! Records of calls: a row per leg, written when it begins, rings, is answered and ends, each together with the event that tells it.
//!
//! ```text
//! RecordedLeg -> Recorder (bounded queue) -> writer: all that waits in one transaction -> store
//!                                              | the store is down or slow
//!                                              v
//!                                            spool (bounded file) -> taken in when the store is back, and at start
//! ```
//! [`RecordedLeg::answered`] returns when the record is on the disk: what a peer has seen answered has a record, whatever happens to
//! this process. At start, records that an earlier life of this node left open are closed as interrupted.

mod counters;
mod ending;
mod figures;
mod leg;
mod life;
mod limit;
mod meters;
mod quality;
mod spool;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use counters::RecordCounters;
pub use ending::Ending;
pub(crate) use figures::AiView;
pub use leg::RecordedLeg;
pub(crate) use leg::clean;
pub use life::LifeError;
pub(crate) use quality::quality;

use self::limit::Limit;
use self::spool::Spool;
use self::writer::Write;
use crate::call::Quiet;
use crate::model::{CallRecord, Event, Id, Moment};
use crate::store::{RecordChange, Store};
use crate::telemetry::{Exposition, Readiness};

/// How records are written.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// The folder of the spool and of what tells this node from others.
    pub data_dir: PathBuf,
    /// How large the spool may become.
    pub spool_bytes: u64,
}

/// Writes records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    boot: Id,
    queue: mpsc::Sender<Write>,
    counters: Arc<RecordCounters>,
    meters: meters::CallMeters,
    refusals: Mutex<Limit>,
    spool_bytes: Arc<AtomicU64>,
    /// Tells others that this process lives.
    life: JoinHandle<()>,
    /// Held as long as this process writes records; its lock keeps another one out of the folder.
    _node: life::Node,
}

impl Recorder {
    /// Takes in what an earlier life has left in the spool, closes the records that it left open, and begins to write.
    ///
    /// # Errors
    /// The data folder cannot be written to, another process uses it, or the store is down.
    pub async fn start(
        store: &Store,
        config: &RecorderConfig,
        readiness: &Arc<Readiness>,
    ) -> Result<Self, LifeError> {
        let node = life::Node::enter(&config.data_dir)?;
        let spool = Spool::open(&config.data_dir, config.spool_bytes)
            .map_err(|error| LifeError::folder(&config.data_dir, &error))?;
        let boot = Id::new();
        store.boot_seen(boot, node.id, Moment::now()).await?;
        let counters = Arc::new(RecordCounters::default());
        let (queue, waiting) = mpsc::channel(QUEUE);
        let mut writer =
            writer::Writer::new(store.clone(), spool, Arc::clone(&counters), Arc::clone(readiness));
        // Before anything is closed as interrupted: what waits there may tell how it really ended.
        writer.take_in_all().await;
        let interrupted = life::close_interrupted(store, boot, node.id, Duration::MAX).await?;
        counters.interrupted.add(interrupted);
        if interrupted > 0 {
            tracing::warn!(interrupted, "calls were interrupted by the end of an earlier process");
        }
        let spool_bytes = writer.spool_bytes();
        // It ends by itself once nobody can ask for anything and the queue is empty.
        tokio::spawn(writer.run(waiting));
        let life = tokio::spawn(life::stay(store.clone(), boot, node.id, Arc::clone(&counters)));
        let refusals = Mutex::new(Limit::new(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE));
        let shared = Shared {
            boot,
            queue,
            counters,
            meters: meters::CallMeters::default(),
            refusals,
            spool_bytes,
            life,
            _node: node,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A leg that nobody has written anything about yet.
    #[must_use]
    pub fn leg(&self, record: CallRecord) -> RecordedLeg {
        RecordedLeg::new(self.clone(), record)
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &RecordCounters {
        &self.shared.counters
    }

    /// Adds the calls that are over to the metrics, by provider.
    pub fn collect_calls(&self, out: &mut Exposition) {
        self.shared.meters.collect(out);
    }

    /// How many changes wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.max_capacity() - self.shared.queue.capacity()
    }

    /// How many bytes of changes wait in a file because the store does not take them.
    #[must_use]
    pub fn spool_bytes(&self) -> u64 {
        self.shared.spool_bytes.load(Ordering::Relaxed)
    }

    /// Returns when everything is written, or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.shared.queue.send(Write::Flush(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        if timeout(patience, flushed).await.is_err() {
            tracing::error!(waiting = self.waiting(), "records were not written in time");
        }
    }

    /// Writes a change at some time soon.
    fn write(&self, record: CallRecord, events: Vec<Event>) {
        let write = Write::Change { change: Box::new(self.change(record, events)), done: None };
        if self.shared.queue.try_send(write).is_err() {
            self.shared.counters.lost.increment();
            if let Some(suppressed) = LOST.allows(std::time::Instant::now()) {
                tracing::error!(
                    suppressed,
                    "a record is lost: too many wait; see whether the disk still takes anything"
                );
            }
        }
    }

    /// Writes a change, and returns when it is on the disk, or has not been for too long.
    async fn write_durably(&self, record: CallRecord, events: Vec<Event>) {
        let (done, written) = oneshot::channel();
        let write = Write::Change { change: Box::new(self.change(record, events)), done: Some(done) };
        let durable = async { self.shared.queue.send(write).await.is_ok() && written.await.is_ok() };
        if !matches!(timeout(DURABLE_PATIENCE, durable).await, Ok(true)) {
            self.shared.counters.not_durable.increment();
            if let Some(suppressed) = LOST.allows(std::time::Instant::now()) {
                tracing::error!(suppressed, "a call is answered before its record is on the disk");
            }
        }
    }

    fn change(&self, record: CallRecord, events: Vec<Event>) -> RecordChange {
        RecordChange { boot: self.shared.boot, record, events }
    }

    /// Whether one more refused call is worth a record.
    fn takes_refusal(&self) -> bool {
        let mut refusals = self.shared.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = refusals.take(std::time::Instant::now());
        if !taken {
            self.shared.counters.refusals_left_out.increment();
        }
        taken
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.life.abort();
    }
}

/// Changes that may wait; about 2 KiB each.
const QUEUE: usize = 16_384;
/// How long a call may wait for its record. The writer gives up the store for the spool before that.
const DURABLE_PATIENCE: Duration = Duration::from_secs(2);
/// Refused calls that get a record; beyond that they are only counted.
const REFUSALS_PER_SECOND: f64 = 50.0;
const REFUSALS_AT_ONCE: f64 = 200.0;

static LOST: Quiet = Quiet::warnings();

#[cfg(test)]
mod tests;
