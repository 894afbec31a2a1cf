//! The outbox, read: events get a place in the order of delivery, and each reader goes through them by place.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::{Row, Store, StoreError, Transaction, values};
use crate::model::{Id, Moment, TenantId};

/// An event with its place in the order of delivery. Written as JSON it is what receivers get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlacedEvent {
    /// Its place; larger is later.
    #[serde(skip)]
    pub position: i64,
    /// Tells it from a repetition.
    pub id: Id,
    /// Whose.
    pub tenant: TenantId,
    /// The name of its kind; not the enum, because a newer node may know more kinds.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub time: Moment,
    /// What it is about.
    pub subject: String,
    /// The rest.
    pub data: serde_json::Value,
}

/// How far a reader of the outbox is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many events wait.
    pub pending: i64,
    /// When the oldest of them happened.
    pub oldest: Option<Moment>,
}

impl Store {
    /// Gives up to `limit` new events their places, in the order of their ids, and queues them for the webhooks that
    /// want them. Returns how many, and the last place that is given now. Nodes that do it at once wait for each other.
    ///
    /// # Errors
    /// The database is down.
    pub async fn place_events(&self, limit: usize) -> Result<(usize, i64), StoreError> {
        // Most looks find nothing, and this one waits for no writer.
        let waiting = self.row("SELECT id FROM outbox WHERE taken_at IS NULL LIMIT 1", values![]).await?;
        if waiting.is_none() {
            return Ok((0, self.last_position().await?));
        }
        let mut transaction = self.begin().await?;
        // Locks the row until the commit, so that places appear to readers in their order.
        transaction
            .run("UPDATE event_cursors SET position = position WHERE sink = 'outbox'", values![])
            .await?;
        let row = transaction.row(LAST_POSITION, values![]).await?;
        let last: i64 = row.map_or(Ok(0), |row| row.get("position"))?;
        let now = Moment::now();
        let placed = transaction
            .run(
                "UPDATE outbox SET taken_at = $1, position = $2 + fresh.number FROM (SELECT id, row_number() OVER \
                 (ORDER BY id) AS number FROM (SELECT id FROM outbox WHERE taken_at IS NULL ORDER BY id LIMIT $3) AS \
                 first) AS fresh WHERE outbox.id = fresh.id",
                values![now, last, limit],
            )
            .await?;
        if placed > 0 {
            transaction.queue_webhooks(last, now).await?;
        }
        let next = last.saturating_add(i64::try_from(placed).unwrap_or(0));
        transaction
            .run("UPDATE event_cursors SET position = $1 WHERE sink = 'outbox'", values![next])
            .await?;
        transaction.commit().await?;
        Ok((usize::try_from(placed).unwrap_or(usize::MAX), next))
    }

    /// The last place that was given.
    ///
    /// # Errors
    /// The database is down.
    pub async fn last_position(&self) -> Result<i64, StoreError> {
        self.row(LAST_POSITION, values![]).await?.map_or(Ok(0), |row| row.get("position"))
    }

    /// Up to `limit` events behind `position`, of all tenants: for brokers, which the operator runs.
    ///
    /// # Errors
    /// The database is down.
    pub async fn events_after(&self, position: i64, limit: usize) -> Result<Vec<PlacedEvent>, StoreError> {
        let sql = "SELECT position, id, tenant, kind, time, subject, data FROM outbox WHERE position > $1 ORDER BY \
                   position LIMIT $2";
        self.rows(sql, values![position, limit]).await?.iter().map(placed_event).collect()
    }

    /// Up to `limit` events of a tenant behind `position` and not behind `until`.
    ///
    /// # Errors
    /// The database is down.
    pub async fn events_between(
        &self,
        tenant: &TenantId,
        position: i64,
        until: i64,
        limit: usize,
    ) -> Result<Vec<PlacedEvent>, StoreError> {
        let sql = "SELECT position, id, tenant, kind, time, subject, data FROM outbox WHERE tenant = $1 AND position > \
                   $2 AND position <= $3 ORDER BY position LIMIT $4";
        self.rows(sql, values![tenant, position, until, limit]).await?.iter().map(placed_event).collect()
    }

    /// The place of a tenant's event; `None` if it is not kept (any more), or has none yet.
    ///
    /// # Errors
    /// The database is down.
    pub async fn event_position(&self, tenant: &TenantId, id: &Id) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT position FROM outbox WHERE tenant = $1 AND id = $2";
        self.row(sql, values![tenant, id]).await?.map_or(Ok(None), |row| row.optional("position"))
    }

    /// Makes `owner` the one who delivers to `sink` until the lease ends, and returns from where on; `None` if it is
    /// somebody else. A sink that was never seen begins with what happens from now on.
    ///
    /// # Errors
    /// The database is down.
    pub async fn lease_cursor(
        &self,
        sink: &str,
        owner: &str,
        lease: Duration,
    ) -> Result<Option<i64>, StoreError> {
        let mut transaction = self.begin().await?;
        transaction
            .run(
                "INSERT INTO event_cursors (sink, position, lease_owner, lease_until) SELECT $1, position, '', 0 FROM \
                 event_cursors WHERE sink = 'outbox' ON CONFLICT (sink) DO NOTHING",
                values![sink],
            )
            .await?;
        let now = Moment::now();
        let row = transaction
            .row(
                "UPDATE event_cursors SET lease_owner = $2, lease_until = $3 WHERE sink = $1 AND (lease_owner = $2 OR \
                 lease_until <= $4) RETURNING position",
                values![sink, owner, now.after(lease), now],
            )
            .await?;
        transaction.commit().await?;
        row.map(|row| row.get("position")).transpose()
    }

    /// Everything up to `position` was delivered. False, and nothing is changed, if `owner` has lost the lease.
    ///
    /// # Errors
    /// The database is down.
    pub async fn advance_cursor(
        &self,
        sink: &str,
        owner: &str,
        position: i64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let until = Moment::now().after(lease);
        let sql =
            "UPDATE event_cursors SET position = $3, lease_until = $4 WHERE sink = $1 AND lease_owner = $2";
        Ok(self.run(sql, values![sink, owner, position, until]).await? == 1)
    }

    /// Gives up a lease early.
    ///
    /// # Errors
    /// The database is down.
    pub async fn release_cursor(&self, sink: &str, owner: &str) -> Result<(), StoreError> {
        let sql =
            "UPDATE event_cursors SET lease_owner = '', lease_until = 0 WHERE sink = $1 AND lease_owner = $2";
        self.run(sql, values![sink, owner]).await.map(drop)
    }

    /// Ends the leases of all others, on brokers and on deliveries: there are no others any more.
    ///
    /// # Errors
    /// The database is down.
    pub async fn release_leases_but(&self, owner: &str) -> Result<(), StoreError> {
        let sql = "UPDATE event_cursors SET lease_owner = '', lease_until = 0 WHERE lease_owner <> $1";
        self.run(sql, values![owner]).await?;
        let sql = "UPDATE webhook_deliveries SET lease_owner = '', lease_until = 0 WHERE state = 'pending' AND \
                   lease_until > 0 AND lease_owner <> $1";
        self.run(sql, values![owner]).await.map(drop)
    }

    /// How much waits for `sink`; nothing if it was never seen.
    ///
    /// # Errors
    /// The database is down.
    pub async fn cursor_backlog(&self, sink: &str) -> Result<Backlog, StoreError> {
        let row = self.row("SELECT position FROM event_cursors WHERE sink = $1", values![sink]).await?;
        let Some(position) = row.map(|row| row.get::<i64>("position")).transpose()? else {
            return Ok(Backlog::default());
        };
        // Places have no gaps, so this needs no counting.
        let pending = self.last_position().await?.saturating_sub(position).max(0);
        let sql = "SELECT time FROM outbox WHERE position > $1 ORDER BY position LIMIT 1";
        let row = self.row(sql, values![position]).await?;
        Ok(Backlog { pending, oldest: row.map(|row| row.get("time")).transpose()? })
    }
}

impl Transaction {
    /// Queues what was placed behind `last` for the webhooks that want it.
    async fn queue_webhooks(&mut self, last: i64, now: Moment) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO webhook_deliveries (id, tenant, endpoint, event, position, subject, state, attempts, \
             created_at, due_at, lease_owner, lease_until) SELECT o.id || '.' || w.id, o.tenant, w.id, o.id, \
             o.position, o.subject, 'pending', 0, $2, $2, '', 0 FROM outbox o JOIN webhooks w ON w.tenant = o.tenant \
             WHERE o.position > $1 AND w.active AND (w.kinds = '' OR w.kinds LIKE '% ' || o.kind || ' %') ON CONFLICT \
             (id) DO NOTHING",
            values![last, now],
        )
        .await?;
        self.run(
            "INSERT INTO webhook_deliveries (id, tenant, endpoint, url, event, position, subject, state, attempts, \
             created_at, due_at, lease_owner, lease_until) SELECT o.id || '.call', o.tenant, c.endpoint, c.url, o.id, \
             o.position, o.subject, 'pending', 0, $2, $2, '', 0 FROM outbox o JOIN call_webhooks c ON c.tenant = \
             o.tenant AND c.subject = o.subject WHERE o.position > $1 AND o.kind LIKE 'call.%' ON CONFLICT (id) DO \
             NOTHING",
            values![last, now],
        )
        .await
        .map(drop)
    }
}

pub(super) fn placed_event(row: &Row) -> Result<PlacedEvent, StoreError> {
    Ok(PlacedEvent {
        position: row.get("position")?,
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        kind: row.get("kind")?,
        time: row.get("time")?,
        subject: row.get("subject")?,
        data: row.get("data")?,
    })
}

/// Changes whenever a transaction of this process has been committed: there may be something in the outbox. Other nodes'
/// commits are found by looking now and then.
#[must_use]
pub fn committed() -> watch::Receiver<()> {
    COMMITTED.subscribe()
}

pub(super) fn tell_committed() {
    COMMITTED.send_replace(());
}

/// One for the process: a store more, as tests have it, only makes somebody look in vain.
static COMMITTED: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::channel(()).0);

const LAST_POSITION: &str = "SELECT position FROM event_cursors WHERE sink = 'outbox'";
