//! Requests that may be sent again (the `Idempotency-Key` header of the IETF draft of that name): a repetition gets the answer
//! of the first one, and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use super::caller::Caller;
use super::problem::Problem;
use super::routes::Api;
use crate::store::{KeptAnswer, KeyedRequest, Known, Store};

/// Around every path below `/api`, once that and its method are found.
pub(super) async fn layer(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    run(&api.store, &caller, request, next).await
}

/// Runs a request, or answers as its first time if it names a key and was run before.
async fn run(store: &Store, caller: &Caller, request: Request, next: Next) -> Result<Response, Problem> {
    let method = request.method();
    let is_write = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let Some(value) = request.headers().get(KEY).filter(|_| is_write) else {
        return Ok(next.run(request).await);
    };
    let key = parse(value)?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LONGEST_REQUEST).await.map_err(|_| {
        Problem::too_large("the body is larger than a request with an Idempotency-Key may be")
    })?;
    let digest = digest(&parts.method, &parts.uri.to_string(), &body);
    let keyed = KeyedRequest { access: caller.access.clone(), key, digest };
    match store.take_request(&keyed, LEASE).await? {
        Known::New => {}
        Known::Running => {
            return Err(Problem::conflict(
                "a request with this Idempotency-Key is being carried out; wait for it",
            ));
        }
        Known::Other => {
            return Err(Problem::unprocessable(
                "this Idempotency-Key was used for another request within the last 24 hours; take a new one",
            ));
        }
        Known::Done(answer) => return Ok(again(answer)),
    }
    let store = store.clone();
    // It goes on when the client has gone, so that the answer is there when it comes back.
    let running = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        keep(&store, &keyed, response).await
    });
    running.await.map_err(Problem::internal)
}

/// Keeps the answer, if it is one that a repetition should get.
async fn keep(store: &Store, keyed: &KeyedRequest, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let changes_nothing = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::FORBIDDEN]
            .contains(&status);
    let body = match to_bytes(body, LONGEST_ANSWER).await {
        Ok(body) => body,
        Err(error) => return Problem::internal(error).into_response(),
    };
    let kept = match String::from_utf8(body.to_vec()) {
        Ok(text) if !changes_nothing => {
            let headers = KEPT_HEADERS.iter().filter_map(|name| {
                let value = parts.headers.get(name)?.to_str().ok()?;
                Some((name.as_str().to_owned(), value.to_owned()))
            });
            let answer = KeptAnswer { status: status.as_u16(), headers: headers.collect(), body: text };
            store.finish_request(keyed, &answer).await
        }
        _ => store.give_up_request(keyed).await,
    };
    if let Err(error) = kept {
        // What was done is done; a repetition within the lease is refused.
        tracing::warn!(%error, "the answer to a request with an Idempotency-Key is not kept");
    }
    Response::from_parts(parts, Body::from(body))
}

fn again(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// A string of a structured header (RFC 8941 section 3.3.3), or, as most clients send it, the bare text.
fn parse(value: &HeaderValue) -> Result<String, Problem> {
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
        return Ok(key.to_owned());
    }
    let detail = "the header Idempotency-Key must have 1 to 255 visible ASCII characters, such as a UUID";
    Err(Problem::bad_request(detail))
}

/// What makes it the same request.
fn digest(method: &Method, target: &str, body: &Bytes) -> String {
    let mut digest = Sha256::new();
    for part in [method.as_str().as_bytes(), target.as_bytes(), body] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Forgets old answers, little by little, until the process ends.
pub async fn forget_old(store: Store) {
    loop {
        match store.forget_old_requests().await {
            // There may be more.
            Ok(1000..) => continue,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "old answers are not forgotten"),
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEPT_HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, header::LOCATION];
/// Longer than any request runs.
const LEASE: Duration = Duration::from_secs(60);
const LONGEST_REQUEST: usize = 1024 * 1024;
const LONGEST_ANSWER: usize = 1024 * 1024;
const FORGET_EVERY: Duration = Duration::from_secs(600);
