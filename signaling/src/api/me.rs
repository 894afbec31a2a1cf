//! `/api/me`: who the token says one is.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::Json;
use super::routes::Api;
use crate::model::{Role, TenantId};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(me))
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// A user's name, or a key's id.
    subject: String,
    /// Whose things the request is about.
    tenant: TenantId,
    /// What they may do.
    role: Role,
}

/// Who the token says that one is.
#[utoipa::path(get, path = "/api/me", tag = "access", responses((status = 200, body = Me)))]
async fn me(caller: Caller) -> Json<Me> {
    let access = caller.access;
    Json(Me { subject: access.subject, tenant: access.tenant, role: access.role })
}
