//! Events on their way to webhooks: claimed by one node at a time, the earliest of each subject first.

use std::time::Duration;

use zeroize::Zeroizing;

use super::outbox::placed_event;
use super::{Backlog, PlacedEvent, Row, Store, StoreError, Transaction, values};
use crate::model::{DeadDelivery, Id, Moment, TenantId};

/// An event that this node is to deliver now.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Names the delivery.
    pub id: String,
    /// The webhook's id, or the name of a URL of calls.
    pub endpoint: String,
    /// Where to.
    pub url: String,
    /// Whether it goes to the URL of a call, and is signed with the tenant's secret for those.
    pub for_call: bool,
    /// How often it was tried before.
    pub attempts: u32,
    /// What.
    pub event: PlacedEvent,
    /// The webhook's secret, written; `None` for the URL of a call.
    pub secret: Option<Zeroizing<String>>,
}

/// What became of a claimed delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It is tried again then.
    Later {
        /// When.
        due_at: Moment,
        /// The answer's status.
        status: Option<u16>,
        /// What went wrong.
        error: String,
    },
    /// It is given up.
    Dead {
        /// The answer's status.
        status: Option<u16>,
        /// What went wrong.
        error: String,
    },
}

impl Store {
    /// Up to `limit` receivers that something waits for, by name, behind `after`.
    ///
    /// # Errors
    /// The database is down.
    pub async fn waiting_endpoints(&self, after: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        // Goes from one name to the next in the index instead of through all that waits.
        let sql = "WITH RECURSIVE names(endpoint) AS (SELECT MIN(endpoint) FROM webhook_deliveries WHERE state = \
                   'pending' AND endpoint > $1 UNION ALL SELECT (SELECT MIN(endpoint) FROM webhook_deliveries WHERE \
                   state = 'pending' AND endpoint > names.endpoint) FROM names WHERE names.endpoint IS NOT NULL) SELECT \
                   endpoint FROM names WHERE endpoint IS NOT NULL LIMIT $2";
        self.rows(sql, values![after, limit]).await?.iter().map(|row| row.get("endpoint")).collect()
    }

    /// Claims up to `limit` deliveries for a receiver that is switched on: of each subject only the earliest, so that
    /// order is kept. Nobody else gets them until the lease ends.
    ///
    /// # Errors
    /// The database is down.
    pub async fn claim_deliveries(
        &self,
        endpoint: &str,
        owner: &str,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        let now = Moment::now();
        // Also finds what must not be sent yet, but no writer has to wait for the answer.
        let sql = "SELECT id FROM webhook_deliveries WHERE state = 'pending' AND endpoint = $1 AND due_at <= $2 AND \
                   lease_until <= $2 LIMIT 1";
        if self.row(sql, values![endpoint, now]).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin().await?;
        let claimed = transaction
            .rows(
                // The condition on the lease is said twice: with PostgreSQL a second node waits for the first one's
                // change of the row, and looks at the outer condition again.
                "UPDATE webhook_deliveries SET lease_owner = $2, lease_until = $3 WHERE id IN (SELECT d.id FROM \
                 webhook_deliveries d WHERE d.state = 'pending' AND d.endpoint = $1 AND d.due_at <= $4 AND \
                 d.lease_until <= $4 AND NOT EXISTS (SELECT 1 FROM webhook_deliveries e WHERE e.state = 'pending' AND \
                 e.endpoint = d.endpoint AND e.subject = d.subject AND e.position < d.position) AND (d.url IS NOT NULL \
                 OR EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.endpoint AND w.active)) ORDER BY d.position LIMIT \
                 $5) AND state = 'pending' AND lease_until <= $4 RETURNING id",
                values![endpoint, owner, now.after(lease), now, limit],
            )
            .await?;
        let mut found = Vec::with_capacity(claimed.len());
        for row in &claimed {
            let id: String = row.get("id")?;
            let sql = "SELECT d.attempts, d.url AS call_url, w.url AS webhook_url, w.secret, o.position, o.id, o.tenant, \
                       o.kind, o.time, o.subject, o.data FROM webhook_deliveries d JOIN outbox o ON o.id = d.event LEFT \
                       JOIN webhooks w ON w.id = d.endpoint AND w.tenant = d.tenant WHERE d.id = $1";
            match transaction.row(sql, values![&id]).await? {
                Some(row) => found.push((id, row)),
                // The event is kept no longer.
                None => {
                    transaction.run("DELETE FROM webhook_deliveries WHERE id = $1", values![&id]).await?;
                }
            }
        }
        transaction.commit().await?;
        let mut deliveries = Vec::with_capacity(found.len());
        for (id, row) in found {
            let call_url: Option<String> = row.optional("call_url")?;
            let sealed: Option<String> = row.optional("secret")?;
            let for_call = call_url.is_some();
            let url = match call_url {
                Some(url) => url,
                None => row.get("webhook_url")?,
            };
            let secret = match sealed {
                Some(sealed) if !for_call => Some(self.open_webhook_secret(endpoint, &sealed)?),
                _ => None,
            };
            deliveries.push(Claimed {
                id,
                endpoint: endpoint.to_owned(),
                url,
                for_call,
                attempts: row.get("attempts")?,
                event: placed_event(&row)?,
                secret,
            });
        }
        deliveries.sort_by_key(|delivery| delivery.event.position);
        Ok(deliveries)
    }

    /// Writes down what became of deliveries that `owner` has claimed; of others nothing is changed.
    ///
    /// # Errors
    /// The database is down.
    pub async fn settle_deliveries(
        &self,
        owner: &str,
        outcomes: &[(String, Outcome)],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for (id, outcome) in outcomes {
            match outcome {
                Outcome::Delivered => {
                    let sql = "DELETE FROM webhook_deliveries WHERE id = $1 AND lease_owner = $2";
                    transaction.run(sql, values![id, owner]).await?;
                }
                Outcome::Later { due_at, status, error } => {
                    let sql = "UPDATE webhook_deliveries SET attempts = attempts + 1, due_at = $3, lease_owner = '', \
                               lease_until = 0, last_status = $4, last_error = $5 WHERE id = $1 AND lease_owner = $2";
                    transaction.run(sql, values![id, owner, *due_at, *status, error]).await?;
                }
                Outcome::Dead { status, error } => {
                    let sql = "UPDATE webhook_deliveries SET attempts = attempts + 1, state = 'dead', dead_at = $3, \
                               lease_owner = '', lease_until = 0, last_status = $4, last_error = $5 WHERE id = $1 AND \
                               lease_owner = $2";
                    transaction.run(sql, values![id, owner, Moment::now(), *status, error]).await?;
                }
            }
        }
        transaction.commit().await
    }

    /// Gives back what `owner` has claimed and not settled: it ends.
    ///
    /// # Errors
    /// The database is down.
    pub async fn release_deliveries(&self, owner: &str) -> Result<u64, StoreError> {
        let sql = "UPDATE webhook_deliveries SET lease_owner = '', lease_until = 0 WHERE state = 'pending' AND \
                   lease_owner = $1";
        self.run(sql, values![owner]).await
    }

    /// Makes all that waits for a receiver due now: it is back.
    ///
    /// # Errors
    /// The database is down.
    pub async fn hurry_deliveries(&self, endpoint: &str) -> Result<u64, StoreError> {
        let sql = "UPDATE webhook_deliveries SET due_at = $2 WHERE state = 'pending' AND endpoint = $1 AND due_at > $2";
        self.run(sql, values![endpoint, Moment::now()]).await
    }

    /// Gives up what has waited since before `before`, up to `limit`.
    ///
    /// # Errors
    /// The database is down.
    pub async fn give_up_deliveries(&self, before: Moment, limit: usize) -> Result<u64, StoreError> {
        let now = Moment::now();
        let sql = "UPDATE webhook_deliveries SET state = 'dead', dead_at = $2, last_error = COALESCE(last_error, 'it \
                   waited too long') WHERE id IN (SELECT id FROM webhook_deliveries WHERE state = 'pending' AND \
                   created_at < $1 AND lease_until <= $2 ORDER BY created_at LIMIT $3) AND state = 'pending'";
        self.run(sql, values![before, now, limit]).await
    }

    /// Forgets what was given up before `before`, and what waits for receivers that are no longer; up to `limit`.
    ///
    /// # Errors
    /// The database is down.
    pub async fn forget_deliveries(&self, before: Moment, limit: usize) -> Result<u64, StoreError> {
        let sql = "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries WHERE state = 'dead' \
                   AND dead_at < $1 LIMIT $2)";
        self.run(sql, values![before, limit]).await
    }

    /// A receiver said that it is gone: it gets nothing more until somebody switches it on again.
    ///
    /// # Errors
    /// The database is down.
    pub async fn disable_webhook(&self, endpoint: &str, reason: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE webhooks SET active = FALSE, disabled_reason = $2, updated_at = $3 WHERE id = $1 AND active";
        Ok(self.run(sql, values![endpoint, reason, Moment::now()]).await? == 1)
    }

    /// Deliveries of a tenant that were given up, behind `after`, by id.
    ///
    /// # Errors
    /// The database is down.
    pub async fn dead_deliveries(
        &self,
        tenant: &TenantId,
        webhook: Option<&Id>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<DeadDelivery>, StoreError> {
        let sql = "SELECT d.id, d.endpoint, COALESCE(d.url, w.url, '') AS url, d.url IS NOT NULL AS for_call, d.event, \
                   COALESCE(o.kind, '') AS kind, d.subject, d.attempts, d.last_status, d.last_error, d.created_at, \
                   d.dead_at FROM webhook_deliveries d LEFT JOIN webhooks w ON w.id = d.endpoint AND w.tenant = d.tenant \
                   LEFT JOIN outbox o ON o.id = d.event WHERE d.tenant = $1 AND d.state = 'dead' AND d.id > $2 AND ($3 = \
                   '' OR d.endpoint = $3) ORDER BY d.id LIMIT $4";
        let webhook = webhook.map(ToString::to_string).unwrap_or_default();
        self.rows(sql, values![tenant, after, webhook, limit]).await?.iter().map(dead).collect()
    }

    /// How much waits for webhooks, and how much was given up.
    ///
    /// # Errors
    /// The database is down.
    pub async fn webhook_backlog(&self) -> Result<(Backlog, i64), StoreError> {
        let sql = "SELECT COUNT(*) AS pending, MIN(created_at) AS oldest FROM webhook_deliveries WHERE state = 'pending'";
        let backlog = match self.row(sql, values![]).await? {
            Some(row) => Backlog { pending: row.get("pending")?, oldest: row.optional("oldest")? },
            None => Backlog::default(),
        };
        let sql = "SELECT COUNT(*) AS dead FROM webhook_deliveries WHERE state = 'dead'";
        let dead = self.row(sql, values![]).await?.map_or(Ok(0), |row| row.get("dead"))?;
        Ok((backlog, dead))
    }
}

impl Transaction {
    /// Queues again what was given up; returns how many that are.
    ///
    /// # Errors
    /// The database is down.
    pub async fn revive_delivery(&mut self, tenant: &TenantId, id: &str) -> Result<u64, StoreError> {
        let now = Moment::now();
        let sql = "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, created_at = $3, due_at = $3, dead_at = \
                   NULL WHERE tenant = $1 AND id = $2 AND state = 'dead' AND EXISTS (SELECT 1 FROM outbox o WHERE o.id = \
                   webhook_deliveries.event)";
        self.run(sql, values![tenant, id, now]).await
    }

    /// Queues for a webhook, again or for the first time, up to `limit` of the tenant's events of its kinds that
    /// happened from `from` to before `to`. What waits already is left as it is.
    ///
    /// # Errors
    /// The database is down.
    pub async fn replay_events(
        &mut self,
        tenant: &TenantId,
        webhook: &Id,
        from: Moment,
        to: Moment,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let now = Moment::now();
        let sql = "INSERT INTO webhook_deliveries (id, tenant, endpoint, event, position, subject, state, attempts, \
                   created_at, due_at, lease_owner, lease_until) SELECT o.id || '.' || w.id, o.tenant, w.id, o.id, \
                   o.position, o.subject, 'pending', 0, $5, $5, '', 0 FROM outbox o JOIN webhooks w ON w.tenant = \
                   o.tenant WHERE o.tenant = $1 AND w.id = $2 AND o.position IS NOT NULL AND o.time >= $3 AND o.time < \
                   $4 AND (w.kinds = '' OR w.kinds LIKE '% ' || o.kind || ' %') ORDER BY o.position LIMIT $6 ON CONFLICT \
                   (id) DO UPDATE SET state = 'pending', attempts = 0, created_at = excluded.created_at, due_at = \
                   excluded.due_at, dead_at = NULL WHERE webhook_deliveries.state = 'dead'";
        self.run(sql, values![tenant, webhook, from, to, now, limit]).await
    }
}

fn dead(row: &Row) -> Result<DeadDelivery, StoreError> {
    let for_call: bool = row.get("for_call")?;
    Ok(DeadDelivery {
        id: row.get("id")?,
        webhook: if for_call { None } else { Some(row.get("endpoint")?) },
        url: row.get("url")?,
        event: row.get("event")?,
        kind: row.get("kind")?,
        subject: row.get("subject")?,
        attempts: row.get("attempts")?,
        last_status: row.optional("last_status")?,
        last_error: row.optional("last_error")?,
        created_at: row.get("created_at")?,
        dead_at: row.get("dead_at")?,
    })
}
