//! `/api/webhooks`: receivers of events by HTTP, what was given up for them, and sending it again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::page::{Page, Paging};
use super::problem::Problem;
use super::routes::Api;
use crate::event::{LONGEST_URL, Message, SigningSecret};
use crate::model::{DeadDelivery, EventKind, Id, Moment, Role, Webhook};
use crate::store::WebhookChange;

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, change, remove))
        .routes(routes!(rotate))
        .routes(routes!(rotate_for_calls))
        .routes(routes!(test))
        .routes(routes!(replay))
        .routes(routes!(dead))
        .routes(routes!(replay_dead))
}

/// A webhook to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedWebhook {
    /// Where events go: `https://` or `http://`, without user and password, and not to an internal address.
    #[schema(max_length = 2048)]
    url: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    description: String,
    /// The kinds that it gets; all if empty.
    #[serde(default)]
    kinds: Vec<EventKind>,
    /// Whether it gets any.
    #[serde(default = "yes")]
    #[schema(default = true)]
    active: bool,
}

const fn yes() -> bool {
    true
}

/// What changes; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedWebhook {
    /// Where events go.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// For people.
    #[schema(max_length = 200)]
    description: Option<String>,
    /// The kinds that it gets; all if empty.
    kinds: Option<Vec<EventKind>>,
    /// Whether it gets any.
    active: Option<bool>,
}

/// A webhook that was just made.
#[derive(Serialize, ToSchema)]
struct MadeWebhook {
    /// What is kept of it.
    #[serde(flatten)]
    webhook: Webhook,
    /// What its messages are signed with (`whsec_...`, Standard Webhooks). It is shown now and never again.
    secret: String,
}

/// A new signing secret.
#[derive(Serialize, ToSchema)]
struct MadeSecret {
    /// It is shown now and never again.
    secret: String,
}

/// How a test went.
#[derive(Debug, Serialize, ToSchema)]
struct Tested {
    /// Whether the receiver took it.
    delivered: bool,
    /// The status of its answer, if there was one.
    status: Option<u16>,
    /// What went wrong.
    error: Option<String>,
    /// How long it took.
    took_ms: u64,
}

/// Which events to send again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedReplay {
    /// Not before this moment.
    from: Moment,
    /// Before this moment.
    to: Moment,
}

/// What was queued.
#[derive(Debug, Serialize, ToSchema)]
struct Queued {
    /// How many events. With 10000 there may be more: ask again with a later `from`.
    queued: u64,
}

/// Which of the dead letters are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WantedDead {
    /// Only those of this webhook.
    #[param(value_type = Option<String>, format = Uuid)]
    webhook: Option<Id>,
}

/// The tenant's webhooks, oldest first.
#[utoipa::path(get, path = "/api/webhooks", tag = "events", operation_id = "list_webhooks",
    responses((status = 200, body = Page<Webhook>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Webhook>>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let after: Option<Id> = paging.after()?;
    let after = after.map(|id| id.to_string());
    let rows = api.store.webhooks(caller.tenant(), after.as_deref(), paging.limit()? + 1).await?;
    paging.page(rows, |webhook| webhook.id).map(Json)
}

/// Makes a webhook; its signing secret is in the answer, and nowhere later.
#[utoipa::path(post, path = "/api/webhooks", tag = "events", operation_id = "create_webhook",
    request_body = WantedWebhook, responses((status = 201, body = MadeWebhook)))]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(wanted): Json<WantedWebhook>,
) -> Result<(StatusCode, Json<MadeWebhook>), Problem> {
    caller.require(Role::TenantAdmin)?;
    check(&api, Some(&wanted.url), Some(&wanted.description))?;
    let secret = SigningSecret::generate().map_err(Problem::internal)?.reveal();
    let now = Moment::now();
    let webhook = Webhook {
        id: Id::new(),
        tenant: caller.tenant().clone(),
        url: wanted.url,
        description: wanted.description,
        kinds: distinct(wanted.kinds),
        active: wanted.active,
        disabled_reason: None,
        created_at: now,
        updated_at: now,
    };
    let mut transaction = api.store.begin().await?;
    let most = api.control.events.webhooks_per_tenant();
    if !transaction.add_webhook(&api.store, &webhook, &secret, most).await? {
        return Err(Problem::conflict(format!("a tenant has at most {most} webhooks; delete one first")));
    }
    transaction.audit(&caller.entry("webhook.create", webhook.id).after(&webhook)).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(MadeWebhook { webhook, secret: secret.to_string() })))
}

/// One webhook.
#[utoipa::path(get, path = "/api/webhooks/{id}", tag = "events", operation_id = "show_webhook",
    params(("id" = Id, Path, description = "The webhook's id")), responses((status = 200, body = Webhook)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<Id>,
) -> Result<Json<Webhook>, Problem> {
    caller.require(Role::TenantAdmin)?;
    found(&api, &caller, &id).await.map(Json)
}

/// Changes a webhook. Switching it on also clears the reason why it was switched off.
#[utoipa::path(patch, path = "/api/webhooks/{id}", tag = "events", operation_id = "change_webhook",
    params(("id" = Id, Path, description = "The webhook's id")), request_body = ChangedWebhook,
    responses((status = 200, body = Webhook)))]
async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<Id>,
    Json(changed): Json<ChangedWebhook>,
) -> Result<Json<Webhook>, Problem> {
    caller.require(Role::TenantAdmin)?;
    check(&api, changed.url.as_deref(), changed.description.as_deref())?;
    let before = found(&api, &caller, &id).await?;
    let ChangedWebhook { url, description, kinds, active } = changed;
    let change = WebhookChange { url, description, kinds: kinds.map(distinct), active };
    let mut transaction = api.store.begin().await?;
    let after = transaction.change_webhook(caller.tenant(), &id, &change).await?;
    let after = after.ok_or_else(|| Problem::no_such("webhook", id))?;
    transaction.audit(&caller.entry("webhook.change", id).before(&before).after(&after)).await?;
    transaction.commit().await?;
    Ok(Json(after))
}

/// Deletes a webhook, with all that waits for it.
#[utoipa::path(delete, path = "/api/webhooks/{id}", tag = "events", operation_id = "delete_webhook",
    params(("id" = Id, Path, description = "The webhook's id")), responses((status = 204)))]
async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<Id>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::TenantAdmin)?;
    let before = found(&api, &caller, &id).await?;
    let mut transaction = api.store.begin().await?;
    if !transaction.remove_webhook(caller.tenant(), &id).await? {
        return Err(Problem::no_such("webhook", id));
    }
    transaction.audit(&caller.entry("webhook.delete", id).before(&before)).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a webhook a new signing secret; the old one signs nothing any more.
#[utoipa::path(post, path = "/api/webhooks/{id}/secret", tag = "events", operation_id = "rotate_webhook_secret",
    params(("id" = Id, Path, description = "The webhook's id")), responses((status = 200, body = MadeSecret)))]
async fn rotate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<Id>,
) -> Result<Json<MadeSecret>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let secret = SigningSecret::generate().map_err(Problem::internal)?.reveal();
    let mut transaction = api.store.begin().await?;
    if !transaction.rotate_webhook_secret(&api.store, caller.tenant(), &id, &secret).await? {
        return Err(Problem::no_such("webhook", id));
    }
    transaction.audit(&caller.entry("webhook.secret", id)).await?;
    transaction.commit().await?;
    Ok(Json(MadeSecret { secret: secret.to_string() }))
}

/// Gives the tenant a new secret that signs what goes to the `webhook_url` of single calls.
#[utoipa::path(post, path = "/api/webhooks/calls/secret", tag = "events",
    operation_id = "rotate_call_webhook_secret", responses((status = 200, body = MadeSecret)))]
async fn rotate_for_calls(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<MadeSecret>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let secret = SigningSecret::generate().map_err(Problem::internal)?.reveal();
    let mut transaction = api.store.begin().await?;
    transaction.rotate_call_webhook_secret(&api.store, caller.tenant(), &secret).await?;
    transaction.audit(&caller.entry("webhook.secret", "calls")).await?;
    transaction.commit().await?;
    Ok(Json(MadeSecret { secret: secret.to_string() }))
}

/// Sends an event of the type `webhook.test` now, once, and tells how that went.
#[utoipa::path(post, path = "/api/webhooks/{id}/test", tag = "events", operation_id = "test_webhook",
    params(("id" = Id, Path, description = "The webhook's id")), responses((status = 200, body = Tested)))]
async fn test(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<Id>,
) -> Result<Json<Tested>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let webhook = found(&api, &caller, &id).await?;
    let secret = api.store.webhook_secret(caller.tenant(), &id).await?;
    let secret = secret.as_deref().and_then(|secret| SigningSecret::parse(secret));
    let secret = secret.ok_or_else(|| Problem::no_such("webhook", id))?;
    let event = Id::new().to_string();
    let body = serde_json::json!({
        "id": event, "tenant": webhook.tenant, "type": "webhook.test", "time": Moment::now(),
        "subject": webhook.id, "data": {},
    });
    let body = Bytes::from(body.to_string());
    let message = Message { url: &webhook.url, id: &event, body, secret: &secret };
    // Within what a request may take, however patient the deliveries are.
    let sent = tokio::time::timeout(TEST_LIMIT, api.control.events.sender().send(message)).await;
    Ok(Json(match sent {
        Ok(attempt) => Tested {
            delivered: attempt.taken(),
            status: attempt.status,
            error: attempt.error,
            took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        },
        Err(_) => Tested {
            delivered: false,
            status: None,
            error: Some(format!("no answer within {} s", TEST_LIMIT.as_secs())),
            took_ms: u64::try_from(TEST_LIMIT.as_millis()).unwrap_or(u64::MAX),
        },
    }))
}

/// Queues again for a webhook what happened in a range of time, as far as it is kept; with the same ids.
#[utoipa::path(post, path = "/api/webhooks/{id}/replay", tag = "events", operation_id = "replay_webhook",
    params(("id" = Id, Path, description = "The webhook's id")), request_body = WantedReplay,
    responses((status = 202, body = Queued)))]
async fn replay(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<Id>,
    Json(wanted): Json<WantedReplay>,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    caller.require(Role::TenantAdmin)?;
    if wanted.to <= wanted.from {
        return Err(Problem::invalid("to", "must be after `from`"));
    }
    found(&api, &caller, &id).await?;
    let mut transaction = api.store.begin().await?;
    let queued =
        transaction.replay_events(caller.tenant(), &id, wanted.from, wanted.to, MOST_REPLAYED).await?;
    let range = serde_json::json!({ "from": wanted.from, "to": wanted.to, "queued": queued });
    transaction.audit(&caller.entry("webhook.replay", id).after(&range)).await?;
    transaction.commit().await?;
    api.control.events.webhook_counters().replayed.add(queued);
    Ok((StatusCode::ACCEPTED, Json(Queued { queued })))
}

/// What was given up, for all of the tenant's receivers or one of them.
#[utoipa::path(get, path = "/api/webhooks/dead", tag = "events", operation_id = "list_dead_letters",
    responses((status = 200, body = Page<DeadDelivery>)))]
async fn dead(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(wanted): Query<WantedDead>,
) -> Result<Json<Page<DeadDelivery>>, Problem> {
    caller.require(Role::TenantAdmin)?;
    let after: String = paging.after()?.unwrap_or_default();
    let rows = api
        .store
        .dead_deliveries(caller.tenant(), wanted.webhook.as_ref(), &after, paging.limit()? + 1)
        .await?;
    paging.page(rows, |letter| letter.id.clone()).map(Json)
}

/// Queues again what was given up.
#[utoipa::path(post, path = "/api/webhooks/dead/{id}/replay", tag = "events", operation_id = "replay_dead_letter",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses((status = 202, body = Queued)))]
async fn replay_dead(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    caller.require(Role::TenantAdmin)?;
    let mut transaction = api.store.begin().await?;
    let queued = transaction.revive_delivery(caller.tenant(), &id).await?;
    if queued == 0 {
        return Err(Problem::not_found("there is no such dead letter here, or its event is kept no longer"));
    }
    transaction.audit(&caller.entry("webhook.replay", &id)).await?;
    transaction.commit().await?;
    api.control.events.webhook_counters().replayed.add(queued);
    Ok((StatusCode::ACCEPTED, Json(Queued { queued })))
}

async fn found(api: &Api, caller: &Caller, id: &Id) -> Result<Webhook, Problem> {
    let webhook = api.store.webhook(caller.tenant(), id).await?;
    webhook.ok_or_else(|| Problem::no_such("webhook", id))
}

fn check(api: &Api, url: Option<&str>, description: Option<&str>) -> Result<(), Problem> {
    if let Some(url) = url {
        if url.len() > LONGEST_URL || url.chars().any(char::is_control) {
            let detail = format!("must have at most {LONGEST_URL} bytes, none of them a control character");
            return Err(Problem::invalid("url", detail));
        }
        api.control.events.sender().check(url).map_err(|error| Problem::invalid("url", error.to_string()))?;
    }
    match description {
        Some(text) if text.chars().count() > 200 || text.chars().any(char::is_control) => {
            let detail = "must have at most 200 characters, none of them a control character";
            Err(Problem::invalid("description", detail))
        }
        _ => Ok(()),
    }
}

/// Each kind once.
fn distinct(mut kinds: Vec<EventKind>) -> Vec<EventKind> {
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Events of one replay.
const MOST_REPLAYED: usize = 10_000;
const TEST_LIMIT: std::time::Duration = std::time::Duration::from_secs(8);
