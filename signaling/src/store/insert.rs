//! Many rows in few statements: what a statement costs beside its rows is then paid once for many of them.

use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::AssertSqlSafe;

use super::{StoreError, Transaction, Value, Values};

/// An `INSERT` for one row or many.
#[derive(Debug)]
pub(super) struct Insert {
    columns: usize,
    /// How many rows, and the text; the most rows first.
    statements: [(usize, Arc<str>); 3],
}

impl Insert {
    /// Into `table`; what follows the values is `rest`.
    pub(super) fn new(table: &str, columns: &[&str], rest: &str) -> Self {
        let text = |rows: usize| {
            let mut text = format!("INSERT INTO {table} ({}) VALUES ", columns.join(", "));
            for row in 0..rows {
                text.push_str(if row == 0 { "(" } else { ", (" });
                for column in 0..columns.len() {
                    let comma = if column == 0 { "" } else { ", " };
                    // Writing to a string does not fail.
                    let _ = write!(text, "{comma}${}", row * columns.len() + column + 1);
                }
                text.push(')');
            }
            text.push(' ');
            text.push_str(rest);
            (rows, Arc::from(text))
        };
        // Few texts, because each is prepared once on each connection. The largest stays below the 32,766 values
        // that SQLite takes.
        Self { columns: columns.len(), statements: [text(64), text(8), text(1)] }
    }

    /// Inserts `rows`; each has a value for each column. None of them may contradict another one.
    pub(super) async fn run(
        &self,
        transaction: &mut Transaction,
        rows: Vec<Values>,
    ) -> Result<(), StoreError> {
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let fits = self.statements.iter().find(|(size, _)| *size <= rows.len());
            let Some((size, text)) = fits else { break };
            let values: Vec<Value> = rows.by_ref().take(*size).flatten().collect();
            debug_assert_eq!(values.len(), size * self.columns, "a row has a value for each column");
            transaction.run(AssertSqlSafe(Arc::clone(text)), values).await?;
        }
        Ok(())
    }
}
