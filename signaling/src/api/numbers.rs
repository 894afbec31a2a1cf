//! `/api/numbers`: what dialled numbers reach.

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
use crate::model::{Destination, Id, Moment, Number, Role, TenantId};
use crate::routing::{is_diallable, normalized};
use crate::sip::Target;

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(one, change, remove))
}

/// A number to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewNumber {
    /// As it is dialled, such as `+15551234567`; with `prefix`, how it begins.
    #[schema(max_length = 128)]
    number: String,
    /// Whether everything that begins so is meant.
    #[serde(default)]
    prefix: bool,
    /// What it reaches.
    destination: Destination,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 500)]
    description: String,
    /// Whether it is in use.
    #[serde(default = "yes")]
    active: bool,
}

/// What changes of a number.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NumberPatch {
    /// As it is dialled.
    #[schema(max_length = 128)]
    number: Option<String>,
    /// Whether everything that begins so is meant.
    prefix: Option<bool>,
    /// What it reaches.
    destination: Option<Destination>,
    /// For people.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Whether it is in use.
    active: Option<bool>,
}

const fn yes() -> bool {
    true
}

/// The tenant's numbers, oldest first.
#[utoipa::path(get, path = "/api/numbers", tag = "routing", operation_id = "list_numbers", params(Paging),
    responses((status = 200, body = Page<Number>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Number>>, Problem> {
    caller.require(Role::Viewer)?;
    let rows = usize::try_from(paging.rows()?).unwrap_or(1);
    let rows = api.store.numbers(caller.tenant(), paging.after()?, rows).await?;
    paging.page(rows, |number| number.id).map(Json)
}

/// Adds a number.
#[utoipa::path(post, path = "/api/numbers", tag = "routing", operation_id = "create_number", request_body = NewNumber,
    responses((status = 201, body = Number)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(new): Json<NewNumber>,
) -> Result<(StatusCode, Json<Number>), Problem> {
    caller.require(Role::TenantAdmin)?;
    let now = Moment::now();
    let number = Number {
        id: Id::new(),
        tenant: caller.tenant().clone(),
        number: normalized(&new.number),
        prefix: new.prefix,
        destination: new.destination,
        description: new.description,
        active: new.active,
        created_at: now,
        updated_at: now,
    };
    check(&number)?;
    let mut transaction = api.store.begin().await?;
    if transaction.count_numbers(caller.tenant()).await? >= MOST_NUMBERS {
        return Err(Problem::conflict(format!("a tenant has at most {MOST_NUMBERS} numbers; use prefixes")));
    }
    transaction.add_number(&number).await.map_err(taken)?;
    transaction.audit(&caller.entry("number.create", number.id.to_string()).after(&number)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok((StatusCode::CREATED, Json(number)))
}

/// One number.
#[utoipa::path(get, path = "/api/numbers/{id}", tag = "routing", operation_id = "show_number",
    params(("id" = Id, Path, description = "The number's id")), responses((status = 200, body = Number)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Number>, Problem> {
    caller.require(Role::Viewer)?;
    let id = parse(&id)?;
    api.store.number(caller.tenant(), id).await?.map(Json).ok_or_else(|| Problem::no_such("number", id))
}

/// Changes what is given and keeps the rest.
#[utoipa::path(patch, path = "/api/numbers/{id}", tag = "routing", operation_id = "change_number",
    params(("id" = Id, Path, description = "The number's id")), request_body = NumberPatch,
    responses((status = 200, body = Number)))]
async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(patch): Json<NumberPatch>,
) -> Result<Json<Number>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let id = parse(&id)?;
    let before =
        api.store.number(caller.tenant(), id).await?.ok_or_else(|| Problem::no_such("number", id))?;
    let old = before.clone();
    let number = Number {
        number: patch.number.map_or(old.number, |number| normalized(&number)),
        prefix: patch.prefix.unwrap_or(old.prefix),
        destination: patch.destination.unwrap_or(old.destination),
        description: patch.description.unwrap_or(old.description),
        active: patch.active.unwrap_or(old.active),
        updated_at: Moment::now(),
        ..old
    };
    check(&number)?;
    let mut transaction = api.store.begin().await?;
    if !transaction.change_number(&number).await.map_err(taken)? {
        return Err(Problem::no_such("number", id));
    }
    transaction.audit(&caller.entry("number.change", id.to_string()).before(&before).after(&number)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok(Json(number))
}

/// Removes a number.
#[utoipa::path(delete, path = "/api/numbers/{id}", tag = "routing", operation_id = "delete_number",
    params(("id" = Id, Path, description = "The number's id")), responses((status = 204)))]
async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::TenantAdmin)?;
    let id = parse(&id)?;
    let before =
        api.store.number(caller.tenant(), id).await?.ok_or_else(|| Problem::no_such("number", id))?;
    let mut transaction = api.store.begin().await?;
    transaction.remove_number(caller.tenant(), id).await?;
    transaction.audit(&caller.entry("number.delete", id.to_string()).before(&before)).await?;
    transaction.commit().await?;
    forget(&api, caller.tenant());
    Ok(StatusCode::NO_CONTENT)
}

fn check(number: &Number) -> Result<(), Problem> {
    if !(is_diallable(&number.number) || number.prefix && number.number.is_empty()) {
        return Err(Problem::invalid(
            "number",
            "must be a number or user of 1 to 128 letters, digits and +*#-_.~!",
        ));
    }
    text("description", &number.description, 500)?;
    match &number.destination {
        Destination::App { name } | Destination::Agent { name } | Destination::Queue { name } => {
            name_of("destination.name", name)
        }
        Destination::User { user, .. } => name_of("destination.user", user),
        Destination::Trunk { trunk_id, number } => {
            name_of("destination.trunk_id", trunk_id)?;
            match number {
                Some(number) if !is_diallable(&normalized(number)) => {
                    Err(Problem::invalid("destination.number", "must be a number that can be dialled"))
                }
                _ => Ok(()),
            }
        }
        Destination::Uri { uri } => Target::of_uri(uri)
            .map(drop)
            .map_err(|error| Problem::invalid("destination.uri", error.to_string())),
    }
}

fn name_of(field: &str, name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::invalid(field, "must not be empty"));
    }
    text(field, name, 128)
}

pub(super) fn text(field: &str, text: &str, most: usize) -> Result<(), Problem> {
    if text.chars().count() > most || text.chars().any(char::is_control) {
        let detail = format!("must have at most {most} characters, none of them a control character");
        return Err(Problem::invalid(field, detail));
    }
    Ok(())
}

fn taken(error: crate::store::StoreError) -> Problem {
    if error.is_conflict() { Problem::conflict("the tenant has this number already") } else { error.into() }
}

/// What was changed here is in force at once.
pub(super) fn forget(api: &Api, tenant: &TenantId) {
    if let Some(outbound) = &api.control.outbound {
        outbound.directory().forget(tenant);
    }
}

pub(super) fn parse(id: &str) -> Result<Id, Problem> {
    id.parse().map_err(|_| Problem::not_found("nothing has this id"))
}

const MOST_NUMBERS: usize = 100_000;
