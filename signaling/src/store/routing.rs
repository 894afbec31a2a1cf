//! Numbers, outbound routes, and each tenant's default trunk.

use super::{Row, Store, StoreError, Transaction, json, values};
use crate::model::{Id, Number, OutboundRoute, TenantId};

/// Everything that decides about the calls of one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantRouting {
    /// What dialled numbers reach.
    pub numbers: Vec<Number>,
    /// Which trunks carry which numbers.
    pub routes: Vec<OutboundRoute>,
    /// The trunk for the rest.
    pub default_trunk: Option<String>,
}

impl Store {
    /// A number that grows with every change of the tenant's numbers, routes and default trunk.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn routing_version(&self, tenant: &TenantId) -> Result<i64, StoreError> {
        let row = self.row("SELECT version FROM tenant_routing WHERE tenant = $1", values![tenant]).await?;
        row.map_or(Ok(0), |row| row.get("version"))
    }

    /// All that decides about the calls of a tenant.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tenant_routing(&self, tenant: &TenantId) -> Result<TenantRouting, StoreError> {
        let numbers = self
            .rows("SELECT * FROM numbers WHERE tenant = $1 AND active LIMIT 200000", values![tenant])
            .await?;
        let routes = self
            .rows("SELECT * FROM outbound_routes WHERE tenant = $1 AND active LIMIT 1000", values![tenant])
            .await?;
        Ok(TenantRouting {
            numbers: numbers.iter().map(number).collect::<Result<_, _>>()?,
            routes: routes.iter().map(route).collect::<Result<_, _>>()?,
            default_trunk: self.default_trunk(tenant).await?,
        })
    }

    /// The trunk for what no route of the tenant carries.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn default_trunk(&self, tenant: &TenantId) -> Result<Option<String>, StoreError> {
        let row =
            self.row("SELECT default_trunk FROM tenant_routing WHERE tenant = $1", values![tenant]).await?;
        row.map_or(Ok(None), |row| row.optional("default_trunk"))
    }

    /// The numbers of a tenant behind the one of that id, in the order of ids.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn numbers(
        &self,
        tenant: &TenantId,
        after: Option<Id>,
        limit: usize,
    ) -> Result<Vec<Number>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let sql = "SELECT * FROM numbers WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
        self.rows(sql, values![tenant, after, limit]).await?.iter().map(number).collect()
    }

    /// One number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn number(&self, tenant: &TenantId, id: Id) -> Result<Option<Number>, StoreError> {
        let sql = "SELECT * FROM numbers WHERE tenant = $1 AND id = $2";
        self.row(sql, values![tenant, id]).await?.as_ref().map(number).transpose()
    }

    /// The routes of a tenant behind the one of that id, in the order of ids.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn routes(
        &self,
        tenant: &TenantId,
        after: Option<Id>,
        limit: usize,
    ) -> Result<Vec<OutboundRoute>, StoreError> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let sql = "SELECT * FROM outbound_routes WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
        self.rows(sql, values![tenant, after, limit]).await?.iter().map(route).collect()
    }

    /// One route.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn route(&self, tenant: &TenantId, id: Id) -> Result<Option<OutboundRoute>, StoreError> {
        let sql = "SELECT * FROM outbound_routes WHERE tenant = $1 AND id = $2";
        self.row(sql, values![tenant, id]).await?.as_ref().map(route).transpose()
    }
}

impl Transaction {
    /// How many numbers a tenant has.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn count_numbers(&mut self, tenant: &TenantId) -> Result<usize, StoreError> {
        let row =
            self.row("SELECT COUNT(*) AS total FROM numbers WHERE tenant = $1", values![tenant]).await?;
        row.map_or(Ok(0), |row| row.get("total"))
    }

    /// How many routes a tenant has.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn count_routes(&mut self, tenant: &TenantId) -> Result<usize, StoreError> {
        let row = self
            .row("SELECT COUNT(*) AS total FROM outbound_routes WHERE tenant = $1", values![tenant])
            .await?;
        row.map_or(Ok(0), |row| row.get("total"))
    }

    /// Keeps a new number.
    ///
    /// # Errors
    /// See [`StoreError`]; a conflict when the tenant has it already.
    pub async fn add_number(&mut self, number: &Number) -> Result<(), StoreError> {
        let values = values![
            number.id,
            &number.tenant,
            &number.number,
            number.prefix,
            json(&number.destination),
            &number.description,
            number.active,
            number.created_at,
            number.updated_at,
        ];
        self.run(
            "INSERT INTO numbers (id, tenant, number, prefix, destination, description, active, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            values,
        )
        .await?;
        self.touch_routing(&number.tenant).await
    }

    /// Changes a number; false when it is not there.
    ///
    /// # Errors
    /// See [`StoreError`]; a conflict when the tenant has another one like it.
    pub async fn change_number(&mut self, number: &Number) -> Result<bool, StoreError> {
        let values = values![
            &number.tenant,
            number.id,
            &number.number,
            number.prefix,
            json(&number.destination),
            &number.description,
            number.active,
            number.updated_at,
        ];
        let changed = self
            .run(
                "UPDATE numbers SET number = $3, prefix = $4, destination = $5, description = $6, active = $7, \
                 updated_at = $8 WHERE tenant = $1 AND id = $2",
                values,
            )
            .await?;
        self.touch_routing(&number.tenant).await?;
        Ok(changed > 0)
    }

    /// Removes a number; false when it is not there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove_number(&mut self, tenant: &TenantId, id: Id) -> Result<bool, StoreError> {
        let removed =
            self.run("DELETE FROM numbers WHERE tenant = $1 AND id = $2", values![tenant, id]).await?;
        self.touch_routing(tenant).await?;
        Ok(removed > 0)
    }

    /// Keeps a new route.
    ///
    /// # Errors
    /// See [`StoreError`]; a conflict when the tenant has one of this name.
    pub async fn add_route(&mut self, route: &OutboundRoute) -> Result<(), StoreError> {
        let values = values![
            &route.tenant,
            route.id,
            &route.name,
            route.priority,
            &route.pattern,
            route.rewrite.as_deref(),
            route.caller_id.as_ref().map(json),
            json(&route.trunks),
            json(&route.strategy),
            json(&route.advance_on),
            route.setup_timeout_ms,
            route.ring_timeout_ms,
            &route.description,
            route.active,
            route.created_at,
            route.updated_at,
        ];
        self.run(
            "INSERT INTO outbound_routes (tenant, id, name, priority, pattern, rewrite, caller_id, trunks, strategy, \
             advance_on, setup_timeout_ms, ring_timeout_ms, description, active, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            values,
        )
        .await?;
        self.touch_routing(&route.tenant).await
    }

    /// Changes a route; false when it is not there.
    ///
    /// # Errors
    /// See [`StoreError`]; a conflict when the tenant has another one of its new name.
    pub async fn change_route(&mut self, route: &OutboundRoute) -> Result<bool, StoreError> {
        let values = values![
            &route.tenant,
            route.id,
            &route.name,
            route.priority,
            &route.pattern,
            route.rewrite.as_deref(),
            route.caller_id.as_ref().map(json),
            json(&route.trunks),
            json(&route.strategy),
            json(&route.advance_on),
            route.setup_timeout_ms,
            route.ring_timeout_ms,
            &route.description,
            route.active,
            route.updated_at,
        ];
        let changed = self
            .run(
                "UPDATE outbound_routes SET name = $3, priority = $4, pattern = $5, rewrite = $6, caller_id = $7, \
                 trunks = $8, strategy = $9, advance_on = $10, setup_timeout_ms = $11, ring_timeout_ms = $12, \
                 description = $13, active = $14, updated_at = $15 WHERE tenant = $1 AND id = $2",
                values,
            )
            .await?;
        self.touch_routing(&route.tenant).await?;
        Ok(changed > 0)
    }

    /// Removes a route; false when it is not there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove_route(&mut self, tenant: &TenantId, id: Id) -> Result<bool, StoreError> {
        let sql = "DELETE FROM outbound_routes WHERE tenant = $1 AND id = $2";
        let removed = self.run(sql, values![tenant, id]).await?;
        self.touch_routing(tenant).await?;
        Ok(removed > 0)
    }

    /// Sets or takes away the trunk for what no route carries.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_default_trunk(
        &mut self,
        tenant: &TenantId,
        trunk: Option<&str>,
    ) -> Result<(), StoreError> {
        self.touch_routing(tenant).await?;
        let sql = "UPDATE tenant_routing SET default_trunk = $2 WHERE tenant = $1";
        self.run(sql, values![tenant, trunk]).await.map(drop)
    }

    async fn touch_routing(&mut self, tenant: &TenantId) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO tenant_routing (tenant, version) VALUES ($1, 1) \
             ON CONFLICT (tenant) DO UPDATE SET version = tenant_routing.version + 1",
            values![tenant],
        )
        .await
        .map(drop)
    }
}

fn number(row: &Row) -> Result<Number, StoreError> {
    Ok(Number {
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        number: row.get("number")?,
        prefix: row.get("prefix")?,
        destination: row.json("destination")?,
        description: row.get("description")?,
        active: row.get("active")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn route(row: &Row) -> Result<OutboundRoute, StoreError> {
    let caller_id: Option<String> = row.optional("caller_id")?;
    let priority: i64 = row.get("priority")?;
    Ok(OutboundRoute {
        id: row.get("id")?,
        tenant: row.get("tenant")?,
        name: row.get("name")?,
        priority: i32::try_from(priority).unwrap_or(i32::MAX),
        pattern: row.get("pattern")?,
        rewrite: row.optional("rewrite")?,
        caller_id: caller_id.map(|_| row.json("caller_id")).transpose()?,
        trunks: row.json("trunks")?,
        strategy: row.json("strategy")?,
        advance_on: row.json("advance_on")?,
        setup_timeout_ms: row.get("setup_timeout_ms")?,
        ring_timeout_ms: row.get("ring_timeout_ms")?,
        description: row.get("description")?,
        active: row.get("active")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use crate::model::{CallerIdRule, Destination, Moment, RouteStrategy, RouteTrunk};

    use super::super::testing::stores;
    use super::*;

    fn number(tenant: &str, text: &str) -> Number {
        Number {
            id: Id::new(),
            tenant: TenantId(tenant.into()),
            number: text.into(),
            prefix: false,
            destination: Destination::Trunk {
                trunk_id: "a".into(),
                number: Some("'; DROP TABLE numbers; --".into()),
            },
            description: "\"quotes\" 'and' \\ more".into(),
            active: true,
            created_at: Moment::from_micros(1),
            updated_at: Moment::from_micros(2),
        }
    }

    fn route(tenant: &str, name: &str) -> OutboundRoute {
        OutboundRoute {
            id: Id::new(),
            tenant: TenantId(tenant.into()),
            name: name.into(),
            priority: -5,
            pattern: r"^(\d+)$".into(),
            rewrite: Some("$1".into()),
            caller_id: Some(CallerIdRule { pattern: None, rewrite: "+1".into() }),
            trunks: vec![RouteTrunk { trunk_id: "a".into(), weight: 3, cost: Some(0.5) }],
            strategy: RouteStrategy::LeastCost,
            advance_on: OutboundRoute::ADVANCE_ON.to_vec(),
            setup_timeout_ms: 1,
            ring_timeout_ms: 2,
            description: String::new(),
            active: true,
            created_at: Moment::from_micros(1),
            updated_at: Moment::from_micros(2),
        }
    }

    #[tokio::test]
    async fn numbers_and_routes_come_back_as_they_were_kept_and_only_to_their_tenant() {
        for store in stores().await {
            let (ours, theirs) = (TenantId("ours".into()), TenantId("theirs".into()));
            let (one, mut rule) = (number("ours", "+1"), route("ours", "r"));
            let mut transaction = store.begin().await.expect("a transaction");
            transaction.add_number(&one).await.expect("added");
            transaction.add_number(&number("theirs", "+1")).await.expect("the same number of another tenant");
            transaction.add_route(&rule).await.expect("added");
            transaction.set_default_trunk(&ours, Some("d")).await.expect("set");
            transaction.commit().await.expect("committed");
            assert_eq!(store.number(&ours, one.id).await.expect("read"), Some(one.clone()));
            assert_eq!(store.number(&theirs, one.id).await.expect("read"), None);
            assert_eq!(store.routes(&ours, None, 9).await.expect("read"), [rule.clone()]);
            assert!(store.routes(&theirs, None, 9).await.expect("read").is_empty());
            let all = store.tenant_routing(&ours).await.expect("read");
            assert_eq!((all.numbers.len(), all.default_trunk.as_deref()), (1, Some("d")));

            let version = store.routing_version(&ours).await.expect("read");
            let mut transaction = store.begin().await.expect("a transaction");
            rule.caller_id = None;
            rule.rewrite = None;
            rule.active = false;
            assert!(transaction.change_route(&rule).await.expect("changed"));
            assert!(!transaction.remove_number(&theirs, one.id).await.expect("looked for"));
            let foreign = Number { tenant: theirs.clone(), ..one.clone() };
            assert!(!transaction.change_number(&foreign).await.expect("looked for"));
            transaction.commit().await.expect("committed");
            assert!(store.routing_version(&ours).await.expect("read") > version);
            assert_eq!(store.route(&ours, rule.id).await.expect("read"), Some(rule.clone()));
            assert!(store.tenant_routing(&ours).await.expect("read").routes.is_empty(), "it is not in use");

            let mut transaction = store.begin().await.expect("a transaction");
            let error = transaction.add_number(&number("ours", "+1")).await.expect_err("it is there");
            assert!(error.is_conflict(), "{error}");
        }
    }
}
