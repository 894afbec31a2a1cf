//! What a question finds.

use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::StoreError;
use crate::model::{Id, Moment, TenantId};

/// One row.
#[derive(Debug)]
pub struct Row(Source);

#[derive(Debug)]
enum Source {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What a column can be read as.
pub trait Column: Sized {
    /// What the column `name` holds; `None` if that is NULL.
    ///
    /// # Errors
    /// There is no such column, or something else in it.
    fn read(row: &Row, name: &str) -> Result<Option<Self>, StoreError>;
}

impl Row {
    /// The column `name`, which holds something.
    ///
    /// # Errors
    /// There is no such column, or something else or nothing in it.
    pub fn get<T: Column>(&self, name: &str) -> Result<T, StoreError> {
        T::read(self, name)?.ok_or_else(|| unreadable(name, "nothing is there"))
    }

    /// The column `name`, which may be NULL.
    ///
    /// # Errors
    /// There is no such column, or something else in it.
    pub fn optional<T: Column>(&self, name: &str) -> Result<Option<T>, StoreError> {
        T::read(self, name)
    }

    /// The column `name`, which holds JSON.
    ///
    /// # Errors
    /// There is no such column, or something else or nothing in it.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let text: String = self.get(name)?;
        serde_json::from_str(&text).map_err(|error| unreadable(name, error))
    }

    /// The column `name`, which holds a word that `read` knows, such as the name of an enum's variant.
    ///
    /// # Errors
    /// There is no such column, or something else or nothing in it.
    pub fn word<T>(&self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        let text: String = self.get(name)?;
        read(&text).ok_or_else(|| unreadable(name, format!("{text:?} is not known")))
    }
}

macro_rules! columns {
    ($($type:ty),*) => {
        $(impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Option<Self>, StoreError> {
                match &row.0 {
                    Source::Sqlite(row) => row.try_get(name),
                    Source::Postgres(row) => row.try_get(name),
                }
                .map_err(|error| unreadable(name, error))
            }
        })*
    };
}

columns!(i64, f64, bool, String);

macro_rules! read_as {
    ($($type:ty: $via:ty, $read:expr;)*) => {
        $(impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Option<Self>, StoreError> {
                let Some(value) = <$via>::read(row, name)? else { return Ok(None) };
                let read: fn($via) -> Result<Self, String> = $read;
                read(value).map(Some).map_err(|reason| unreadable(name, reason))
            }
        })*
    };
}

read_as! {
    u64: i64, |value| value.try_into().map_err(text);
    u32: i64, |value| value.try_into().map_err(text);
    u16: i64, |value| value.try_into().map_err(text);
    usize: i64, |value| value.try_into().map_err(text);
    Moment: i64, |value| Ok(Moment::from_micros(value));
    Id: String, |value| value.parse().map_err(text);
    TenantId: String, |value| Ok(TenantId(value));
    serde_json::Value: String, |value| serde_json::from_str(&value).map_err(text);
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn unreadable(column: &str, reason: impl ToString) -> StoreError {
    StoreError::Unreadable { column: column.to_owned(), reason: reason.to_string() }
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self(Source::Sqlite(row))
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self(Source::Postgres(row))
    }
}
