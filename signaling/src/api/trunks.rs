//! `/api/trunks`: the carriers and switches of a tenant, and how they stand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::page::{Page, Paging};
use super::problem::{self, Problem};
use super::routes::Api;
use crate::model::{
    FieldError, Moment, NewTrunk, Role, TenantId, Trunk, TrunkPatch, TrunkStatus, TrunkSummary,
};
use crate::store::Transaction;
use crate::trunk::{self, PasswordChange};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(statuses))
        .routes(routes!(summary))
        .routes(routes!(one, replace, change, remove))
        .routes(routes!(status))
        .routes(routes!(activate))
        .routes(routes!(deactivate))
}

/// The tenant's trunks, by name.
#[utoipa::path(get, path = "/api/trunks", tag = "trunks", operation_id = "list_trunks", params(Paging),
    responses((status = 200, body = Page<Trunk>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Trunk>>, Problem> {
    caller.require(Role::Viewer)?;
    page_of(&api, &caller, &paging).await.map(Json)
}

/// Adds a trunk. Unless `active` is true, `activate` takes it into use.
#[utoipa::path(post, path = "/api/trunks", tag = "trunks", operation_id = "create_trunk", request_body = NewTrunk,
    responses((status = 201, body = Trunk)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(new): Json<NewTrunk>,
) -> Result<(StatusCode, Json<Trunk>), Problem> {
    caller.require(Role::TenantAdmin)?;
    let (trunk, password) = trunk::create(caller.tenant(), new, Moment::now()).map_err(invalid)?;
    let sealed = match &password {
        PasswordChange::Set(secret) => Some(api.store.seal_trunk_password(&trunk, secret)?),
        PasswordChange::Keep | PasswordChange::Remove => None,
    };
    let mut transaction = api.store.begin().await?;
    check_backups(&mut transaction, &trunk).await?;
    transaction.insert_trunk(&trunk, sealed).await.map_err(|error| {
        if error.is_conflict() {
            return Problem::conflict(format!("there is a trunk {} already", trunk.trunk_id));
        }
        error.into()
    })?;
    transaction.audit(&caller.entry("trunk.create", &trunk.trunk_id).after(&trunk)).await?;
    transaction.commit().await?;
    if trunk.active {
        api.control.trunks.refresh().await?;
    }
    Ok((StatusCode::CREATED, Json(trunk)))
}

/// One trunk.
#[utoipa::path(get, path = "/api/trunks/{id}", tag = "trunks", operation_id = "show_trunk",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")),
    responses((status = 200, body = Trunk)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Trunk>, Problem> {
    caller.require(Role::Viewer)?;
    find(&api, caller.tenant(), &id).await.map(Json)
}

/// Changes what is given and keeps the rest, as PATCH does. It is in force when the answer comes.
#[utoipa::path(put, path = "/api/trunks/{id}", tag = "trunks", operation_id = "update_trunk",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")), request_body = TrunkPatch,
    responses((status = 200, body = Trunk)))]
async fn replace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(patch): Json<TrunkPatch>,
) -> Result<Json<Trunk>, Problem> {
    caller.require(Role::TenantAdmin)?;
    apply(&api, &caller, &id, patch, "trunk.change").await.map(Json)
}

/// Changes what is given and keeps the rest. It is in force when the answer comes.
#[utoipa::path(patch, path = "/api/trunks/{id}", tag = "trunks", operation_id = "change_trunk",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")), request_body = TrunkPatch,
    responses((status = 200, body = Trunk)))]
async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(patch): Json<TrunkPatch>,
) -> Result<Json<Trunk>, Problem> {
    caller.require(Role::TenantAdmin)?;
    apply(&api, &caller, &id, patch, "trunk.change").await.map(Json)
}

/// Deletes a trunk. Its registration is taken back; calls that it carries go on.
#[utoipa::path(delete, path = "/api/trunks/{id}", tag = "trunks", operation_id = "delete_trunk",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")), responses((status = 204)))]
async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::TenantAdmin)?;
    let mut transaction = api.store.begin().await?;
    let before =
        transaction.trunk(caller.tenant(), &id).await?.ok_or_else(|| Problem::no_such("trunk", &id))?;
    transaction.delete_trunk(caller.tenant(), &id).await?;
    transaction.audit(&caller.entry("trunk.delete", &id).before(&before)).await?;
    transaction.commit().await?;
    api.control.trunks.refresh().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a trunk into use: it registers, or is NOREG if it does not.
#[utoipa::path(post, path = "/api/trunks/{id}/activate", tag = "trunks", operation_id = "activate_trunk",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")),
    responses((status = 200, body = TrunkStatus)))]
async fn activate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TrunkStatus>, Problem> {
    caller.require(Role::TenantAdmin)?;
    use_or_not(&api, &caller, &id, true).await.map(Json)
}

/// Takes a trunk out of use: its registration is taken back; calls that it carries go on.
#[utoipa::path(post, path = "/api/trunks/{id}/deactivate", tag = "trunks", operation_id = "deactivate_trunk",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")),
    responses((status = 200, body = TrunkStatus)))]
async fn deactivate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TrunkStatus>, Problem> {
    caller.require(Role::TenantAdmin)?;
    use_or_not(&api, &caller, &id, false).await.map(Json)
}

/// How a trunk stands.
#[utoipa::path(get, path = "/api/trunks/{id}/status", tag = "trunks", operation_id = "show_trunk_status",
    params(("id" = String, Path, description = "The trunk's `trunk_id`")),
    responses((status = 200, body = TrunkStatus)))]
async fn status(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TrunkStatus>, Problem> {
    caller.require(Role::Viewer)?;
    let trunk = find(&api, caller.tenant(), &id).await?;
    Ok(Json(api.control.trunks.status(&trunk).await?))
}

/// How the tenant's trunks stand, by name.
#[utoipa::path(get, path = "/api/trunks/status", tag = "trunks", operation_id = "list_trunk_statuses", params(Paging),
    responses((status = 200, body = Page<TrunkStatus>)))]
async fn statuses(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TrunkStatus>>, Problem> {
    caller.require(Role::Viewer)?;
    let Page { items, next } = page_of(&api, &caller, &paging).await?;
    let items = api.control.trunks.statuses(caller.tenant(), &items).await?;
    Ok(Json(Page { items, next }))
}

/// Over which time the calls are counted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Span {
    /// The last so many hours.
    #[param(minimum = 1, maximum = 8784, default = 24)]
    hours: Option<u32>,
}

/// What the calls of a tenant's trunks came to.
#[derive(Debug, Serialize, ToSchema)]
struct Summary {
    /// Calls that began then or later.
    since: Moment,
    /// By trunk, also by those that are no longer there.
    items: Vec<TrunkSummary>,
}

/// What the calls of each trunk came to: how many, how many failed, how long, what they cost.
#[utoipa::path(get, path = "/api/trunks/stats/summary", tag = "trunks", operation_id = "show_trunk_summary",
    params(Span), responses((status = 200, body = Summary)))]
async fn summary(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(span): Query<Span>,
) -> Result<Json<Summary>, Problem> {
    caller.require(Role::Viewer)?;
    let hours = span.hours.unwrap_or(24);
    if !(1..=MOST_HOURS).contains(&hours) {
        return Err(Problem::invalid("hours", format!("must be 1 to {MOST_HOURS}")));
    }
    let now = Moment::now();
    let since = now.before(std::time::Duration::from_secs(3600 * u64::from(hours)));
    let items = api.store.trunk_summaries(caller.tenant(), since, now).await?;
    Ok(Json(Summary { since, items }))
}

async fn page_of(api: &Api, caller: &Caller, paging: &Paging) -> Result<Page<Trunk>, Problem> {
    let after: Option<String> = paging.after()?;
    let rows =
        api.store.trunks(caller.tenant(), after.as_deref().unwrap_or_default(), paging.rows()?).await?;
    paging.page(rows, |trunk| trunk.trunk_id.clone())
}

async fn find(api: &Api, tenant: &TenantId, id: &str) -> Result<Trunk, Problem> {
    api.store.trunk(tenant, id).await?.ok_or_else(|| Problem::no_such("trunk", id))
}

async fn use_or_not(api: &Api, caller: &Caller, id: &str, active: bool) -> Result<TrunkStatus, Problem> {
    let action = if active { "trunk.activate" } else { "trunk.deactivate" };
    let patch = TrunkPatch { active: Some(active), ..TrunkPatch::default() };
    let trunk = apply(api, caller, id, patch, action).await?;
    Ok(api.control.trunks.status(&trunk).await?)
}

/// Makes a change; when this returns it is in force.
async fn apply(
    api: &Api,
    caller: &Caller,
    id: &str,
    patch: TrunkPatch,
    action: &str,
) -> Result<Trunk, Problem> {
    for _ in 0..MOST_TRIES {
        let mut transaction = api.store.begin().await?;
        let before =
            transaction.trunk(caller.tenant(), id).await?.ok_or_else(|| Problem::no_such("trunk", id))?;
        let (trunk, password) = trunk::change(&before, patch.clone(), Moment::now()).map_err(invalid)?;
        check_backups(&mut transaction, &trunk).await?;
        let sealed = match &password {
            PasswordChange::Keep => None,
            PasswordChange::Remove => Some(None),
            PasswordChange::Set(secret) => Some(Some(api.store.seal_trunk_password(&trunk, secret)?)),
        };
        if !transaction.update_trunk(&trunk, before.updated_at, sealed).await? {
            // Somebody was faster: once more, with what they left.
            continue;
        }
        transaction.audit(&caller.entry(action, id).before(&before).after(&trunk)).await?;
        transaction.commit().await?;
        api.control.trunks.refresh().await?;
        return Ok(trunk);
    }
    Err(Problem::conflict(format!("the trunk {id} is being changed by others; try again")))
}

/// Trunks that stand in for each other in a circle would be tried without end.
async fn check_backups(transaction: &mut Transaction, trunk: &Trunk) -> Result<(), Problem> {
    if trunk.backup_trunks.is_empty() {
        return Ok(());
    }
    let mut backups = transaction.backup_trunks(&trunk.tenant).await?;
    backups.insert(trunk.trunk_id.clone(), trunk.backup_trunks.clone());
    match circle(&backups, &trunk.trunk_id) {
        None => Ok(()),
        Some(through) => Err(Problem::invalid(
            "backup_trunks",
            format!("{through} stands in for {} already, over others or by itself", trunk.trunk_id),
        )),
    }
}

/// The backup of `start` that leads back to it.
fn circle<'a>(backups: &'a HashMap<String, Vec<String>>, start: &str) -> Option<&'a str> {
    for first in backups.get(start)? {
        let (mut open, mut seen) = (vec![first.as_str()], HashSet::new());
        while let Some(name) = open.pop() {
            if name == start {
                return Some(first);
            }
            if seen.insert(name) {
                open.extend(backups.get(name).into_iter().flatten().map(String::as_str));
            }
        }
    }
    None
}

fn invalid(errors: Vec<FieldError>) -> Problem {
    let named = |error: FieldError| problem::FieldError { field: error.field, detail: error.detail };
    Problem::all_invalid(errors.into_iter().map(named).collect())
}

const MOST_TRIES: usize = 5;
/// A leap year.
const MOST_HOURS: u32 = 8784;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_backups_is_found() {
        let of = |pairs: &[(&str, &[&str])]| -> HashMap<String, Vec<String>> {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            pairs.iter().map(|(name, names)| ((*name).to_owned(), list(names))).collect()
        };
        let table = of(&[("a", &["b", "c"]), ("b", &["d", "gone"]), ("c", &["d"]), ("d", &[])]);
        for name in ["a", "b", "c", "d", "gone"] {
            assert_eq!(circle(&table, name), None, "{name}");
        }
        let table = of(&[("a", &["b"]), ("b", &["c", "e"]), ("c", &["a"]), ("e", &["e"])]);
        assert_eq!(circle(&table, "a"), Some("b"));
        assert_eq!(circle(&table, "c"), Some("a"));
        assert_eq!(circle(&table, "e"), Some("e"));
    }
}
