//! What every request goes through before a path is looked for: the right host, an end in time, a token for
//! everything below `/api`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::caller::{Caller, Entrance};
use super::host::AllowedHosts;
use super::problem::Problem;
use super::routes::{Api, error};
use crate::access::{Gate, Refusal};
use crate::model::{Access, Role, TenantId};

/// Where a request comes from; the server puts it there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// What the door knows.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) hosts: AllowedHosts,
    pub(super) api: Arc<Api>,
}

/// Whether problems are told in the API's way there.
pub(super) fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Every request: the right host, an end in time, and headers that keep browsers from guessing.
pub(super) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string));
    let api = is_api(request.uri().path());
    let refuse = |problem: Problem, text: &str| {
        if api { problem.into_response() } else { error(problem.status(), text) }
    };
    let mut response = match host {
        Some(host) if door.hosts.allows(&host) => {
            let answered = async {
                if api {
                    enter(&door, request, next).await.unwrap_or_else(IntoResponse::into_response)
                } else {
                    next.run(request).await
                }
            };
            match tokio::time::timeout(REQUEST_LIMIT, answered).await {
                Ok(response) => response,
                Err(_) => {
                    let text = "the request took too long";
                    refuse(Problem::unavailable(text), text)
                }
            }
        }
        Some(_) => {
            let text =
                "the Host header names another host; use the address, or add the name to http.allowed_hosts";
            refuse(Problem::misdirected(text), text)
        }
        None => {
            let text = "the Host header is missing";
            refuse(Problem::bad_request(text), text)
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A request below `/api`: with a good token, and a path that can be looked for.
async fn enter(door: &Door, mut request: Request, next: Next) -> Result<Response, Problem> {
    // A socket without an address is a test's.
    let source =
        request.extensions().get::<Peer>().map_or_else(|| IpAddr::from([127, 0, 0, 1]), |peer| peer.0);
    let gate = &door.api.control.gate;
    if request.headers().get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(Problem::bad_request("there is more than one Authorization header"));
    }
    let Some(token) = token(request.headers()) else {
        gate.counters().missing.increment();
        let detail = "send the header `Authorization: Bearer TOKEN`; docs/api.md says where tokens come from";
        return Err(Problem::unauthorized(detail, false));
    };
    let access = gate.admit(&token, source).await.map_err(refused)?;
    readable(request.uri())?;
    let named = named_tenant(&request);
    trim(&mut request);
    let caller = act_for(gate, named, access).await.map(|access| Caller { access, source });
    // A tenant that is not theirs is told by the path that asks who they are: one that is not there says that first.
    request.extensions_mut().insert(Entrance(caller));
    Ok(next.run(request).await)
}

/// Their own tenant, or the one that the request names.
async fn act_for(
    gate: &Gate,
    named: Result<Option<TenantId>, Problem>,
    mut access: Access,
) -> Result<Access, Problem> {
    let Some(tenant) = named?.filter(|tenant| *tenant != access.tenant) else { return Ok(access) };
    if access.role != Role::Admin {
        return Err(Problem::forbidden("only an admin may name another tenant"));
    }
    if !gate.is_active(&tenant).await? {
        return Err(Problem::unprocessable(format!("there is no active tenant {tenant}")));
    }
    access.tenant = tenant;
    Ok(access)
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Invalid(detail) => Problem::unauthorized(detail, true),
        Refusal::Forbidden(detail) => Problem::forbidden(detail),
        Refusal::TooMany { retry_after_s } => {
            Problem::too_many("too many bad tokens came from this address", retry_after_s)
        }
        Refusal::Unavailable(detail) => Problem::unavailable(detail),
    }
}

/// The token: in the usual header or, for browsers' WebSockets, which cannot set it, as a subprotocol `bearer.TOKEN`.
fn token(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let is_websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL).filter(|_| is_websocket)?.to_str().ok()?;
    protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix("bearer.")).map(str::to_owned)
}

/// The tenant that the request names in a header or in the query.
fn named_tenant(request: &Request) -> Result<Option<TenantId>, Problem> {
    if let Some(value) = request.headers().get(X_TENANT) {
        return match value.to_str().ok().and_then(TenantId::named) {
            Some(tenant) => Ok(Some(tenant)),
            None => Err(Problem::invalid("X-Tenant", TenantId::FORM)),
        };
    }
    let query = request.uri().query().unwrap_or_default();
    let Some((_, value)) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "tenant") else {
        return Ok(None);
    };
    match TenantId::named(&value) {
        Some(tenant) => Ok(Some(tenant)),
        None => Err(Problem::invalid("tenant", TenantId::FORM)),
    }
}

/// Percent-encoded parts must be text without NUL, which no database takes.
fn readable(uri: &Uri) -> Result<(), Problem> {
    let bytes = |text: &str| {
        let mut decoded = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let escaped = match tail {
                [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
                _ => None,
            };
            match escaped {
                Some((high, low)) => {
                    decoded.push(high << 4 | low);
                    rest = tail.get(2..).unwrap_or_default();
                }
                None => {
                    decoded.push(*first);
                    rest = tail;
                }
            }
        }
        decoded
    };
    for (what, text) in [("path", uri.path()), ("query", uri.query().unwrap_or_default())] {
        let decoded = bytes(text);
        if decoded.contains(&0) || std::str::from_utf8(&decoded).is_err() {
            return Err(Problem::bad_request(format!("the {what} is not UTF-8, or has a NUL in it")));
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// `/api/trunks/` is `/api/trunks`.
fn trim(request: &mut Request) {
    let uri = request.uri();
    let trimmed = uri.path().trim_end_matches('/');
    if trimmed.len() == uri.path().len() {
        return;
    }
    let text = match uri.query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    if let Ok(path) = PathAndQuery::try_from(text) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// Nothing has this path.
pub(super) async fn not_found(uri: Uri) -> Response {
    if is_api(uri.path()) {
        return Problem::not_found("nothing has this path; /docs shows what there is").into_response();
    }
    error(StatusCode::NOT_FOUND, "there is nothing here; GET / lists the paths")
}

/// The path has other methods.
pub(super) async fn method_not_allowed(uri: Uri) -> Response {
    if is_api(uri.path()) {
        let detail = "this path does not take this method; Allow names those it takes";
        return Problem::method_not_allowed(detail).into_response();
    }
    error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method; GET / lists both")
}

const X_TENANT: &str = "x-tenant";
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
