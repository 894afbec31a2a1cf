//! Keeps how trunks stand, and tells it: many changes in one transaction.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TrunkCounters;
use super::live::Change;
use crate::store::{Store, StoreError};

/// Writes until `ending` is set and all was written.
pub(super) async fn write(
    store: Store,
    mut changes: mpsc::Receiver<Change>,
    counters: Arc<TrunkCounters>,
    ending: CancellationToken,
) {
    let mut batch = Vec::with_capacity(MOST_AT_ONCE);
    loop {
        tokio::select! {
            biased;
            read = changes.recv_many(&mut batch, MOST_AT_ONCE) => if read == 0 { return },
            // What is there already was read first.
            () = ending.cancelled() => return,
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match keep(&store, &batch).await {
                Ok(()) => break,
                Err(error) if error.is_temporary() && pause <= LONGEST_PAUSE => {
                    tracing::warn!(%error, "states of trunks are not kept; trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => {
                    tracing::error!(%error, dropped = batch.len(), "states of trunks are not kept");
                    counters.states_dropped.add(batch.len() as u64);
                    break;
                }
            }
        }
        batch.clear();
    }
}

async fn keep(store: &Store, batch: &[Change]) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    for change in batch {
        if transaction.keep_trunk_state(&change.key.tenant, &change.key.trunk_id, &change.kept).await? {
            transaction.emit(&change.event).await?;
        }
    }
    transaction.commit().await
}

const MOST_AT_ONCE: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
