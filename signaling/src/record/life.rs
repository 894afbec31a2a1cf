//! Which process has which calls: the node's name, its lives, and what is left of those that ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::RecordCounters;
use crate::model::{Id, Moment};
use crate::store::{Store, StoreError};

/// Why records cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The data folder is of no use.
    #[error("the data folder {folder} cannot be written to: {reason}; choose another with --data-dir")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it.
    #[error("another sidetone runs in the data folder {0}; end it, or choose another folder with --data-dir")]
    InUse(PathBuf),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LifeError {
    pub(super) fn folder(folder: &Path, error: &std::io::Error) -> Self {
        Self::Folder { folder: folder.to_owned(), reason: error.to_string() }
    }
}

/// This installation: the same in all its lives, and in use by one process at a time.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: Id,
    _lock: File,
}

impl Node {
    /// Reads who this is, or makes it up at the first start.
    pub(super) fn enter(folder: &Path) -> Result<Self, LifeError> {
        let failed = |error: std::io::Error| LifeError::folder(folder, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("node.id"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LifeError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = String::new();
        let _ = file.read_to_string(&mut text);
        let id = match text.trim().parse() {
            Ok(id) => id,
            Err(_) => {
                let id = Id::new();
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                file.write_all(format!("{id}\n").as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(failed)?;
                id
            }
        };
        Ok(Self { id, _lock: file })
    }
}

/// Closes what lives have left open that are over: earlier ones of this node, and those of other nodes that have not been seen
/// for so long. Returns how many records that were.
pub(super) async fn close_interrupted(
    store: &Store,
    boot: Id,
    node: Id,
    unseen: Duration,
) -> Result<u64, StoreError> {
    let dead_since = Moment::now().before(unseen);
    let mut closed = 0;
    loop {
        let now = store.close_interrupted(boot, node, dead_since, AT_ONCE).await?;
        closed += now as u64;
        if now < AT_ONCE {
            return Ok(closed);
        }
    }
}

/// Tells the other nodes that this one lives, and clears up behind those that do not. Never ends.
pub(super) async fn stay(store: Store, boot: Id, node: Id, counters: Arc<RecordCounters>) {
    loop {
        tokio::time::sleep(BEAT).await;
        let beat = async {
            let now = Moment::now();
            store.boot_seen(boot, node, now).await?;
            counters.interrupted.add(close_interrupted(&store, boot, node, DEAD_AFTER).await?);
            store.forget_boots(now.before(FORGOTTEN_AFTER)).await
        };
        if let Err(error) = beat.await {
            tracing::debug!(%error, "no sign of life was written");
        }
    }
}

const BEAT: Duration = Duration::from_secs(15);
/// Several beats: a node whose store was away for a moment is not dead.
const DEAD_AFTER: Duration = Duration::from_secs(120);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// Records closed in one transaction.
const AT_ONCE: usize = 500;
