//! `/api/keys`: the API keys of a tenant.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::page::{Page, Paging};
use super::problem::Problem;
use super::routes::Api;
use crate::access::NewKey;
use crate::model::{ApiKey, Moment, Role};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(one, revoke))
}

/// A key to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedKey {
    /// What it is for.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it may do; not more than who makes it.
    role: Role,
    /// How long it is good; for ever if nothing is said.
    #[schema(minimum = 60, maximum = 315_360_000)]
    expires_in_s: Option<u64>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
struct MadeKey {
    /// What is kept of it.
    #[serde(flatten)]
    key: ApiKey,
    /// The whole key, for `Authorization: Bearer`. It is shown now and never again.
    token: String,
}

/// The tenant's keys, oldest first.
#[utoipa::path(get, path = "/api/keys", tag = "access", operation_id = "list_keys", params(Paging),
    responses((status = 200, body = Page<ApiKey>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<ApiKey>>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let after: Option<(i64, String)> = paging.after()?;
    let after = after.map(|(time, id)| (Moment::from_micros(time), id));
    let rows = api.store.keys(caller.tenant(), after, paging.rows()?).await?;
    paging.page(rows, |key| (key.created_at.micros(), key.id.clone())).map(Json)
}

/// Makes a key.
#[utoipa::path(post, path = "/api/keys", tag = "access", operation_id = "create_key", request_body = WantedKey,
    responses((status = 201, body = MadeKey)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(wanted): Json<WantedKey>,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    caller.require(Role::TenantAdmin)?;
    let length = wanted.name.chars().count();
    if !(1..=200).contains(&length) || wanted.name.chars().any(char::is_control) {
        let detail = "must have 1 to 200 characters, none of them a control character";
        return Err(Problem::invalid("name", detail));
    }
    if wanted.role > caller.access.role {
        return Err(Problem::forbidden("a key cannot do more than who makes it"));
    }
    let lifetime = match wanted.expires_in_s {
        Some(seconds @ 60..=315_360_000) => Some(Duration::from_secs(seconds)),
        Some(_) => return Err(Problem::invalid("expires_in_s", "must be 60 to 315360000 (ten years)")),
        None => None,
    };
    let new = NewKey::make(caller.tenant().clone(), wanted.role, wanted.name, &caller.access, lifetime)
        .map_err(Problem::internal)?;
    let mut transaction = api.store.begin().await?;
    transaction.add_key(&new.key, &new.digest).await?;
    transaction.audit(&caller.entry("key.create", &new.key.id).after(&new.key)).await?;
    transaction.commit().await?;
    let token = new.text.expose().to_owned();
    Ok((StatusCode::CREATED, Json(MadeKey { key: new.key, token })))
}

/// One key, without its secret.
#[utoipa::path(get, path = "/api/keys/{id}", tag = "access", operation_id = "show_key",
    params(("id" = String, Path, description = "The key's id")), responses((status = 200, body = ApiKey)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ApiKey>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let key = api.store.key(caller.tenant(), &id).await?;
    key.map(Json).ok_or_else(|| Problem::not_found("there is no such key here"))
}

/// Revokes a key: it is good no longer, and no longer shown but in the log of changes.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "access", operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's id")), responses((status = 204)))]
async fn revoke(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::TenantAdmin)?;
    let mut transaction = api.store.begin().await?;
    let key = transaction.key(caller.tenant(), &id).await?;
    let key = key.ok_or_else(|| Problem::not_found("there is no such key here"))?;
    if key.role > caller.access.role {
        return Err(Problem::needs(key.role));
    }
    transaction.revoke_key(caller.tenant(), &id, Moment::now()).await?;
    transaction.audit(&caller.entry("key.revoke", &id).before(&key)).await?;
    transaction.commit().await?;
    api.control.gate.forget();
    Ok(StatusCode::NO_CONTENT)
}
