//! Tenants.

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

    /// Takes a tenant away that has nothing any more; the log of changes and the records stay. Tells what it still has, in
    /// which case nothing is changed.
    ///
    /// # Errors
    /// The database is down.
    pub async fn remove_tenant(&mut self, id: &TenantId) -> Result<Option<&'static str>, StoreError> {
        for (question, what) in BELONGINGS {
            if self.row(*question, values![id]).await?.is_some() {
                return Ok(Some(what));
            }
        }
        self.run("DELETE FROM api_keys WHERE tenant = $1", values![id]).await?;
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

/// What a tenant can have that works on its own. Revoked keys do nothing.
const BELONGINGS: &[(&str, &str)] =
    &[("SELECT id FROM api_keys WHERE tenant = $1 AND revoked_at IS NULL LIMIT 1", "API keys")];
