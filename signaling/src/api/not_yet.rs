//! What may be asked of a call and this version cannot do: refused with 501, not hidden.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path};
use super::live_calls::find;
use super::problem::Problem;
use super::routes::Api;
use crate::model::{Id, Role};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(bridge)).routes(routes!(record))
}

/// The call to bridge with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Bridge {
    /// Another call that runs.
    #[schema(max_length = 64)]
    call_id: String,
}

/// Bridges two calls that run: not in this version.
#[utoipa::path(post, path = "/api/calls/{id}/bridge", tag = "calls", operation_id = "bridge_calls",
    params(("id" = Id, Path, description = "The call's id")), request_body = Bridge, responses((status = 204)))]
async fn bridge(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(wanted): Json<Bridge>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    find(&api, &caller, &id)?;
    find(&api, &caller, &wanted.call_id)
        .map_err(|_| Problem::invalid("call_id", "must be another call that runs"))?;
    Err(Problem::not_implemented(
        "two calls that run cannot be joined yet; numbers with a destination trunk, uri or user bridge calls",
    ))
}

/// Records a call: not in this version.
#[utoipa::path(post, path = "/api/calls/{id}/record", tag = "calls", operation_id = "record_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 204)))]
async fn record(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    find(&api, &caller, &id)?;
    Err(Problem::not_implemented("calls are not recorded by this version"))
}
