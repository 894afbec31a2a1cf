//! `/api/calls/cdr`: the records of calls.
#![expect(
    unused_qualifications,
    reason = "the macro that describes a path repeats the types of its extractors"
)]

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::page::{Page, Paging};
use super::problem::Problem;
use super::routes::Api;
use crate::model::{CallRecord, Direction, Id, Moment, RecordState, Role, TenantId};
use crate::store::{RecordCursor, RecordFilter, Store, StoreError};

mod csv;
#[cfg(test)]
mod tests;

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export)).routes(routes!(one))
}

/// Which records are wanted; all conditions hold at once.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Of trunks of this provider.
    provider: Option<String>,
    /// Of this trunk.
    trunk_id: Option<String>,
    /// The calling number, exactly.
    from_number: Option<String>,
    /// The called number, exactly.
    to_number: Option<String>,
    /// Who called whom.
    #[param(inline)]
    direction: Option<Direction>,
    /// How far it is, or how it ended.
    #[param(inline)]
    state: Option<RecordState>,
    /// Of this app, such as `agent` or `echo`.
    app: Option<String>,
    /// Of this agent.
    agent: Option<String>,
    /// All legs of this call.
    #[param(value_type = Option<String>, format = Uuid)]
    call: Option<Id>,
    /// Begun at this moment or later.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Moment>,
    /// Begun before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
}

impl From<Wanted> for RecordFilter {
    fn from(wanted: Wanted) -> Self {
        Self {
            provider: wanted.provider,
            trunk_id: wanted.trunk_id,
            from_number: wanted.from_number,
            to_number: wanted.to_number,
            direction: wanted.direction,
            state: wanted.state,
            app: wanted.app,
            agent: wanted.agent,
            call: wanted.call,
            since: wanted.from,
            until: wanted.to,
        }
    }
}

/// Records of calls, one per leg, newest first.
#[utoipa::path(get, path = "/api/calls/cdr", tag = "records", operation_id = "list_records", params(Paging, Wanted),
    responses((status = 200, body = Page<CallRecord>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<CallRecord>>, Problem> {
    caller.require(Role::Viewer)?;
    let after: Option<RecordCursor> = paging.after()?;
    let rows = api.store.records(caller.tenant(), &wanted.into(), after, paging.limit()? + 1).await?;
    paging.page(rows, |record| RecordCursor::from(record)).map(Json)
}

/// All records that are wanted as CSV (RFC 4180), newest first. Cells that a spreadsheet would take for a formula begin with an
/// apostrophe. An export that fails on its way ends without its last chunk.
#[utoipa::path(get, path = "/api/calls/cdr.csv", tag = "records", operation_id = "export_records", params(Wanted),
    responses((status = 200, content_type = "text/csv", body = String)))]
async fn export(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    caller.require(Role::Viewer)?;
    let export = Export {
        store: api.store.clone(),
        tenant: caller.tenant().clone(),
        filter: wanted.into(),
        next: Some(None),
        is_first: true,
    };
    // The first part is fetched before the head goes out, so that a store that is down is told properly.
    let (first, export) = export.part().await?;
    let rest = stream::try_unfold(export, |export| async {
        if export.next.is_none() {
            return Ok::<_, StoreError>(None);
        }
        export.part().await.map(Some)
    });
    let parts = futures_util::StreamExt::chain(stream::once(async { Ok(first) }), rest);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"records.csv\"")),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// An export on its way. It holds one part at a time.
struct Export {
    store: Store,
    tenant: TenantId,
    filter: RecordFilter,
    /// Where the next part begins, if there is one.
    next: Option<Option<RecordCursor>>,
    is_first: bool,
}

impl Export {
    async fn part(mut self) -> Result<(Vec<u8>, Self), StoreError> {
        let after = self.next.flatten();
        let records = self.store.records(&self.tenant, &self.filter, after, PART).await?;
        self.next = (records.len() == PART).then(|| records.last().map(RecordCursor::from));
        let part = csv::write(&records, self.is_first);
        self.is_first = false;
        Ok((part, self))
    }
}

/// One record.
#[utoipa::path(get, path = "/api/calls/cdr/{id}", tag = "records", operation_id = "get_record",
    params(("id" = String, Path, description = "The leg")), responses((status = 200, body = CallRecord)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<CallRecord>, Problem> {
    caller.require(Role::Viewer)?;
    let record = match id.parse() {
        Ok(id) => api.store.record(caller.tenant(), id).await?,
        Err(_) => None,
    };
    record.map(Json).ok_or_else(|| Problem::not_found("there is no such record here"))
}

/// Records in one part of an export.
const PART: usize = 500;
