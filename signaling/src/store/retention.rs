//! What is old is deleted, a little at a time.

use std::time::Duration;

use super::{Store, StoreError, values};
use crate::model::{Id, Moment};

/// How long things are kept; zero is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Records of calls that have ended.
    pub records: Duration,
    /// Events that were handed on.
    pub events: Duration,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Records.
    pub records: u64,
    /// Events.
    pub events: u64,
}

impl Store {
    /// Deletes what is too old, at most a thousand rows of each kind, so that nobody waits long. Tells what it deleted; call it again
    /// soon while that is as much as it may be.
    ///
    /// # Errors
    /// The database is down.
    pub async fn delete_old(&self, config: &RetentionConfig, now: Moment) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted::default();
        if !config.records.is_zero() {
            // Ids are ordered by time, and their index is there anyway.
            let oldest = Id::earliest(now.before(config.records));
            deleted.records = self
                .run(
                    "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE id < $1 \
                     AND ended_at IS NOT NULL ORDER BY id LIMIT 1000)",
                    values![oldest],
                )
                .await?;
        }
        if !config.events.is_zero() {
            deleted.events = self
                .run(
                    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE taken_at < $1 LIMIT 1000)",
                    values![now.before(config.events)],
                )
                .await?;
        }
        Ok(deleted)
    }

    /// Deletes what is too old from time to time. Never ends.
    pub async fn keep_small(self, config: RetentionConfig) {
        loop {
            let pause = match self.delete_old(&config, Moment::now()).await {
                Ok(deleted) if deleted.records.max(deleted.events) >= 1000 => SOON,
                Ok(_) => SELDOM,
                Err(error) => {
                    tracing::warn!(%error, "old records and events are not deleted");
                    SELDOM
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

const SOON: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(600);
