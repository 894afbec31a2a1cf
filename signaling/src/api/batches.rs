//! `/api/calls/batches`: many calls of one kind, a few at a time.
#![expect(
    unused_qualifications,
    reason = "the macro that describes a path repeats the types of its extractors"
)]

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::live_calls::{How, not_made};
use super::numbers::parse;
use super::problem::Problem;
use super::routes::Api;
use crate::apps::{Batch, BatchProgress};
use crate::model::{Id, Role};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(one)).routes(routes!(cancel))
}

/// Many calls to make.
#[derive(Debug, Deserialize, ToSchema)]
struct NewBatch {
    /// Whom to call.
    #[schema(min_items = 1, max_items = 5000)]
    numbers: Vec<String>,
    /// New calls per second, at most.
    #[serde(default = "one_a_second")]
    #[schema(minimum = 0.01, maximum = 1000)]
    calls_per_second: f64,
    /// Calls at once, at most.
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 5000)]
    concurrency: u32,
    /// How they are made, as for one call.
    #[serde(flatten)]
    how: How,
}

const fn one_a_second() -> f64 {
    1.0
}

const fn ten() -> u32 {
    10
}

/// All batches of a tenant.
#[derive(Debug, Serialize, ToSchema)]
struct BatchList {
    /// Oldest first: those that run and the last that ended.
    items: Vec<BatchProgress>,
}

/// How a batch is cancelled.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Cancelling {
    /// Ends the calls that run, too.
    #[serde(default)]
    hang_up: bool,
}

/// The tenant's batches of this process.
#[utoipa::path(get, path = "/api/calls/batches", tag = "calls", operation_id = "list_batches",
    responses((status = 200, body = BatchList)))]
async fn list(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<BatchList>, Problem> {
    caller.require(Role::Viewer)?;
    Ok(Json(BatchList { items: api.control.batches.list(caller.tenant()) }))
}

/// Begins a batch. It is not kept over a restart.
#[utoipa::path(post, path = "/api/calls/batches", tag = "calls", operation_id = "create_batch", request_body = NewBatch,
    responses((status = 201, body = BatchProgress)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(new): Json<NewBatch>,
) -> Result<(StatusCode, Json<BatchProgress>), Problem> {
    caller.require(Role::Operator)?;
    if !(1..=5_000).contains(&new.numbers.len()) {
        return Err(Problem::invalid("numbers", "must be 1 to 5000"));
    }
    if !(0.01..=1_000.0).contains(&new.calls_per_second) {
        return Err(Problem::invalid("calls_per_second", "must be 0.01 to 1000"));
    }
    if !(1..=5_000).contains(&new.concurrency) {
        return Err(Problem::invalid("concurrency", "must be 1 to 5000"));
    }
    let call = new.how.originate(&api, &caller)?;
    let batch = Batch {
        call,
        numbers: new.numbers,
        calls_per_second: new.calls_per_second,
        concurrency: new.concurrency as usize,
    };
    let total = batch.numbers.len();
    let progress = api.control.batches.begin(api.control.outbound()?, batch).map_err(not_made)?;
    let entry =
        caller.entry("batch.create", progress.id.to_string()).after(&serde_json::json!({ "numbers": total }));
    let mut transaction = api.store.begin().await?;
    transaction.audit(&entry).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(progress)))
}

/// How far a batch is.
#[utoipa::path(get, path = "/api/calls/batches/{id}", tag = "calls", operation_id = "show_batch",
    params(("id" = Id, Path, description = "The batch's id")), responses((status = 200, body = BatchProgress)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchProgress>, Problem> {
    caller.require(Role::Viewer)?;
    let id = parse(&id)?;
    api.control.batches.progress(caller.tenant(), id).map(Json).ok_or_else(|| Problem::no_such("batch", id))
}

/// Begins no more calls of a batch; those that run end by themselves, or at once with `hang_up`.
#[utoipa::path(post, path = "/api/calls/batches/{id}/cancel", tag = "calls", operation_id = "cancel_batch",
    params(("id" = Id, Path, description = "The batch's id"), Cancelling),
    responses((status = 200, body = BatchProgress)))]
async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(how): Query<Cancelling>,
) -> Result<Json<BatchProgress>, Problem> {
    caller.require(Role::Operator)?;
    let id = parse(&id)?;
    let batches = &api.control.batches;
    batches.cancel(caller.tenant(), id, how.hang_up);
    batches.progress(caller.tenant(), id).map(Json).ok_or_else(|| Problem::no_such("batch", id))
}
