//! Records of calls.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::insert::Insert;
use super::{Bind as _, Row, Store, StoreError, Transaction, Values, json, values};
use crate::model::{CallRecord, Direction, Event, HangUpSide, Id, Moment, RecordState, TenantId};

/// A record as it is now, and what is told about that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordChange {
    /// The life of the process that has the leg.
    pub boot: Id,
    /// As it is now.
    pub record: CallRecord,
    /// What happened to it.
    pub events: Vec<Event>,
}

/// Which records are asked for. What is `None` is not looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordFilter {
    /// Of trunks of this provider.
    pub provider: Option<String>,
    /// Of this trunk.
    pub trunk_id: Option<String>,
    /// The calling number, exactly.
    pub from_number: Option<String>,
    /// The called number, exactly.
    pub to_number: Option<String>,
    /// Who called whom.
    pub direction: Option<Direction>,
    /// How far it is.
    pub state: Option<RecordState>,
    /// Of this app.
    pub app: Option<String>,
    /// Of this agent.
    pub agent: Option<String>,
    /// All legs of this call.
    pub call: Option<Id>,
    /// Begun then or later.
    pub since: Option<Moment>,
    /// Begun before.
    pub until: Option<Moment>,
}

/// Where a page of records ends and the next one, with older records, begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCursor {
    /// When the last record of the page began.
    pub started_at: Moment,
    /// Which it is.
    pub id: Id,
}

impl From<&CallRecord> for RecordCursor {
    fn from(record: &CallRecord) -> Self {
        Self { started_at: record.started_at, id: record.id }
    }
}

impl Store {
    /// Writes records and what is told about them; when this returns they are on the disk. Of several changes of the same record the
    /// last one stays. Writing the same again changes nothing.
    ///
    /// # Errors
    /// The database is down; nothing was written then.
    pub async fn write_records(&self, changes: &[RecordChange]) -> Result<(), StoreError> {
        let mut last: BTreeMap<Id, &RecordChange> = BTreeMap::new();
        let mut events: BTreeMap<Id, &Event> = BTreeMap::new();
        for change in changes {
            last.insert(change.record.id, change);
            events.extend(change.events.iter().map(|event| (event.id, event)));
        }
        let mut transaction = self.begin().await?;
        let rows = last.into_values().map(row).collect();
        UPSERT.run(&mut transaction, rows).await?;
        transaction.emit_all(events.into_values()).await?;
        transaction.commit().await
    }

    /// One record.
    ///
    /// # Errors
    /// The database is down.
    pub async fn record(&self, tenant: &TenantId, id: Id) -> Result<Option<CallRecord>, StoreError> {
        let row =
            self.row("SELECT * FROM records WHERE id = $1 AND tenant = $2", values![id, tenant]).await?;
        row.map(|row| read(&row)).transpose()
    }

    /// The newest records of a tenant that `filter` wants, at most `limit`, older than `after`.
    ///
    /// # Errors
    /// The database is down.
    pub async fn records(
        &self,
        tenant: &TenantId,
        filter: &RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Result<Vec<CallRecord>, StoreError> {
        let mut values = values![tenant];
        let mut conditions = String::from("tenant = $1");
        let mut and = |condition: &str, value: super::Value| {
            values.push(value);
            conditions.push_str(" AND ");
            conditions.push_str(&condition.replace('?', &format!("${}", values.len())));
        };
        let words = [
            ("provider = ?", filter.provider.as_deref()),
            ("trunk_id = ?", filter.trunk_id.as_deref()),
            ("from_number = ?", filter.from_number.as_deref()),
            ("to_number = ?", filter.to_number.as_deref()),
            ("direction = ?", filter.direction.map(Direction::name)),
            ("state = ?", filter.state.map(RecordState::name)),
            ("app = ?", filter.app.as_deref()),
            ("agent = ?", filter.agent.as_deref()),
        ];
        for (condition, word) in words {
            if let Some(word) = word {
                and(condition, word.value());
            }
        }
        if let Some(call) = filter.call {
            and("call = ?", call.value());
        }
        if let Some(since) = filter.since {
            and("started_at >= ?", since.value());
        }
        if let Some(until) = filter.until {
            and("started_at < ?", until.value());
        }
        if let Some(after) = after {
            and("(started_at, id) < (?, ", after.started_at.value());
            conditions.push_str(&format!("${})", values.len() + 1));
            values.push(after.id.value());
        }
        values.push(limit.value());
        // Only the names of columns and the numbers of parameters are put together here.
        let sql = format!(
            "SELECT * FROM records WHERE {conditions} ORDER BY started_at DESC, id DESC LIMIT ${}",
            values.len()
        );
        self.rows(AssertSqlSafe(sql), values).await?.iter().map(read).collect()
    }

    /// Notes that a process lives, or that its life has begun.
    ///
    /// # Errors
    /// The database is down.
    pub async fn boot_seen(&self, boot: Id, node: Id, now: Moment) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO boots (boot, node, started_at, seen_at) VALUES ($1, $2, $3, $3) \
             ON CONFLICT (boot) DO UPDATE SET seen_at = excluded.seen_at",
            values![boot, node, now],
        )
        .await
        .map(drop)
    }

    /// Closes the records that lives left open which are over: earlier ones of `node`, and those of other nodes that were
    /// not seen since `dead_since`. At most `limit`; returns how many.
    ///
    /// # Errors
    /// The database is down.
    pub async fn close_interrupted(
        &self,
        boot: Id,
        node: Id,
        dead_since: Moment,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let mut transaction = self.begin().await?;
        let over = "SELECT records.*, boots.seen_at AS seen_at FROM records LEFT JOIN boots ON boots.boot = records.boot \
                    WHERE records.ended_at IS NULL AND records.boot <> $1 \
                    AND (boots.node = $2 OR boots.node IS NULL OR boots.seen_at < $3) LIMIT $4";
        let rows = transaction.rows(over, values![boot, node, dead_since, limit]).await?;
        for row in &rows {
            let mut record = read(row)?;
            let last_event = record.answered_at.or(record.ringing_at).unwrap_or(record.started_at);
            record.state = RecordState::Interrupted;
            // It lived then; when it ended is not known.
            record.ended_at =
                Some(row.optional("seen_at")?.map_or(last_event, |seen: Moment| seen.max(last_event)));
            record.hangup_cause = Some("the process that had the call died".to_owned());
            record.hangup_side = Some(HangUpSide::System);
            transaction
                .run(
                    "UPDATE records SET state = $2, ended_at = $3, hangup_cause = $4, hangup_side = $5 WHERE id = $1",
                    values![
                        record.id,
                        record.state.name(),
                        record.ended_at,
                        record.hangup_cause.as_deref(),
                        record.hangup_side.map(HangUpSide::name)
                    ],
                )
                .await?;
            transaction.emit(&record.ended_event()).await?;
        }
        transaction.commit().await?;
        Ok(rows.len())
    }

    /// Forgets lives that are over and have no open records.
    ///
    /// # Errors
    /// The database is down.
    pub async fn forget_boots(&self, unseen_since: Moment) -> Result<u64, StoreError> {
        self.run(
            "DELETE FROM boots WHERE seen_at < $1 AND NOT EXISTS \
             (SELECT 1 FROM records WHERE records.boot = boots.boot AND records.ended_at IS NULL)",
            values![unseen_since],
        )
        .await
    }
}

impl Transaction {
    /// Tells many things at once.
    ///
    /// # Errors
    /// See [`Transaction::emit`].
    pub async fn emit_all<'a>(&mut self, events: impl Iterator<Item = &'a Event>) -> Result<(), StoreError> {
        let rows = events.map(|event| {
            values![event.id, &event.tenant, event.kind.name(), event.time, &event.subject, &event.data]
        });
        let rows = rows.collect();
        TELL.run(self, rows).await
    }
}

fn row(change: &RecordChange) -> Values {
    let record = &change.record;
    values![
        record.id,
        record.call,
        &record.tenant,
        record.direction.name(),
        record.state.name(),
        &record.sip_call_id,
        &record.from_number,
        &record.to_number,
        record.trunk_id.as_deref(),
        record.provider.as_deref(),
        record.route.as_deref(),
        record.app.as_deref(),
        record.agent.as_deref(),
        record.started_at,
        record.ringing_at,
        record.answered_at,
        record.ended_at,
        record.duration_ms,
        record.codec.as_deref(),
        record.remote_sip.as_deref(),
        record.remote_rtp.as_deref(),
        record.quality.as_ref().map(json),
        record.ai.as_ref(),
        record.recording.as_deref(),
        record.hangup_cause.as_deref(),
        record.hangup_status,
        record.hangup_q850,
        record.hangup_side.map(HangUpSide::name),
        record.cost,
        json(&record.attempts),
        &record.variables,
        change.boot,
    ]
}

fn read(row: &Row) -> Result<CallRecord, StoreError> {
    let quality: Option<serde_json::Value> = row.optional("quality")?;
    Ok(CallRecord {
        id: row.get("id")?,
        call: row.get("call")?,
        tenant: row.get("tenant")?,
        direction: row.word("direction", Direction::named)?,
        state: row.word("state", RecordState::named)?,
        sip_call_id: row.get("sip_call_id")?,
        from_number: row.get("from_number")?,
        to_number: row.get("to_number")?,
        trunk_id: row.optional("trunk_id")?,
        provider: row.optional("provider")?,
        route: row.optional("route")?,
        app: row.optional("app")?,
        agent: row.optional("agent")?,
        started_at: row.get("started_at")?,
        ringing_at: row.optional("ringing_at")?,
        answered_at: row.optional("answered_at")?,
        ended_at: row.optional("ended_at")?,
        duration_ms: row.optional("duration_ms")?,
        codec: row.optional("codec")?,
        remote_sip: row.optional("remote_sip")?,
        remote_rtp: row.optional("remote_rtp")?,
        quality: match quality {
            Some(_) => Some(row.json("quality")?),
            None => None,
        },
        ai: row.optional("ai")?,
        recording: row.optional("recording")?,
        hangup_cause: row.optional("hangup_cause")?,
        hangup_status: row.optional("hangup_status")?,
        hangup_q850: row.optional("hangup_q850")?,
        hangup_side: match row.optional::<String>("hangup_side")? {
            Some(_) => Some(row.word("hangup_side", HangUpSide::named)?),
            None => None,
        },
        cost: row.optional("cost")?,
        attempts: row.json("attempts")?,
        variables: row.json("variables")?,
    })
}

const COLUMNS: [&str; 32] = [
    "id",
    "call",
    "tenant",
    "direction",
    "state",
    "sip_call_id",
    "from_number",
    "to_number",
    "trunk_id",
    "provider",
    "route",
    "app",
    "agent",
    "started_at",
    "ringing_at",
    "answered_at",
    "ended_at",
    "duration_ms",
    "codec",
    "remote_sip",
    "remote_rtp",
    "quality",
    "ai",
    "recording",
    "hangup_cause",
    "hangup_status",
    "hangup_q850",
    "hangup_side",
    "cost",
    "attempts",
    "variables",
    "boot",
];

static UPSERT: LazyLock<Insert> = LazyLock::new(|| {
    let changes: Vec<String> =
        COLUMNS[1..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
    Insert::new("records", &COLUMNS, &format!("ON CONFLICT (id) DO UPDATE SET {}", changes.join(", ")))
});

static TELL: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new("outbox", &["id", "tenant", "kind", "time", "subject", "data"], "ON CONFLICT (id) DO NOTHING")
});

#[cfg(test)]
mod tests;
