//! Receivers of webhooks and the secrets that sign for them.

use zeroize::Zeroizing;

use super::{Row, Store, StoreError, Transaction, Values, values};
use crate::model::{EventKind, Id, Moment, TenantId, Webhook};

/// What a request changes of a webhook.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Where events go.
    pub url: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The kinds; all if empty.
    pub kinds: Option<Vec<EventKind>>,
    /// Whether it gets any.
    pub active: Option<bool>,
}

impl Store {
    /// A tenant's webhooks behind `after`, by id.
    ///
    /// # Errors
    /// The database is down.
    pub async fn webhooks(
        &self,
        tenant: &TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Webhook>, StoreError> {
        let sql = "SELECT id, tenant, url, description, kinds, active, disabled_reason, created_at, updated_at FROM \
                   webhooks WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
        self.rows(sql, values![tenant, after.unwrap_or_default(), limit]).await?.iter().map(webhook).collect()
    }

    /// One of a tenant's webhooks.
    ///
    /// # Errors
    /// The database is down.
    pub async fn webhook(&self, tenant: &TenantId, id: &Id) -> Result<Option<Webhook>, StoreError> {
        self.row(ONE, values![tenant, id]).await?.as_ref().map(webhook).transpose()
    }

    /// The secret that signs for a webhook, written.
    ///
    /// # Errors
    /// The database is down, or the secret key is another one.
    pub async fn webhook_secret(
        &self,
        tenant: &TenantId,
        id: &Id,
    ) -> Result<Option<Zeroizing<String>>, StoreError> {
        let row = self
            .row("SELECT secret FROM webhooks WHERE tenant = $1 AND id = $2", values![tenant, id])
            .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: String = row.get("secret")?;
        Ok(Some(self.open_webhook_secret(&id.to_string(), &sealed)?))
    }

    pub(super) fn open_webhook_secret(
        &self,
        row: &str,
        sealed: &str,
    ) -> Result<Zeroizing<String>, StoreError> {
        Ok(self.secret_key().open(SECRET, row, sealed)?)
    }

    /// Keeps `fresh` as the secret that signs webhooks of a tenant's calls, unless there is one already.
    ///
    /// # Errors
    /// The database is down.
    pub async fn first_call_webhook_secret(&self, tenant: &TenantId, fresh: &str) -> Result<(), StoreError> {
        let sealed = self.secret_key().seal(CALL_SECRET, &tenant.0, fresh)?;
        let sql = "INSERT INTO webhook_secrets (tenant, secret, updated_at) VALUES ($1, $2, $3) ON CONFLICT (tenant) \
                   DO NOTHING";
        self.run(sql, values![tenant, sealed, Moment::now()]).await.map(drop)
    }

    /// The secret that signs webhooks of a tenant's calls, if it has one.
    ///
    /// # Errors
    /// The database is down, or the secret key is another one.
    pub async fn call_webhook_secret(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<Zeroizing<String>>, StoreError> {
        let row = self.row("SELECT secret FROM webhook_secrets WHERE tenant = $1", values![tenant]).await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: String = row.get("secret")?;
        Ok(Some(self.secret_key().open(CALL_SECRET, &tenant.0, &sealed)?))
    }

    /// Forgets receivers of calls' events that were named before `before`; up to `limit` of them.
    ///
    /// # Errors
    /// The database is down.
    pub async fn forget_call_webhooks(&self, before: Moment, limit: usize) -> Result<u64, StoreError> {
        let sql = "DELETE FROM call_webhooks WHERE subject IN (SELECT subject FROM call_webhooks WHERE created_at < $1 \
                   ORDER BY created_at LIMIT $2) AND created_at < $1";
        self.run(sql, values![before, limit]).await
    }
}

impl Transaction {
    /// Adds a webhook; its tenant has no more than `most` then. False, and nothing is added, if there are so many.
    ///
    /// # Errors
    /// The database is down.
    pub async fn add_webhook(
        &mut self,
        store: &Store,
        webhook: &Webhook,
        secret: &str,
        most: usize,
    ) -> Result<bool, StoreError> {
        let sealed = store.secret_key().seal(SECRET, &webhook.id.to_string(), secret)?;
        let sql = "INSERT INTO webhooks (id, tenant, url, description, kinds, secret, active, created_at, updated_at) \
                   SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE (SELECT COUNT(*) FROM webhooks WHERE tenant = $2) < \
                   $10";
        let values = values![
            webhook.id,
            &webhook.tenant,
            &webhook.url,
            &webhook.description,
            kinds_column(&webhook.kinds),
            sealed,
            webhook.active,
            webhook.created_at,
            webhook.updated_at,
            most,
        ];
        Ok(self.run(sql, values).await? == 1)
    }

    /// Changes a webhook and returns it; `None` if the tenant has no such one. Switching it on forgets why it was off.
    ///
    /// # Errors
    /// The database is down.
    pub async fn change_webhook(
        &mut self,
        tenant: &TenantId,
        id: &Id,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, StoreError> {
        let sql = "UPDATE webhooks SET url = COALESCE($3, url), description = COALESCE($4, description), kinds = \
                   COALESCE($5, kinds), active = COALESCE($6, active), disabled_reason = CASE WHEN COALESCE($6, FALSE) \
                   THEN NULL ELSE disabled_reason END, updated_at = $7 WHERE tenant = $1 AND id = $2";
        let values: Values = values![
            tenant,
            id,
            change.url.clone(),
            change.description.clone(),
            change.kinds.as_deref().map(kinds_column),
            change.active,
            Moment::now(),
        ];
        self.run(sql, values).await?;
        self.row(ONE, values![tenant, id]).await?.as_ref().map(webhook).transpose()
    }

    /// Gives a webhook another secret; false if the tenant has no such one.
    ///
    /// # Errors
    /// The database is down.
    pub async fn rotate_webhook_secret(
        &mut self,
        store: &Store,
        tenant: &TenantId,
        id: &Id,
        secret: &str,
    ) -> Result<bool, StoreError> {
        let sealed = store.secret_key().seal(SECRET, &id.to_string(), secret)?;
        let sql = "UPDATE webhooks SET secret = $3, updated_at = $4 WHERE tenant = $1 AND id = $2";
        Ok(self.run(sql, values![tenant, id, sealed, Moment::now()]).await? == 1)
    }

    /// Keeps the secret that signs webhooks of a tenant's calls, in place of the one before.
    ///
    /// # Errors
    /// The database is down.
    pub async fn rotate_call_webhook_secret(
        &mut self,
        store: &Store,
        tenant: &TenantId,
        secret: &str,
    ) -> Result<(), StoreError> {
        let sealed = store.secret_key().seal(CALL_SECRET, &tenant.0, secret)?;
        let sql = "INSERT INTO webhook_secrets (tenant, secret, updated_at) VALUES ($1, $2, $3) ON CONFLICT (tenant) \
                   DO UPDATE SET secret = excluded.secret, updated_at = excluded.updated_at";
        self.run(sql, values![tenant, sealed, Moment::now()]).await.map(drop)
    }

    /// Removes a webhook with all that waits for it; false if the tenant has no such one.
    ///
    /// # Errors
    /// The database is down.
    pub async fn remove_webhook(&mut self, tenant: &TenantId, id: &Id) -> Result<bool, StoreError> {
        let sql = "DELETE FROM webhooks WHERE tenant = $1 AND id = $2";
        if self.run(sql, values![tenant, id]).await? == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM webhook_deliveries WHERE tenant = $1 AND endpoint = $2";
        self.run(sql, values![tenant, id]).await?;
        Ok(true)
    }

    /// Sends the `call.*` events about `subject` to `url`, too. `endpoint` names the URL among all.
    ///
    /// # Errors
    /// The database is down.
    pub async fn watch_call(
        &mut self,
        tenant: &TenantId,
        subject: &str,
        endpoint: &str,
        url: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO call_webhooks (tenant, subject, endpoint, url, created_at) VALUES ($1, $2, $3, $4, $5) ON \
                   CONFLICT (tenant, subject) DO UPDATE SET endpoint = excluded.endpoint, url = excluded.url";
        self.run(sql, values![tenant, subject, endpoint, url, Moment::now()]).await.map(drop)
    }
}

fn webhook(row: &Row) -> Result<Webhook, StoreError> {
    let kinds: String = row.get("kinds")?;
    Ok(Webhook {
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        url: row.get("url")?,
        description: row.get("description")?,
        // A kind that only a newer node knows is left out of what is shown; it is still sent.
        kinds: kinds.split_whitespace().filter_map(EventKind::named).collect(),
        active: row.get("active")?,
        disabled_reason: row.optional("disabled_reason")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Between spaces, so that a kind is found by its name with a space on each side.
fn kinds_column(kinds: &[EventKind]) -> String {
    let mut column = String::new();
    for kind in kinds {
        column.push(' ');
        column.push_str(kind.name());
    }
    if !column.is_empty() {
        column.push(' ');
    }
    column
}

const ONE: &str = "SELECT id, tenant, url, description, kinds, active, disabled_reason, created_at, updated_at FROM \
                   webhooks WHERE tenant = $1 AND id = $2";
/// The columns that secrets are sealed for.
const SECRET: &str = "webhooks.secret";
const CALL_SECRET: &str = "webhook_secrets.secret";
