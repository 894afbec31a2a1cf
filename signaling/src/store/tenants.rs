//! Tenants.

use sqlx::AssertSqlSafe;

use super::{Row, Store, StoreError, Transaction, values};
use crate::model::{Moment, Tenant, TenantId};

impl Store {
    /// The tenants behind `after`, by their ids.
    ///
    /// # Errors
    /// The database is down.
    pub async fn tenants(&self, after: Option<&str>, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        let rows = self
            .rows(
                "SELECT id, name, active, created_at, changed_at FROM tenants WHERE id > $1 ORDER BY id LIMIT $2",
                values![after.unwrap_or_default(), limit],
            )
            .await?;
        rows.iter().map(tenant).collect()
    }

    /// The tenant of that name.
    ///
    /// # Errors
    /// The database is down.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        self.row(ONE, values![id]).await?.as_ref().map(tenant).transpose()
    }
}

impl Transaction {
    /// The tenant of that name.
    ///
    /// # Errors
    /// The database is down.
    pub async fn tenant(&mut self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        self.row(ONE, values![id]).await?.as_ref().map(tenant).transpose()
    }

    /// Adds a tenant.
    ///
    /// # Errors
    /// There is one of that name ([`StoreError::is_conflict`]), or the database is down.
    pub async fn add_tenant(&mut self, tenant: &Tenant) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO tenants (id, name, active, created_at, changed_at) VALUES ($1, $2, $3, $4, $5)",
            values![&tenant.id, &tenant.name, tenant.active, tenant.created_at, tenant.changed_at],
        )
        .await
        .map(drop)
    }

    /// Writes what may change of a tenant.
    ///
    /// # Errors
    /// The database is down.
    pub async fn change_tenant(&mut self, tenant: &Tenant) -> Result<(), StoreError> {
        self.run(
            "UPDATE tenants SET name = $2, active = $3, changed_at = $4 WHERE id = $1",
            values![&tenant.id, &tenant.name, tenant.active, tenant.changed_at],
        )
        .await
        .map(drop)
    }

    /// Whether there are records, events or changes of a tenant of that name, perhaps of one that is gone: nobody else may
    /// have the name, for they would see them.
    ///
    /// # Errors
    /// The database is down.
    pub async fn has_past(&mut self, id: &TenantId) -> Result<bool, StoreError> {
        for table in HISTORY {
            let question = AssertSqlSafe(format!("SELECT tenant FROM {table} WHERE tenant = $1 LIMIT 1"));
            if self.row(question, values![id]).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a tenant away that has nothing any more; the log of changes and the records stay. Tells what it still has, in
    /// which case nothing is changed.
    ///
    /// # Errors
    /// The database is down.
    pub async fn remove_tenant(&mut self, id: &TenantId) -> Result<Option<&'static str>, StoreError> {
        for (what, condition, table) in OWNED {
            let question = format!("SELECT tenant FROM {table} WHERE tenant = $1 {condition} LIMIT 1");
            if self.row(AssertSqlSafe(question), values![id]).await?.is_some() {
                return Ok(Some(what));
            }
        }
        for table in SWEPT {
            let sweep = AssertSqlSafe(format!("DELETE FROM {table} WHERE tenant = $1"));
            self.run(sweep, values![id]).await?;
        }
        self.run("DELETE FROM tenants WHERE id = $1", values![id]).await?;
        Ok(None)
    }
}

fn tenant(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: row.get("id")?,
        name: row.get("name")?,
        active: row.get("active")?,
        created_at: row.get::<Moment>("created_at")?,
        changed_at: row.get("changed_at")?,
    })
}

const ONE: &str = "SELECT id, name, active, created_at, changed_at FROM tenants WHERE id = $1";

/// What works on its own and must be gone before its tenant is: in words, which of it, and the table.
const OWNED: &[(&str, &str, &str)] = &[
    // Revoked keys do nothing.
    ("API keys", "AND revoked_at IS NULL", "api_keys"),
    ("trunks", "", "trunks"),
    ("numbers", "", "numbers"),
    ("outbound routes", "", "outbound_routes"),
    ("webhooks", "", "webhooks"),
];

/// What goes with its tenant.
const SWEPT: &[&str] =
    &["api_keys", "idempotency", "trunk_states", "tenant_routing", "call_webhooks", "webhook_secrets"];

/// What stays until it is old: what has happened.
const HISTORY: &[&str] = &["audit", "records", "outbox", "webhook_deliveries"];

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::{Access, AuditEntry, Role};

    #[tokio::test]
    async fn what_becomes_of_every_table_is_known_when_a_tenant_goes() {
        let store = testing::sqlite().await;
        let sql = "SELECT m.name AS name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND c.name = 'tenant'";
        let mut found = 0;
        for row in store.rows(sql, values![]).await.expect("asked") {
            let name: String = row.get("name").expect("a name");
            let known = OWNED.iter().map(|owned| owned.2).chain(SWEPT.iter().chain(HISTORY).copied());
            assert!(known.into_iter().any(|known| known == name), "say in this file what becomes of {name}");
            found += 1;
        }
        assert!(found >= HISTORY.len() + SWEPT.len(), "{found}");
    }

    #[tokio::test]
    async fn nobody_gets_the_name_of_a_tenant_whose_past_is_still_there() {
        for store in testing::stores().await {
            let (id, now) = (TenantId("gone".into()), Moment::now());
            let tenant = Tenant {
                id: id.clone(),
                name: "Gone".into(),
                active: true,
                created_at: now,
                changed_at: now,
            };
            let access = Access { subject: "alice".into(), tenant: id.clone(), role: Role::Admin };
            let mut transaction = store.begin().await.expect("a transaction");
            assert!(!transaction.has_past(&id).await.expect("asked"));
            transaction.add_tenant(&tenant).await.expect("added");
            transaction.audit(&AuditEntry::new(&access, "here", "key.create", "x")).await.expect("noted");
            assert_eq!(transaction.remove_tenant(&id).await.expect("asked"), None);
            assert_eq!(transaction.tenant(&id).await.expect("asked"), None);
            assert!(transaction.has_past(&id).await.expect("asked"));
            transaction.commit().await.expect("kept");
        }
    }
}
