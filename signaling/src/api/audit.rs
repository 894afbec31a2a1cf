//! `/api/audit`: who changed what.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Query};
use super::page::{Page, Paging};
use super::problem::Problem;
use super::routes::Api;
use crate::model::{AuditEntry, Id, Moment, Role};
use crate::store::AuditFilter;

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which entries are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Made by this user or key.
    subject: Option<String>,
    /// This action, such as `trunk.create`; with a dot at its end, such as `trunk.`, all that begin so.
    action: Option<String>,
    /// Made to the thing of this id.
    target: Option<String>,
    /// Not before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Moment>,
    /// Before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
}

/// The tenant's log of changes, latest first.
#[utoipa::path(get, path = "/api/audit", tag = "access", operation_id = "list_audit",
    responses((status = 200, body = Page<AuditEntry>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let before: Option<Id> = paging.after()?;
    let Wanted { subject, action, target, from, to } = wanted;
    let filter = AuditFilter { subject, action, target, from, to };
    let rows = api.store.audit(caller.tenant(), &filter, before, paging.rows()?).await?;
    paging.page(rows, |entry| entry.id).map(Json)
}
