//! The one task that writes records: everything that waits goes into one transaction, so that the disk is waited for once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::RecordCounters;
use super::spool::{Spool, Waiting};
use crate::call::Quiet;
use crate::store::{RecordChange, Store, StoreError};
use crate::telemetry::Readiness;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Write {
    Change {
        change: Box<RecordChange>,
        /// Told when it is on the disk, dropped when it is lost.
        done: Option<oneshot::Sender<()>>,
    },
    /// Told when everything before it was written.
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Writer {
    store: Store,
    /// `None` only while a blocking thread has it.
    spool: Option<Spool>,
    counters: Arc<RecordCounters>,
    readiness: Arc<Readiness>,
    next_try: Instant,
    /// How large the file is, for others.
    spool_bytes: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        spool: Spool,
        counters: Arc<RecordCounters>,
        readiness: Arc<Readiness>,
    ) -> Self {
        let spool_bytes = Arc::new(AtomicU64::new(spool.bytes()));
        Self { store, spool: Some(spool), counters, readiness, next_try: Instant::now(), spool_bytes }
    }

    pub(super) fn spool_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.spool_bytes)
    }

    /// Writes until nobody can ask for more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let next_try = self.next_try;
            tokio::select! {
                // Those who wait come first.
                biased;
                count = queue.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.write(batch.drain(..)).await;
                    // However busy it is: what waits in the file gets its turn, too.
                    if !self.spool_is_empty() && self.next_try <= Instant::now() {
                        self.take_in().await;
                    }
                }
                () = sleep_until(next_try.into()), if !self.spool_is_empty() => self.take_in().await,
            }
        }
        self.take_in_all().await;
    }

    async fn write(&mut self, batch: impl Iterator<Item = Write>) {
        let (mut changes, mut waiters) = (Vec::new(), Vec::new());
        for write in batch {
            match write {
                Write::Change { change, done } => {
                    changes.push(*change);
                    waiters.extend(done);
                }
                Write::Flush(done) => waiters.push(done),
            }
        }
        // What waits in the spool is older, and must not overwrite what comes now.
        let kept = changes.is_empty()
            || self.spool_is_empty() && self.store(&changes).await
            || self.put_aside(changes).await;
        if kept {
            for waiter in waiters {
                // Who waits no longer has given up.
                let _ = waiter.send(());
            }
        }
    }

    /// Whether all of it is in the store now, or, as far as that will never take it, put away.
    async fn store(&mut self, changes: &[RecordChange]) -> bool {
        match self.commit(changes).await {
            Ok(()) => true,
            Err(error) if error.is_temporary() => {
                self.failed(&error);
                false
            }
            Err(_) => {
                // One of them spoils it for the others.
                for change in changes {
                    match self.commit(std::slice::from_ref(change)).await {
                        Ok(()) => {}
                        Err(error) if error.is_temporary() => {
                            self.failed(&error);
                            return false;
                        }
                        Err(error) => self.reject(change.clone(), &error).await,
                    }
                }
                true
            }
        }
    }

    async fn commit(&self, changes: &[RecordChange]) -> Result<(), StoreError> {
        let begun = Instant::now();
        let written = timeout(STORE_PATIENCE, self.store.write_records(changes)).await;
        written.unwrap_or(Err(StoreError::Slow(STORE_PATIENCE)))?;
        self.counters.commits.increment();
        self.counters.commit_microseconds.add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.counters.written.add(changes.len() as u64);
        Ok(())
    }

    fn failed(&mut self, error: &StoreError) {
        self.counters.store_failures.increment();
        self.next_try = Instant::now() + RETRY;
        self.readiness.note("store", Some(format!("call records wait in a file: {error}")));
        if let Some(suppressed) = DOWN.allows(Instant::now()) {
            tracing::error!(%error, suppressed, "the store does not take call records; they wait in records.spool");
        }
    }

    /// Whether it is in the spool now.
    async fn put_aside(&mut self, changes: Vec<RecordChange>) -> bool {
        let count = changes.len() as u64;
        let appended = self.with_spool(move |spool| spool.append(&changes)).await;
        match appended {
            Ok(()) => {
                self.counters.spooled.add(count);
                true
            }
            Err(error) => {
                self.counters.lost.add(count);
                self.readiness.note("spool", Some(format!("call records are lost: {error}")));
                if let Some(suppressed) = LOST.allows(Instant::now()) {
                    tracing::error!(%error, suppressed, "call records are lost: neither the store nor the spool takes them");
                }
                false
            }
        }
    }

    /// Takes in all that waits, as long as the store takes it.
    pub(super) async fn take_in_all(&mut self) {
        while !self.spool_is_empty() {
            self.take_in().await;
            if self.next_try > Instant::now() {
                return;
            }
        }
    }

    /// Takes in some of what waits.
    async fn take_in(&mut self) {
        let waiting = self.with_spool(|spool| spool.waiting(BATCH)).await;
        let Waiting { changes, bytes, unreadable } = match waiting {
            Ok(waiting) => waiting,
            Err(error) => {
                self.next_try = Instant::now() + RETRY;
                if let Some(suppressed) = DOWN.allows(Instant::now()) {
                    tracing::error!(%error, suppressed, "records.spool cannot be read");
                }
                return;
            }
        };
        if unreadable > 0 {
            self.counters.lost.add(unreadable);
            tracing::error!(unreadable, "lines of records.spool cannot be read and are left out");
        }
        if !changes.is_empty() && !self.store(&changes).await {
            return;
        }
        self.counters.taken_in.add(changes.len() as u64);
        if let Err(error) = self.with_spool(move |spool| spool.took(bytes)).await {
            tracing::error!(%error, "records.spool cannot be emptied; its records are going to be taken in again");
        }
        self.next_try = Instant::now();
        if self.spool_is_empty() {
            self.readiness.note("store", None);
            self.readiness.note("spool", None);
            tracing::info!("the store has taken in what waited in records.spool");
        }
    }

    async fn reject(&mut self, change: RecordChange, error: &StoreError) {
        self.counters.rejected.increment();
        tracing::error!(id = %change.record.id, %error, "the store does not take this call record; it is in records.rejected");
        if let Err(error) = self.with_spool(move |spool| spool.reject(&change)).await {
            self.counters.lost.increment();
            tracing::error!(%error, "a call record is lost");
        }
    }

    fn spool_is_empty(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    /// Does something with the file where it may block.
    async fn with_spool<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Spool) -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let Some(mut spool) = self.spool.take() else {
            return Err(std::io::Error::other("the spool is gone"));
        };
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut spool);
            (spool, result)
        });
        let (spool, result) = worked.await.map_err(std::io::Error::other)?;
        self.spool_bytes.store(spool.bytes(), Ordering::Relaxed);
        self.spool = Some(spool);
        result
    }
}

/// Changes in one transaction, at most.
const BATCH: usize = 512;
/// How long the store may take for a transaction before the spool is taken instead.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// When to try the store again.
const RETRY: Duration = Duration::from_secs(1);

static DOWN: Quiet = Quiet::warnings();
static LOST: Quiet = Quiet::warnings();
