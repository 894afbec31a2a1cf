//! What is kept: an embedded SQLite file, or PostgreSQL, behind one small interface.
//!
//! ```text
//! store.begin() -> Transaction { run, row, rows, emit(&Event) } -> commit()      changes, with what they tell
//! store.row, store.rows                                                          questions
//! store.run                                                                      one change that tells nobody
//! ```
//! The same SQL goes to both databases. Columns are `TEXT` (ids, words, JSON), `BIGINT` (whole numbers, and moments in
//! microseconds), `DOUBLE PRECISION`, `BOOLEAN`; parameters are `$1`, `$2` and bound by [`values!`]. NUL characters, which
//! PostgreSQL has no place for, are left out of text on the way in. Every question about what belongs to a tenant names the tenant.
//!
//! Every noun has a file with an `impl Store`, and a file in `signaling/migrations`, which is run at the next start. A
//! migration is never changed once it was released; the next one changes what it made.
//!
//! With SQLite there is one writer at a time, who waits for nobody but writers before it; readers never wait. Keep
//! transactions short, and never wait for anything else while one is open.

mod audit;
mod deliveries;
mod error;
mod idempotency;
mod insert;
mod keys;
mod open;
mod outbox;
mod records;
mod retention;
mod routing;
mod row;
mod seal;
mod tenants;
#[cfg(test)]
pub(crate) mod testing;
mod transaction;
mod trunks;
mod value;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlSafeStr;
use tokio::time::timeout;

pub use audit::AuditFilter;
pub use deliveries::{Claimed, Outcome};
pub use error::StoreError;
pub use idempotency::{KeptAnswer, KeyedRequest, Known};
pub use keys::KeptKey;
pub use open::StoreConfig;
pub use outbox::{Backlog, PlacedEvent, committed};
pub use records::{RecordChange, RecordCursor, RecordFilter};
pub use retention::{Deleted, RetentionConfig};
pub use routing::TenantRouting;
pub use row::{Column, Row};
pub use seal::{SecretKey, SecretKeyError};
pub use transaction::Transaction;
pub use trunks::{KeptState, OpenTrunk};
pub use value::{Bind, Value, Values, json};
pub use webhooks::WebhookChange;

pub(crate) use value::values;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    key: Arc<SecretKey>,
}

/// The two kinds of databases.
#[derive(Clone, Debug)]
enum Database {
    Sqlite {
        /// One connection: SQLite has one writer, and a queue here is fairer than its busy handler.
        writer: sqlx::SqlitePool,
        readers: sqlx::SqlitePool,
    },
    Postgres(sqlx::PgPool),
}

impl Store {
    /// Starts a change. Dropping it undoes it.
    ///
    /// # Errors
    /// The database is down, or its connections are all in use for longer than five seconds.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(match &self.database {
            // Not the deferred kind: that one fails when it becomes a writer too late.
            Database::Sqlite { writer, .. } => {
                Transaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Database::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }

    /// Everything that a question finds; give it a `LIMIT`.
    ///
    /// # Errors
    /// The database is down or does not understand the question.
    pub async fn rows(&self, sql: impl SqlSafeStr, values: Values) -> Result<Vec<Row>, StoreError> {
        match &self.database {
            Database::Sqlite { readers, .. } => value::sqlite(sql, values)?.rows(readers).await,
            Database::Postgres(pool) => value::postgres(sql, values)?.rows(pool).await,
        }
    }

    /// The first thing that a question finds.
    ///
    /// # Errors
    /// The database is down or does not understand the question.
    pub async fn row(&self, sql: impl SqlSafeStr, values: Values) -> Result<Option<Row>, StoreError> {
        match &self.database {
            Database::Sqlite { readers, .. } => value::sqlite(sql, values)?.row(readers).await,
            Database::Postgres(pool) => value::postgres(sql, values)?.row(pool).await,
        }
    }

    /// One change that nobody is told about; returns how many rows it met.
    ///
    /// # Errors
    /// The database is down, or the change contradicts what is there ([`StoreError::is_conflict`]).
    pub async fn run(&self, sql: impl SqlSafeStr, values: Values) -> Result<u64, StoreError> {
        match &self.database {
            Database::Sqlite { writer, .. } => value::sqlite(sql, values)?.run(writer).await,
            Database::Postgres(pool) => value::postgres(sql, values)?.run(pool).await,
        }
    }

    /// Whether the database answers, and takes changes, within two seconds.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let change = self.run("UPDATE store_facts SET value = value WHERE name = 'ping'", values![]);
        timeout(PING_PATIENCE, change).await.map_err(|_| StoreError::Slow(PING_PATIENCE))?.map(drop)
    }

    /// Seals and opens secrets that are kept, such as passwords of trunks.
    #[must_use]
    pub fn secret_key(&self) -> &SecretKey {
        &self.key
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.database {
            Database::Sqlite { .. } => "sqlite",
            Database::Postgres(_) => "postgres",
        }
    }

    /// Ends all connections once what runs is done.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Database::Postgres(pool) => pool.close().await,
        }
    }
}

const PING_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
