//! `/api/routes`: which trunks carry which numbers, and why.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::numbers::{forget, parse, text};
use super::page::{Page, Paging};
use super::problem::Problem;
use super::routes::Api;
use crate::model::{
    CallerIdRule, Direction, FailureClass, Id, Moment, OutboundRoute, Role, RouteStrategy, RouteTrunk,
};
use crate::routing::{self, Decision};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(test))
        .routes(routes!(default_trunk, set_default_trunk))
        .routes(routes!(one, change, remove))
}

/// A route to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRoute {
    /// For people, records and explanations; unique within the tenant.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Lower ones are looked at first.
    #[serde(default = "hundred")]
    priority: i32,
    /// A regular expression for the whole dialled number, such as `^(\d+)$`.
    #[schema(max_length = 512)]
    pattern: String,
    /// What is dialled instead: `$1` or `${name}` stand for the groups of `pattern`.
    #[schema(max_length = 512)]
    rewrite: Option<String>,
    /// How the calling number is written.
    caller_id: Option<CallerIdRule>,
    /// The trunks, by name or with weight and cost.
    #[schema(min_items = 1, max_items = 16)]
    trunks: Vec<RouteTrunk>,
    /// In which order they are tried.
    #[serde(default)]
    strategy: RouteStrategy,
    /// After which failures the next trunk is tried.
    advance_on: Option<Vec<FailureClass>>,
    /// How long one trunk may take to give any sign of the call going on.
    #[schema(minimum = 100, maximum = 60_000)]
    setup_timeout_ms: Option<u32>,
    /// How long it may ring at one trunk.
    #[schema(minimum = 1_000, maximum = 600_000)]
    ring_timeout_ms: Option<u32>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 500)]
    description: String,
    /// Whether it is in use.
    #[serde(default = "yes")]
    active: bool,
}

/// What changes of a route.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoutePatch {
    /// Its name.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Lower ones are looked at first.
    priority: Option<i32>,
    /// A regular expression for the whole dialled number.
    #[schema(max_length = 512)]
    pattern: Option<String>,
    /// What is dialled instead; an empty text takes it away.
    #[schema(max_length = 512)]
    rewrite: Option<String>,
    /// How the calling number is written.
    caller_id: Option<CallerIdRule>,
    /// The trunks.
    #[schema(min_items = 1, max_items = 16)]
    trunks: Option<Vec<RouteTrunk>>,
    /// In which order they are tried.
    strategy: Option<RouteStrategy>,
    /// After which failures the next trunk is tried.
    advance_on: Option<Vec<FailureClass>>,
    /// How long one trunk may take to give any sign of the call going on.
    #[schema(minimum = 100, maximum = 60_000)]
    setup_timeout_ms: Option<u32>,
    /// How long it may ring at one trunk.
    #[schema(minimum = 1_000, maximum = 600_000)]
    ring_timeout_ms: Option<u32>,
    /// For people.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Whether it is in use.
    active: Option<bool>,
}

/// A call to explain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The dialled number.
    #[schema(max_length = 256)]
    to_number: String,
    /// The calling number.
    #[serde(default)]
    #[schema(max_length = 256)]
    from_number: String,
    /// Whether the call leaves (the default) or comes.
    direction: Option<Direction>,
    /// The trunk that it is to take.
    #[schema(max_length = 64)]
    trunk: Option<String>,
}

/// The trunk for what no route carries.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DefaultTrunk {
    /// Its name; null for none.
    #[schema(max_length = 64)]
    trunk_id: Option<String>,
}

const fn yes() -> bool {
    true
}

const fn hundred() -> i32 {
    100
}

/// The tenant's routes, oldest first.
#[utoipa::path(get, path = "/api/routes", tag = "routing", operation_id = "list_routes", params(Paging),
    responses((status = 200, body = Page<OutboundRoute>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<OutboundRoute>>, Problem> {
    caller.require(Role::Viewer)?;
    let rows = usize::try_from(paging.rows()?).unwrap_or(1);
    let rows = api.store.routes(caller.tenant(), paging.after()?, rows).await?;
    paging.page(rows, |route| route.id).map(Json)
}

/// Adds a route. Its trunks may be made later; until then they are left out.
#[utoipa::path(post, path = "/api/routes", tag = "routing", operation_id = "create_route", request_body = NewRoute,
    responses((status = 201, body = OutboundRoute)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(new): Json<NewRoute>,
) -> Result<(StatusCode, Json<OutboundRoute>), Problem> {
    caller.require(Role::TenantAdmin)?;
    let now = Moment::now();
    let route = OutboundRoute {
        id: Id::new(),
        tenant: caller.tenant().clone(),
        name: new.name,
        priority: new.priority,
        pattern: new.pattern,
        rewrite: new.rewrite.filter(|rewrite| !rewrite.is_empty()),
        caller_id: new.caller_id,
        trunks: new.trunks,
        strategy: new.strategy,
        advance_on: new.advance_on.unwrap_or_else(|| OutboundRoute::ADVANCE_ON.to_vec()),
        setup_timeout_ms: new.setup_timeout_ms.unwrap_or(OutboundRoute::SETUP_TIMEOUT_MS),
        ring_timeout_ms: new.ring_timeout_ms.unwrap_or(OutboundRoute::RING_TIMEOUT_MS),
        description: new.description,
        active: new.active,
        created_at: now,
        updated_at: now,
    };
    check(&route)?;
    let mut transaction = api.store.begin().await?;
    if transaction.count_routes(caller.tenant()).await? >= MOST_ROUTES {
        return Err(Problem::conflict(format!("a tenant has at most {MOST_ROUTES} routes")));
    }
    transaction.add_route(&route).await.map_err(taken)?;
    transaction.audit(&caller.entry("route.create", route.id.to_string()).after(&route)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok((StatusCode::CREATED, Json(route)))
}

/// One route.
#[utoipa::path(get, path = "/api/routes/{id}", tag = "routing", operation_id = "show_route",
    params(("id" = Id, Path, description = "The route's id")), responses((status = 200, body = OutboundRoute)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<OutboundRoute>, Problem> {
    caller.require(Role::Viewer)?;
    let id = parse(&id)?;
    api.store.route(caller.tenant(), id).await?.map(Json).ok_or_else(|| Problem::no_such("route", id))
}

/// Changes what is given and keeps the rest.
#[utoipa::path(patch, path = "/api/routes/{id}", tag = "routing", operation_id = "change_route",
    params(("id" = Id, Path, description = "The route's id")), request_body = RoutePatch,
    responses((status = 200, body = OutboundRoute)))]
async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(patch): Json<RoutePatch>,
) -> Result<Json<OutboundRoute>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let id = parse(&id)?;
    let before = api.store.route(caller.tenant(), id).await?.ok_or_else(|| Problem::no_such("route", id))?;
    let old = before.clone();
    let route = OutboundRoute {
        name: patch.name.unwrap_or(old.name),
        priority: patch.priority.unwrap_or(old.priority),
        pattern: patch.pattern.unwrap_or(old.pattern),
        rewrite: patch.rewrite.or(old.rewrite).filter(|rewrite| !rewrite.is_empty()),
        caller_id: patch.caller_id.or(old.caller_id),
        trunks: patch.trunks.unwrap_or(old.trunks),
        strategy: patch.strategy.unwrap_or(old.strategy),
        advance_on: patch.advance_on.unwrap_or(old.advance_on),
        setup_timeout_ms: patch.setup_timeout_ms.unwrap_or(old.setup_timeout_ms),
        ring_timeout_ms: patch.ring_timeout_ms.unwrap_or(old.ring_timeout_ms),
        description: patch.description.unwrap_or(old.description),
        active: patch.active.unwrap_or(old.active),
        updated_at: Moment::now(),
        ..old
    };
    check(&route)?;
    let mut transaction = api.store.begin().await?;
    if !transaction.change_route(&route).await.map_err(taken)? {
        return Err(Problem::no_such("route", id));
    }
    transaction.audit(&caller.entry("route.change", id.to_string()).before(&before).after(&route)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok(Json(route))
}

/// Removes a route.
#[utoipa::path(delete, path = "/api/routes/{id}", tag = "routing", operation_id = "delete_route",
    params(("id" = Id, Path, description = "The route's id")), responses((status = 204)))]
async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::TenantAdmin)?;
    let id = parse(&id)?;
    let before = api.store.route(caller.tenant(), id).await?.ok_or_else(|| Problem::no_such("route", id))?;
    let mut transaction = api.store.begin().await?;
    transaction.remove_route(caller.tenant(), id).await?;
    transaction.audit(&caller.entry("route.delete", id.to_string()).before(&before)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok(StatusCode::NO_CONTENT)
}

/// Says where a call would go, and why: every rule that was looked at, in order. Nothing is called.
#[utoipa::path(post, path = "/api/routes/test", tag = "routing", operation_id = "test_route", request_body = Question,
    responses((status = 200, body = Decision)))]
async fn test(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(question): Json<Question>,
) -> Result<Json<Decision>, Problem> {
    caller.require(Role::Viewer)?;
    let lengths =
        [("to_number", Some(&question.to_number), 256), ("from_number", Some(&question.from_number), 256)];
    for (field, text, most) in lengths.into_iter().chain([("trunk", question.trunk.as_ref(), 64)]) {
        if text.is_some_and(|text| text.chars().count() > most) {
            return Err(Problem::invalid(field, format!("must have at most {most} characters")));
        }
    }
    let outbound = api.control.outbound()?;
    let tenant = caller.tenant();
    if question.direction == Some(Direction::Inbound) {
        let table = outbound.directory().of(tenant).await?;
        return Ok(Json(table.decide_inbound(&question.to_number)));
    }
    let trunk = question.trunk.as_deref();
    outbound
        .decide(tenant, &question.from_number, &question.to_number, trunk)
        .await
        .map(Json)
        .map_err(Into::into)
}

/// The trunk for what no route of the tenant carries.
#[utoipa::path(get, path = "/api/routes/default", tag = "routing", operation_id = "show_default_trunk",
    responses((status = 200, body = DefaultTrunk)))]
async fn default_trunk(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<DefaultTrunk>, Problem> {
    caller.require(Role::Viewer)?;
    Ok(Json(DefaultTrunk { trunk_id: api.store.default_trunk(caller.tenant()).await? }))
}

/// Sets the trunk for what no route of the tenant carries, or takes it away.
#[utoipa::path(put, path = "/api/routes/default", tag = "routing", operation_id = "set_default_trunk",
    request_body = DefaultTrunk, responses((status = 200, body = DefaultTrunk)))]
async fn set_default_trunk(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(wanted): Json<DefaultTrunk>,
) -> Result<Json<DefaultTrunk>, Problem> {
    caller.require(Role::TenantAdmin)?;
    if let Some(trunk_id) = &wanted.trunk_id {
        text("trunk_id", trunk_id, 64)?;
    }
    let before = DefaultTrunk { trunk_id: api.store.default_trunk(caller.tenant()).await? };
    let mut transaction = api.store.begin().await?;
    transaction.set_default_trunk(caller.tenant(), wanted.trunk_id.as_deref()).await?;
    transaction.audit(&caller.entry("route.default", "default").before(&before).after(&wanted)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok(Json(wanted))
}

fn check(route: &OutboundRoute) -> Result<(), Problem> {
    if route.name.is_empty() {
        return Err(Problem::invalid("name", "must not be empty"));
    }
    text("name", &route.name, 100)?;
    text("description", &route.description, 500)?;
    if !(1..=16).contains(&route.trunks.len()) {
        return Err(Problem::invalid("trunks", "must be 1 to 16"));
    }
    let mut seen = HashSet::new();
    for (index, trunk) in route.trunks.iter().enumerate() {
        let field = |name: &str| format!("trunks[{index}].{name}");
        if trunk.trunk_id.is_empty() || !seen.insert(&trunk.trunk_id) {
            return Err(Problem::invalid(field("trunk_id"), "must name a trunk, each only once"));
        }
        text(&field("trunk_id"), &trunk.trunk_id, 64)?;
        if trunk.weight > 10_000 {
            return Err(Problem::invalid(field("weight"), "must be 0 to 10000"));
        }
        if trunk.cost.is_some_and(|cost| !cost.is_finite() || !(0.0..=1e9).contains(&cost)) {
            return Err(Problem::invalid(field("cost"), "must be 0 to 1000000000"));
        }
    }
    if !(100..=60_000).contains(&route.setup_timeout_ms) {
        return Err(Problem::invalid("setup_timeout_ms", "must be 100 to 60000"));
    }
    if !(1_000..=600_000).contains(&route.ring_timeout_ms) {
        return Err(Problem::invalid("ring_timeout_ms", "must be 1000 to 600000"));
    }
    routing::check(route).map_err(|error| Problem::invalid(error.field, error.error.to_string()))
}

fn taken(error: crate::store::StoreError) -> Problem {
    if error.is_conflict() { Problem::conflict("the tenant has a route of this name") } else { error.into() }
}

const MOST_ROUTES: usize = 1_000;
