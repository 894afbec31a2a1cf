//! The paths and what they answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::json;

use super::host::AllowedHosts;
use super::{calls, calls_resource, device, streams};
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
}

impl Api {
    /// The router.
    pub fn router(self) -> Router {
        let hosts = AllowedHosts::new(&self.allowed_hosts);
        Router::new()
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
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(middleware::from_fn_with_state(hosts, guard))
            .with_state(Arc::new(self))
    }
}

/// Every request: the right host, an end in time, and headers that keep browsers from guessing.
async fn guard(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string));
    let mut response = match host {
        Some(host) if hosts.allows(&host) => {
            match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "the request took too long"),
            }
        }
        Some(_) => error(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header names another host; use the address, or add the name to http.allowed_hosts",
        ),
        None => error(StatusCode::BAD_REQUEST, "the Host header is missing"),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn index() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], INDEX)
}

async fn healthz() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(api): State<Arc<Api>>) -> Response {
    match api.readiness.phase() {
        Phase::Serving => Json(json!({ "status": "ready", "reasons": [] })).into_response(),
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

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "there is nothing here; GET / lists the paths")
}

async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method; GET / lists both")
}

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

const BODY_LIMIT: usize = 64 * 1024;
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

const INDEX: &str = "\
sidetone

GET    /healthz        200 while the process runs
GET    /readyz         200 while calls are taken, 503 with reasons while starting or draining
GET    /metrics        Prometheus text
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
