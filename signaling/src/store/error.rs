//! What can be wrong with the store.

use std::time::Duration;

use super::seal::SecretKeyError;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not the address of a database.
    #[error(
        "store.url is not the address of a database: {0}; use sqlite:FILE, or postgres://user:password@host/name"
    )]
    Url(String),
    /// The database cannot be opened.
    #[error(
        "the store {place} cannot be opened: {reason}; check that it is there and that this process may write to it, or set store.url"
    )]
    Open {
        /// Which, without its password.
        place: String,
        /// What the database says.
        reason: String,
    },
    /// A later version of this program was here.
    #[error(
        "the store was changed by a newer version of sidetone (schema {0}, which this one does not know); run that version, or go back to a copy from before"
    )]
    Newer(i64),
    /// The schema cannot be brought up to date.
    #[error("the schema of the store cannot be brought up to date: {0}; nothing of that step was kept")]
    Migration(String),
    /// The secret key does not fit.
    #[error(transparent)]
    Key(#[from] SecretKeyError),
    /// It took too long.
    #[error("the store did not answer within {0:?}; see whether its disk or server is overloaded")]
    Slow(Duration),
    /// What is there contradicts.
    #[error("there is such an entry already ({0})")]
    Conflict(String),
    /// Something in it is not as it was written.
    #[error("the store holds a {column} that cannot be read: {reason}")]
    Unreadable {
        /// Where.
        column: String,
        /// Why.
        reason: String,
    },
    /// Anything else.
    #[error("the store failed: {0}")]
    Database(sqlx::Error),
}

impl StoreError {
    /// Whether a row with the same name, or the like, is there already.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether a later try may do better: the database is down, full, locked or slow.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Slow(_) => true,
            Self::Database(error) => match error {
                sqlx::Error::Database(error) => error.code().is_some_and(|code| is_temporary(&code)),
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(inner) = &error
            && (inner.is_unique_violation() || inner.is_foreign_key_violation())
        {
            return Self::Conflict(inner.constraint().unwrap_or_else(|| inner.message()).to_owned());
        }
        Self::Database(error)
    }
}

/// SQLite numbers its errors, PostgreSQL has five characters, of which two are the class.
fn is_temporary(code: &str) -> bool {
    match code.parse::<u32>() {
        // Busy, locked, input or output, full, cannot open; what is above the low byte only tells more.
        Ok(number) if code.len() != 5 => matches!(number & 0xff, 5 | 6 | 10 | 13 | 14),
        // Connection, rollback, resources, state, operator, system.
        _ => ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class)),
    }
}
