//! Changes that happen together or not at all.

use sqlx::{Postgres, SqlSafeStr, Sqlite};

use super::{Row, StoreError, Values, value, values};
use crate::model::Event;

/// A change that is not made yet. Dropping it undoes it.
#[derive(Debug)]
pub enum Transaction {
    /// In the embedded database.
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    /// In a server.
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Everything that a question finds; give it a `LIMIT`.
    ///
    /// # Errors
    /// The database is down or does not understand the question.
    pub async fn rows(&mut self, sql: impl SqlSafeStr, values: Values) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(transaction) => value::sqlite(sql, values)?.rows(&mut **transaction).await,
            Self::Postgres(transaction) => value::postgres(sql, values)?.rows(&mut **transaction).await,
        }
    }

    /// The first thing that a question finds.
    ///
    /// # Errors
    /// The database is down or does not understand the question.
    pub async fn row(&mut self, sql: impl SqlSafeStr, values: Values) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(transaction) => value::sqlite(sql, values)?.row(&mut **transaction).await,
            Self::Postgres(transaction) => value::postgres(sql, values)?.row(&mut **transaction).await,
        }
    }

    /// A change; returns how many rows it met.
    ///
    /// # Errors
    /// The database is down, or the change contradicts what is there ([`StoreError::is_conflict`]). With PostgreSQL
    /// the transaction takes no more then.
    pub async fn run(&mut self, sql: impl SqlSafeStr, values: Values) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(transaction) => value::sqlite(sql, values)?.run(&mut **transaction).await,
            Self::Postgres(transaction) => value::postgres(sql, values)?.run(&mut **transaction).await,
        }
    }

    /// Tells what happened, if the transaction is committed. An event that was told already is not told again.
    ///
    /// # Errors
    /// The database is down.
    pub async fn emit(&mut self, event: &Event) -> Result<(), StoreError> {
        let values =
            values![event.id, &event.tenant, event.kind.name(), event.time, &event.subject, &event.data,];
        self.run(
            "INSERT INTO outbox (id, tenant, kind, time, subject, data) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO NOTHING",
            values,
        )
        .await
        .map(drop)
    }

    /// Makes the change; when this returns it is on the disk.
    ///
    /// # Errors
    /// The database is down; whether the change was made is not known if the connection was lost now.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Postgres(transaction) => transaction.commit().await?,
        }
        super::outbox::tell_committed();
        Ok(())
    }
}
