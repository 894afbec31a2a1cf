//! Trunks, and how they stand.

use std::collections::HashMap;
use std::time::Duration;

use super::{Row, SecretKeyError, Store, StoreError, Transaction, Value, json, values};
use crate::model::{
    AuthMethod, Moment, PingState, Secret, TenantId, Trunk, TrunkState, TrunkSummary, TrunkTransport,
};

/// A trunk with what opens it.
#[derive(Debug)]
pub struct OpenTrunk {
    /// The trunk.
    pub trunk: Trunk,
    /// Its password; an error if it does not open.
    pub password: Result<Option<Secret>, SecretKeyError>,
}

/// How a trunk stands, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptState {
    /// Its registration.
    pub state: TrunkState,
    /// Since when.
    pub since: Moment,
    /// Why it failed last.
    pub cause: Option<String>,
    /// How long the carrier lets it hold.
    pub expires_s: Option<u64>,
    /// Its health.
    pub ping: PingState,
    /// How long the last answer to OPTIONS took.
    pub ping_ms: Option<f64>,
    /// Who keeps it registered.
    pub node: Option<String>,
}

impl Store {
    /// A tenant's trunks behind the one called `after`, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunks(&self, tenant: &TenantId, after: &str, limit: i64) -> Result<Vec<Trunk>, StoreError> {
        let sql = "SELECT * FROM trunks WHERE tenant = $1 AND trunk_id > $2 ORDER BY trunk_id LIMIT $3";
        let rows = self.rows(sql, values![tenant, after, limit]).await?;
        rows.iter().map(trunk).collect()
    }

    /// One of a tenant's trunks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunk(&self, tenant: &TenantId, trunk_id: &str) -> Result<Option<Trunk>, StoreError> {
        let row = self.row(ONE, values![tenant, trunk_id]).await?;
        row.as_ref().map(trunk).transpose()
    }

    /// Every tenant's active trunks, opened.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn active_trunks(&self) -> Result<Vec<OpenTrunk>, StoreError> {
        let sql = "SELECT * FROM trunks WHERE active = $1 ORDER BY tenant, trunk_id LIMIT $2";
        let rows = self.rows(sql, values![true, MOST_ACTIVE]).await?;
        rows.iter()
            .map(|row| {
                let trunk = trunk(row)?;
                let sealed: Option<String> = row.optional("password")?;
                let place = place(&trunk);
                let open = |sealed: String| self.secret_key().open(COLUMN, &place, &sealed);
                let password = sealed.map(open).transpose();
                let password = password.map(|secret| secret.map(|secret| Secret::from(secret.to_string())));
                Ok(OpenTrunk { trunk, password })
            })
            .collect()
    }

    /// A number that is another one after any trunk was made, changed or deleted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunk_revision(&self) -> Result<(i64, i64), StoreError> {
        let sql = "SELECT COUNT(*) AS number, COALESCE(MAX(updated_at), 0) AS latest FROM trunks";
        let row = self.row(sql, values![]).await?;
        row.map_or(Ok((0, 0)), |row| Ok((row.get("number")?, row.get("latest")?)))
    }

    /// How a tenant's trunks stand, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunk_states(&self, tenant: &TenantId) -> Result<HashMap<String, KeptState>, StoreError> {
        let sql = "SELECT * FROM trunk_states WHERE tenant = $1 LIMIT $2";
        let rows = self.rows(sql, values![tenant, MOST_ACTIVE]).await?;
        rows.iter().map(|row| Ok((row.get("trunk_id")?, kept_state(row)?))).collect()
    }

    /// How one of a tenant's trunks stands.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunk_state(
        &self,
        tenant: &TenantId,
        trunk_id: &str,
    ) -> Result<Option<KeptState>, StoreError> {
        let sql = "SELECT * FROM trunk_states WHERE tenant = $1 AND trunk_id = $2";
        let row = self.row(sql, values![tenant, trunk_id]).await?;
        row.as_ref().map(kept_state).transpose()
    }

    /// What the calls of each of a tenant's trunks came to that began between `since` and `now`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunk_summaries(
        &self,
        tenant: &TenantId,
        since: Moment,
        now: Moment,
    ) -> Result<Vec<TrunkSummary>, StoreError> {
        let sql = "SELECT trunk_id, MAX(provider) AS provider, COUNT(ended_at) AS calls, \
                   COUNT(CASE WHEN ended_at IS NOT NULL THEN answered_at END) AS answered, \
                   COUNT(CASE WHEN state = 'failed' THEN 1 END) AS failed, \
                   COUNT(CASE WHEN ended_at IS NULL THEN 1 END) AS active, \
                   COUNT(CASE WHEN state = 'failed' AND ended_at >= $4 THEN 1 END) AS failed_last_hour, \
                   CAST(COALESCE(SUM(duration_ms), 0) AS BIGINT) AS duration_ms, \
                   COALESCE(SUM(cost), 0.0) AS cost \
                   FROM records WHERE tenant = $1 AND trunk_id IS NOT NULL AND started_at >= $2 AND started_at <= $3 \
                   GROUP BY trunk_id ORDER BY trunk_id LIMIT $5";
        let hour_ago = now.before(Duration::from_secs(3600));
        let rows = self.rows(sql, values![tenant, since, now, hour_ago, MOST_ACTIVE]).await?;
        rows.iter().map(summary).collect()
    }

    /// Holds what `node` holds already and what nobody does, until `until`; all that it holds then. One node registers
    /// a trunk: the first that asks, until it does not ask again in time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn hold_trunks(
        &self,
        node: &str,
        now: Moment,
        until: Moment,
    ) -> Result<Vec<(TenantId, String)>, StoreError> {
        let sql = "UPDATE trunk_states SET node = $1, held_until = $2 WHERE node = $1 OR node IS NULL OR held_until < $3";
        self.run(sql, values![node, until, now]).await?;
        let sql = "SELECT tenant, trunk_id FROM trunk_states WHERE node = $1 LIMIT $2";
        let rows = self.rows(sql, values![node, MOST_ACTIVE]).await?;
        rows.iter().map(|row| Ok((row.get("tenant")?, row.get("trunk_id")?))).collect()
    }

    /// Gives back all that `node` holds, so that another one need not wait.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn release_trunks(&self, node: &str) -> Result<(), StoreError> {
        let sql = "UPDATE trunk_states SET node = NULL, held_until = 0 WHERE node = $1";
        self.run(sql, values![node]).await.map(drop)
    }

    /// The password as it is kept.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn seal_trunk_password(&self, trunk: &Trunk, password: &Secret) -> Result<String, StoreError> {
        Ok(self.secret_key().seal(COLUMN, &place(trunk), password.reveal())?)
    }
}

impl Transaction {
    /// One of a tenant's trunks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn trunk(&mut self, tenant: &TenantId, trunk_id: &str) -> Result<Option<Trunk>, StoreError> {
        let row = self.row(ONE, values![tenant, trunk_id]).await?;
        row.as_ref().map(trunk).transpose()
    }

    /// Which trunks stand in for which, in a tenant.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn backup_trunks(
        &mut self,
        tenant: &TenantId,
    ) -> Result<HashMap<String, Vec<String>>, StoreError> {
        let sql = "SELECT trunk_id, backup_trunks FROM trunks WHERE tenant = $1 AND backup_trunks <> '[]'";
        let rows = self.rows(sql, values![tenant]).await?;
        rows.iter().map(|row| Ok((row.get("trunk_id")?, row.json("backup_trunks")?))).collect()
    }

    /// Adds a trunk with its sealed password.
    ///
    /// # Errors
    /// There is one of that name ([`StoreError::is_conflict`]), or see [`StoreError`].
    pub async fn insert_trunk(&mut self, trunk: &Trunk, sealed: Option<String>) -> Result<(), StoreError> {
        let mut values = settings(trunk);
        values.extend(values![sealed, trunk.created_at]);
        self.run(
            "INSERT INTO trunks (tenant, trunk_id, name, provider, proxy_address, proxy_port, outbound_proxy, transport, \
             username, realm, auth_user, from_user, from_domain, display_name, supports_inbound, supports_outbound, \
             register, register_expires_s, preferred_codecs, max_concurrent_calls, calls_per_second_limit, allowed_ips, \
             auth_method, backup_trunks, options_ping_s, cost_per_minute, active, updated_at, password, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
             $22, $23, $24, $25, $26, $27, $28, $29, $30)",
            values,
        )
        .await?;
        self.run(
            "INSERT INTO trunk_states (tenant, trunk_id, held_until, state, since, ping) \
             VALUES ($1, $2, 0, 'DOWN', $3, 'UNKNOWN')",
            values![&trunk.tenant, &trunk.trunk_id, trunk.created_at],
        )
        .await
        .map(drop)
    }

    /// Changes a trunk that was last changed at `before`; `sealed` is the new password, or that there is none any
    /// more. Whether it was still as it was then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn update_trunk(
        &mut self,
        trunk: &Trunk,
        before: Moment,
        sealed: Option<Option<String>>,
    ) -> Result<bool, StoreError> {
        let mut values = settings(trunk);
        values.push(Value::Integer(Some(before.micros())));
        let changed = self
            .run(
                "UPDATE trunks SET name = $3, provider = $4, proxy_address = $5, proxy_port = $6, outbound_proxy = $7, \
                 transport = $8, username = $9, realm = $10, auth_user = $11, from_user = $12, from_domain = $13, \
                 display_name = $14, supports_inbound = $15, supports_outbound = $16, register = $17, \
                 register_expires_s = $18, preferred_codecs = $19, max_concurrent_calls = $20, \
                 calls_per_second_limit = $21, allowed_ips = $22, auth_method = $23, backup_trunks = $24, \
                 options_ping_s = $25, cost_per_minute = $26, active = $27, updated_at = $28 \
                 WHERE tenant = $1 AND trunk_id = $2 AND updated_at = $29",
                values,
            )
            .await?;
        if changed == 0 {
            return Ok(false);
        }
        if let Some(sealed) = sealed {
            let sql = "UPDATE trunks SET password = $3 WHERE tenant = $1 AND trunk_id = $2";
            self.run(sql, values![&trunk.tenant, &trunk.trunk_id, sealed]).await?;
        }
        Ok(true)
    }

    /// Deletes a trunk; whether it was there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_trunk(&mut self, tenant: &TenantId, trunk_id: &str) -> Result<bool, StoreError> {
        for sql in [
            "DELETE FROM trunk_states WHERE tenant = $1 AND trunk_id = $2",
            "DELETE FROM trunks WHERE tenant = $1 AND trunk_id = $2",
        ] {
            if self.run(sql, values![tenant, trunk_id]).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps how a trunk stands; nothing if it was deleted meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn keep_trunk_state(
        &mut self,
        tenant: &TenantId,
        trunk_id: &str,
        kept: &KeptState,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE trunk_states SET state = $3, since = $4, cause = $5, expires_s = $6, ping = $7, ping_ms = $8 \
                   WHERE tenant = $1 AND trunk_id = $2";
        let KeptState { state, since, cause, expires_s, ping, ping_ms, .. } = kept;
        let values = values![
            tenant,
            trunk_id,
            state.name(),
            *since,
            cause.as_ref(),
            *expires_s,
            ping.name(),
            *ping_ms
        ];
        Ok(self.run(sql, values).await? > 0)
    }
}

/// Everything that may change, in the order of both statements: the two that name it, its settings, `updated_at`.
fn settings(trunk: &Trunk) -> Vec<Value> {
    values![
        &trunk.tenant,
        &trunk.trunk_id,
        &trunk.name,
        &trunk.provider,
        &trunk.proxy_address,
        trunk.proxy_port,
        trunk.outbound_proxy.as_ref(),
        trunk.transport.name(),
        trunk.username.as_ref(),
        trunk.realm.as_ref(),
        trunk.auth_user.as_ref(),
        trunk.from_user.as_ref(),
        trunk.from_domain.as_ref(),
        trunk.display_name.as_ref(),
        trunk.supports_inbound,
        trunk.supports_outbound,
        trunk.register,
        trunk.register_expires_s,
        json(&trunk.preferred_codecs),
        trunk.max_concurrent_calls,
        trunk.calls_per_second_limit,
        json(&trunk.allowed_ips),
        trunk.auth_method.name(),
        json(&trunk.backup_trunks),
        trunk.options_ping_s,
        trunk.cost_per_minute,
        trunk.active,
        trunk.updated_at,
    ]
}

fn trunk(row: &Row) -> Result<Trunk, StoreError> {
    Ok(Trunk {
        trunk_id: row.get("trunk_id")?,
        tenant: row.get("tenant")?,
        name: row.get("name")?,
        provider: row.get("provider")?,
        proxy_address: row.get("proxy_address")?,
        proxy_port: row.optional("proxy_port")?,
        outbound_proxy: row.optional("outbound_proxy")?,
        transport: row.word("transport", TrunkTransport::named)?,
        username: row.optional("username")?,
        has_password: row.optional::<String>("password")?.is_some(),
        realm: row.optional("realm")?,
        auth_user: row.optional("auth_user")?,
        from_user: row.optional("from_user")?,
        from_domain: row.optional("from_domain")?,
        display_name: row.optional("display_name")?,
        supports_inbound: row.get("supports_inbound")?,
        supports_outbound: row.get("supports_outbound")?,
        register: row.get("register")?,
        register_expires_s: row.get("register_expires_s")?,
        preferred_codecs: row.json("preferred_codecs")?,
        max_concurrent_calls: row.get("max_concurrent_calls")?,
        calls_per_second_limit: row.get("calls_per_second_limit")?,
        allowed_ips: row.json("allowed_ips")?,
        auth_method: row.word("auth_method", AuthMethod::named)?,
        backup_trunks: row.json("backup_trunks")?,
        options_ping_s: row.get("options_ping_s")?,
        cost_per_minute: row.get("cost_per_minute")?,
        active: row.get("active")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn kept_state(row: &Row) -> Result<KeptState, StoreError> {
    Ok(KeptState {
        state: row.word("state", TrunkState::named)?,
        since: row.get("since")?,
        cause: row.optional("cause")?,
        expires_s: row.optional("expires_s")?,
        ping: row.word("ping", PingState::named)?,
        ping_ms: row.optional("ping_ms")?,
        node: row.optional("node")?,
    })
}

fn summary(row: &Row) -> Result<TrunkSummary, StoreError> {
    let (calls, answered, failed): (i64, i64, i64) =
        (row.get("calls")?, row.get("answered")?, row.get("failed")?);
    let duration_s = row.get::<i64>("duration_ms")? as f64 / 1000.0;
    let part = |some: i64, of: i64| (of > 0).then(|| some as f64 / of as f64);
    Ok(TrunkSummary {
        trunk_id: row.get("trunk_id")?,
        provider: row.optional("provider")?.unwrap_or_default(),
        calls,
        answered,
        failed,
        active: row.get("active")?,
        success_rate: part(calls - failed, calls).unwrap_or(1.0),
        answer_rate: part(answered, calls),
        failed_last_hour: row.get("failed_last_hour")?,
        duration_s,
        mean_duration_s: (answered > 0).then(|| duration_s / answered as f64),
        cost: row.get("cost")?,
    })
}

/// The row that a password is sealed for.
fn place(trunk: &Trunk) -> String {
    format!("{}/{}", trunk.tenant, trunk.trunk_id)
}

const ONE: &str = "SELECT * FROM trunks WHERE tenant = $1 AND trunk_id = $2";
const COLUMN: &str = "trunks.password";
/// More than one process could keep registered.
const MOST_ACTIVE: u32 = 20_000;

#[cfg(test)]
mod tests;
