//! `[store]`

use serde::Deserialize;

use super::super::types::{FilePath, Span};

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// The database: `sqlite:FILE`, or `postgres://user:password@host/name`.
    pub url: String,
    /// Connections to a PostgreSQL server.
    pub connections: u32,
    /// The file with the key that passwords are sealed with.
    pub secret_key_file: Option<FilePath>,
    /// How long records of calls that have ended are kept; `0s` for ever.
    pub records_kept: Span,
    /// How long events are kept that were handed on; `0s` for ever.
    pub events_kept: Span,
    /// How much may wait in a file, in MiB, while the database does not take records.
    pub spool_mib: u64,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: "sqlite:sidetone.db".to_owned(),
            connections: 8,
            secret_key_file: None,
            records_kept: Span::seconds(90 * 86_400),
            events_kept: Span::seconds(7 * 86_400),
            spool_mib: 64,
        }
    }
}
