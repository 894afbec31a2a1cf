//! API keys.

use super::{Row, Store, StoreError, Transaction, values};
use crate::model::{ApiKey, Moment, Role, TenantId};

/// A key as it is kept: with the SHA-256 of its secret, in hexadecimal digits.
#[derive(Clone, Debug)]
pub struct KeptKey {
    /// What may be shown.
    pub key: ApiKey,
    /// Of the secret.
    pub digest: String,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether its tenant is.
    pub tenant_active: bool,
}

impl Store {
    /// The tenant's keys behind `after` that were not revoked, oldest first.
    ///
    /// # Errors
    /// The database is down.
    pub async fn keys(
        &self,
        tenant: &TenantId,
        after: Option<(Moment, String)>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let (time, id) = after.unwrap_or((Moment::from_micros(i64::MIN), String::new()));
        let rows = self
            .rows(
                "SELECT id, tenant, name, role, created_at, created_by, expires_at, last_used_at FROM api_keys \
                 WHERE tenant = $1 AND revoked_at IS NULL AND (created_at > $2 OR (created_at = $2 AND id > $3)) ORDER BY created_at, id LIMIT $4",
                values![tenant, time, id, limit],
            )
            .await?;
        rows.iter().map(key).collect()
    }

    /// The tenant's key of that id, if it was not revoked.
    ///
    /// # Errors
    /// The database is down.
    pub async fn key(&self, tenant: &TenantId, id: &str) -> Result<Option<ApiKey>, StoreError> {
        self.row(ONE, values![tenant, id]).await?.as_ref().map(key).transpose()
    }

    /// The key of that id, whoever's it is: for finding out whose.
    ///
    /// # Errors
    /// The database is down.
    pub async fn kept_key(&self, id: &str) -> Result<Option<KeptKey>, StoreError> {
        let row = self
            .row(
                "SELECT api_keys.id, tenant, api_keys.name, role, api_keys.created_at, created_by, expires_at, last_used_at, \
                 revoked_at, digest, active FROM api_keys JOIN tenants ON tenants.id = tenant WHERE api_keys.id = $1",
                values![id],
            )
            .await?;
        row.map(|row| {
            Ok(KeptKey {
                key: key(&row)?,
                digest: row.get("digest")?,
                revoked: row.optional::<Moment>("revoked_at")?.is_some(),
                tenant_active: row.get("active")?,
            })
        })
        .transpose()
    }

    /// Notes that a key was used.
    ///
    /// # Errors
    /// The database is down.
    pub async fn note_key_use(&self, id: &str, now: Moment) -> Result<(), StoreError> {
        self.run("UPDATE api_keys SET last_used_at = $2 WHERE id = $1", values![id, now]).await.map(drop)
    }

    /// Whether there was ever a key.
    ///
    /// # Errors
    /// The database is down.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        Ok(self.row("SELECT id FROM api_keys LIMIT 1", values![]).await?.is_some())
    }
}

impl Transaction {
    /// The tenant's key of that id, if it was not revoked.
    ///
    /// # Errors
    /// The database is down.
    pub async fn key(&mut self, tenant: &TenantId, id: &str) -> Result<Option<ApiKey>, StoreError> {
        self.row(ONE, values![tenant, id]).await?.as_ref().map(key).transpose()
    }

    /// Adds a key.
    ///
    /// # Errors
    /// There is no such tenant ([`StoreError::is_conflict`]), or the database is down.
    pub async fn add_key(&mut self, key: &ApiKey, digest: &str) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO api_keys (id, tenant, name, role, digest, created_at, created_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            values![
                &key.id,
                &key.tenant,
                &key.name,
                key.role.name(),
                digest,
                key.created_at,
                &key.created_by,
                key.expires_at,
            ],
        )
        .await
        .map(drop)
    }

    /// Revokes a key. Its row stays, so that no other key has its id.
    ///
    /// # Errors
    /// The database is down.
    pub async fn revoke_key(&mut self, tenant: &TenantId, id: &str, now: Moment) -> Result<(), StoreError> {
        self.run(
            "UPDATE api_keys SET revoked_at = $3 WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL",
            values![tenant, id, now],
        )
        .await
        .map(drop)
    }
}

fn key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        name: row.get("name")?,
        role: row.word("role", Role::named)?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
        expires_at: row.optional("expires_at")?,
        last_used_at: row.optional("last_used_at")?,
    })
}

const ONE: &str = "SELECT id, tenant, name, role, created_at, created_by, expires_at, last_used_at \
     FROM api_keys WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL";
