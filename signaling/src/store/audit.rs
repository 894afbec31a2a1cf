//! The log of changes.

use super::{Row, Store, StoreError, Transaction, values};
use crate::model::{AuditEntry, Id, Moment, TenantId};

/// Which entries are wanted; what is `None` is not asked.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Made by them.
    pub subject: Option<String>,
    /// Exactly this action or, with a `.` at its end, all that begin with it.
    pub action: Option<String>,
    /// Made to this.
    pub target: Option<String>,
    /// Not before.
    pub from: Option<Moment>,
    /// Before.
    pub to: Option<Moment>,
}

impl Store {
    /// The tenant's entries before `before`, latest first.
    ///
    /// # Errors
    /// The database is down.
    pub async fn audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        before: Option<Id>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let exact = filter.action.as_ref().filter(|action| !action.ends_with('.'));
        let family = filter.action.as_ref().filter(|action| action.ends_with('.'));
        let rows = self
            .rows(
                "SELECT id, tenant, time, subject, role, source, action, target, before, after FROM audit \
                 WHERE tenant = $1 AND ($2 IS NULL OR id < $2) AND ($3 IS NULL OR subject = $3) \
                 AND ($4 IS NULL OR action = $4) AND ($5 IS NULL OR substr(action, 1, length($5)) = $5) \
                 AND ($6 IS NULL OR target = $6) AND ($7 IS NULL OR time >= $7) AND ($8 IS NULL OR time < $8) \
                 ORDER BY id DESC LIMIT $9",
                values![
                    tenant,
                    before,
                    filter.subject.as_ref(),
                    exact,
                    family,
                    filter.target.as_ref(),
                    filter.from,
                    filter.to,
                    limit,
                ],
            )
            .await?;
        rows.iter().map(entry).collect()
    }
}

impl Transaction {
    /// Notes a change in the log, if the transaction is committed.
    ///
    /// # Errors
    /// The database is down.
    pub async fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO audit (id, tenant, time, subject, role, source, action, target, before, after) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            values![
                entry.id,
                &entry.tenant,
                entry.time,
                &entry.subject,
                &entry.role,
                &entry.source,
                &entry.action,
                &entry.target,
                entry.before.as_ref(),
                entry.after.as_ref(),
            ],
        )
        .await
        .map(drop)
    }
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        time: row.get("time")?,
        subject: row.get("subject")?,
        role: row.get("role")?,
        source: row.get("source")?,
        action: row.get("action")?,
        target: row.get("target")?,
        before: row.optional("before")?,
        after: row.optional("after")?,
    })
}
