//! The paths and what they answer.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use super::control::Control;
use super::door::{self, Door};
use super::host::AllowedHosts;
use super::{
    audit, batches, calls, calls_resource, device, document, events, idempotency, keys, live_calls, me,
    not_yet, numbers, outbound_routes, records, streams, tenants, trunks, webhooks,
};
use crate::apps::Apps;
use crate::call::CallTable;
use crate::media::Media;
use crate::store::Store;
use crate::telemetry::{Phase, Readiness, Registry};

/// What the paths show.
#[derive(Clone, Debug)]
pub struct Api {
    /// Whether new calls are welcome.
    pub readiness: Arc<Readiness>,
    /// All metrics.
    pub metrics: Arc<Registry>,
    /// The calls that run.
    pub calls: CallTable,
    /// The apps, for the accounts of their agents.
    pub apps: Arc<Apps>,
    /// The media engine.
    pub media: Media,
    /// Where everything is that is kept.
    pub store: Store,
    /// Names that the Host header may carry besides addresses and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// What is behind `/api`.
    pub control: Control,
}

impl Api {
    /// The router.
    pub fn router(self) -> Router {
        let hosts = AllowedHosts::new(&self.allowed_hosts);
        let api = Arc::new(self);
        let (resources, document) = resources().split_for_parts();
        let document = document::complete(document);
        let repeatable = middleware::from_fn_with_state(Arc::clone(&api), idempotency::layer);
        let inner = Router::new()
            .route("/", get(index))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/v1/device", get(device::show))
            .route("/v1/calls", get(calls::list))
            .route("/v1/calls/{id}", get(calls::one).delete(calls::hang_up))
            .merge(calls_resource::routes())
            .route("/v1/calls/{id}/streams", get(streams::list).post(streams::begin))
            .route("/v1/calls/{id}/streams/{stream}", delete(streams::end))
            .merge(document::pages(&document))
            .merge(resources.route_layer(repeatable))
            .fallback(door::not_found)
            .method_not_allowed_fallback(door::method_not_allowed)
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(Arc::clone(&api));
        // The door is around the whole: it stands before a path is looked for.
        Router::new()
            .fallback_service(inner)
            .layer(middleware::from_fn_with_state(Door { hosts, api }, door::guard))
    }
}

/// All resources below `/api`, each with its part of the document.
fn resources() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(me::routes())
        .merge(keys::routes())
        .merge(tenants::routes())
        .merge(audit::routes())
        .merge(events::routes())
        .merge(webhooks::routes())
        .merge(trunks::routes())
        .merge(numbers::routes())
        .merge(outbound_routes::routes())
        .merge(batches::routes())
        .merge(live_calls::routes())
        .merge(not_yet::routes())
        .merge(records::routes())
}

async fn index() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], INDEX)
}

async fn healthz() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(api): State<Arc<Api>>) -> Response {
    match api.readiness.phase() {
        Phase::Serving => {
            Json(json!({ "status": "ready", "reasons": api.readiness.notes() })).into_response()
        }
        Phase::Starting => unready("starting"),
        Phase::Draining => unready("draining"),
    }
}

fn unready(reason: &str) -> Response {
    let body = Json(json!({ "status": "not ready", "reasons": [reason] }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.metrics.collect().to_string())
}

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

const BODY_LIMIT: usize = 64 * 1024;

const INDEX: &str = "\
sidetone

GET    /healthz        200 while the process runs
GET    /readyz         200 while calls are taken, 503 with reasons while starting or draining
GET    /metrics        Prometheus text
GET    /docs           the API below /api: trunks, calls, messages, records; /openapi.json is its document
GET    /v1/device      how media comes in and goes out, JSON
GET    /v1/calls       the calls that run now, JSON
GET    /v1/calls/{id}  one call, with its media figures
DELETE /v1/calls/{id}  hangs up
GET    /2010-04-01/Accounts/{sid}/Calls/{sid}.json  one call, for bots made for Twilio
POST   /2010-04-01/Accounts/{sid}/Calls/{sid}.json  ends or transfers it
GET    /v1/calls/{id}/streams           the WebSockets that listen to a call
POST   /v1/calls/{id}/streams           one more: url, dialect (twilio, jambonz, raw), track (inbound, outbound, both, mix)
DELETE /v1/calls/{id}/streams/{stream}  ends one
";
