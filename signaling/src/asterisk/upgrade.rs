//! The WebSocket upgrade: which path, whose token, and what the URL says of the call.
//!
//! ```text
//! GET /media/agent?from=%2B4930123&to=100&token=...   Authorization: Bearer or Basic instead of the token
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};

use super::config::{ChanWebSocketConfig, Token};
use crate::apps::cleaned;

/// What the URL says of the call. Not to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Invitation {
    pub(super) user: String,
    pub(super) from: String,
    pub(super) from_name: String,
    pub(super) to: String,
    pub(super) parameters: Vec<(String, String)>,
}

/// Reads a request; the error is the status to refuse it with.
pub(super) fn read(config: &ChanWebSocketConfig, request: &Request) -> Result<Invitation, StatusCode> {
    let after = request.uri().path().strip_prefix(config.path.as_str()).ok_or(StatusCode::NOT_FOUND)?;
    let user = match after.strip_prefix('/') {
        None if after.is_empty() => "",
        None => return Err(StatusCode::NOT_FOUND),
        Some(user) if user.contains('/') => return Err(StatusCode::NOT_FOUND),
        Some(user) => user,
    };
    let query = request.uri().query().unwrap_or_default();
    let mut token = None;
    let mut invitation = Invitation { user: cleaned(&decoded(user)), ..Invitation::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(MOST_PARAMETERS) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (cleaned(&decoded(name)), decoded(value));
        match name.as_str() {
            "token" => token = Some(value),
            "from" => invitation.from = cleaned(&value),
            "from_name" => invitation.from_name = cleaned(&value),
            "to" => invitation.to = cleaned(&value),
            _ => invitation.parameters.push((name, cleaned(&value))),
        }
    }
    let credentials = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let offered = credentials.and_then(secret_of).or(token);
    if !config.token.as_ref().is_none_or(|token| is_right(token, offered.as_deref())) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    if invitation.user.is_empty() {
        invitation.user.clone_from(&config.user);
    }
    if invitation.to.is_empty() {
        invitation.to.clone_from(&invitation.user);
    }
    Ok(invitation)
}

fn is_right(token: &Token, offered: Option<&str>) -> bool {
    offered.is_some_and(|offered| token.is(offered))
}

/// The token of `Bearer`, the password of `Basic` (RFC 7617).
fn secret_of(credentials: &str) -> Option<String> {
    let (scheme, rest) = credentials.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(rest.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Percent escapes are undone; a plus stays one, as numbers begin with it.
fn decoded(text: &str) -> String {
    crate::apps::percent_decoded(text)
}

/// What the upgrade is answered when there is a call to be had.
pub(super) fn accepted(request: &Request, mut response: Response) -> Response {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered =
        offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if offered.any(|protocol| protocol.trim() == SUBPROTOCOL) {
        let value = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    response
}

/// What it is answered when there is none.
pub(super) fn refused(status: StatusCode) -> ErrorResponse {
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer, Basic realm=\"sidetone\""),
            );
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        _ => {}
    }
    response
}

const SUBPROTOCOL: &str = "media";
const MOST_PARAMETERS: usize = 32;
