//! `/api/tenants`: the customers of an installation, for admins.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::page::{Page, Paging};
use super::problem::Problem;
use super::routes::Api;
use crate::model::{Moment, Role, Tenant, TenantId};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(one, change, remove))
}

/// A tenant to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// Its name in tokens and in `X-Tenant`; it stays.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$")]
    id: String,
    /// Its name for people; the id if there is none.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
}

/// What is to be different.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantChange {
    /// Its name for people.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Whether its keys and tokens are taken.
    active: Option<bool>,
}

/// All tenants.
#[utoipa::path(get, path = "/api/tenants", tag = "access", operation_id = "list_tenants", params(Paging),
    responses((status = 200, body = Page<Tenant>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Tenant>>, Problem> {
    caller.require(Role::Admin)?;
    let after: Option<String> = paging.after()?;
    let rows = api.store.tenants(after.as_deref(), paging.rows()?).await?;
    paging.page(rows, |tenant| tenant.id.clone()).map(Json)
}

/// Adds a tenant.
#[utoipa::path(post, path = "/api/tenants", tag = "access", operation_id = "create_tenant", request_body = NewTenant,
    responses((status = 201, body = Tenant)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(new): Json<NewTenant>,
) -> Result<(StatusCode, Json<Tenant>), Problem> {
    caller.require(Role::Admin)?;
    let id = TenantId::named(&new.id).ok_or_else(|| Problem::invalid("id", TenantId::FORM))?;
    let name = new.name.unwrap_or_else(|| new.id.clone());
    check_name(&name)?;
    let now = Moment::now();
    let tenant = Tenant { id, name, active: true, created_at: now, changed_at: now };
    let mut transaction = api.store.begin().await?;
    let is_known = transaction.tenant(&tenant.id).await?.is_some();
    if !is_known && transaction.has_past(&tenant.id).await? {
        let detail = "an earlier tenant of this name has left records or a log; take another name, or wait until they are old";
        return Err(Problem::conflict(detail));
    }
    transaction.add_tenant(&tenant).await.map_err(|error| {
        if error.is_conflict() {
            return Problem::conflict(format!("there is a tenant {} already", tenant.id));
        }
        error.into()
    })?;
    transaction.audit(&caller.entry("tenant.create", &tenant.id).after(&tenant)).await?;
    transaction.commit().await?;
    api.control.gate.forget();
    Ok((StatusCode::CREATED, Json(tenant)))
}

/// One tenant.
#[utoipa::path(get, path = "/api/tenants/{id}", tag = "access", operation_id = "show_tenant",
    params(("id" = String, Path, description = "The tenant's id")), responses((status = 200, body = Tenant)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Tenant>, Problem> {
    caller.require(Role::Admin)?;
    let id = known(id)?;
    api.store.tenant(&id).await?.map(Json).ok_or_else(|| Problem::no_such("tenant", id))
}

/// Renames a tenant, or stops and resumes its keys and tokens.
#[utoipa::path(patch, path = "/api/tenants/{id}", tag = "access", operation_id = "change_tenant",
    params(("id" = String, Path, description = "The tenant's id")), request_body = TenantChange,
    responses((status = 200, body = Tenant)))]
async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(change): Json<TenantChange>,
) -> Result<Json<Tenant>, Problem> {
    caller.require(Role::Admin)?;
    let id = known(id)?;
    let mut transaction = api.store.begin().await?;
    let before = transaction.tenant(&id).await?.ok_or_else(|| Problem::no_such("tenant", &id))?;
    let mut after = before.clone();
    if let Some(name) = change.name {
        check_name(&name)?;
        after.name = name;
    }
    after.active = change.active.unwrap_or(after.active);
    if id == TenantId::default() && !after.active {
        return Err(Problem::conflict("the tenant default stays active: the first admin belongs to it"));
    }
    after.changed_at = Moment::now();
    transaction.change_tenant(&after).await?;
    transaction.audit(&caller.entry("tenant.change", &id).before(&before).after(&after)).await?;
    transaction.commit().await?;
    api.control.gate.forget();
    Ok(Json(after))
}

/// Removes a tenant that has nothing any more. Its records and log of changes stay.
#[utoipa::path(delete, path = "/api/tenants/{id}", tag = "access", operation_id = "remove_tenant",
    params(("id" = String, Path, description = "The tenant's id")), responses((status = 204)))]
async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Admin)?;
    let id = known(id)?;
    if id == TenantId::default() {
        return Err(Problem::conflict("the tenant default stays"));
    }
    let mut transaction = api.store.begin().await?;
    let before = transaction.tenant(&id).await?.ok_or_else(|| Problem::no_such("tenant", &id))?;
    if let Some(what) = transaction.remove_tenant(&id).await? {
        return Err(Problem::conflict(format!("the tenant {id} still has {what}; remove them first")));
    }
    transaction.audit(&caller.entry("tenant.remove", &id).before(&before)).await?;
    transaction.commit().await?;
    api.control.gate.forget();
    Ok(StatusCode::NO_CONTENT)
}

fn known(id: String) -> Result<TenantId, Problem> {
    TenantId::named(&id).ok_or_else(|| Problem::not_found("there is no such tenant"))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let length = name.chars().count();
    if (1..=200).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::invalid("name", "must have 1 to 200 characters, none of them a control character"))
}
