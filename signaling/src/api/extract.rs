//! What comes with a request, taken apart: like axum's extractors of the same names (so that the document of the
//! API is right by itself), but what cannot be taken is told as a [`Problem`] that names the field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::{FieldError, Problem};

/// A body in JSON, in or out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported("send JSON, with Content-Type: application/json"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        read(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The parameters in the path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            // What cannot be a name is nobody's.
            Err(rejection) if rejection.status().is_client_error() => {
                Err(Problem::not_found(format!("nothing has such a path: {}", rejection.body_text())))
            }
            Err(rejection) => Err(Problem::internal(rejection.body_text())),
        }
    }
}

/// The parameters behind `?`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
            .map(Self)
            .map_err(|error| invalid(&error.path().to_string(), &error.inner().to_string()))
    }
}

/// Reads JSON; errors name the field.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let text = error.inner().to_string();
        if error.inner().is_data() { invalid(&error.path().to_string(), &text) } else { broken(&text) }
    })?;
    deserializer.end().map_err(|error| broken(&error.to_string()))?;
    // No text of ours has a NUL in it, and PostgreSQL takes none.
    if bytes.windows(6).any(|window| window == br"\u0000")
        && let Ok(all) = serde_json::from_slice::<Value>(bytes)
        && let Some(field) = with_nul(&all, String::new())
    {
        return Err(Problem::invalid(field, "must not have a NUL character"));
    }
    Ok(value)
}

fn broken(text: &str) -> Problem {
    Problem::bad_request(format!("the body is not the JSON that is expected here: {text}"))
}

/// A field that has the wrong value, is missing, or should not be there.
fn invalid(path: &str, text: &str) -> Problem {
    let text = text.split_once(" at line ").map_or(text, |(text, _)| text);
    let named = |prefix: &str| {
        let (name, _) = text.strip_prefix(prefix)?.split_once('`')?;
        Some(name)
    };
    let parent = if path == "." { "" } else { path };
    let inner = named("missing field `").or_else(|| named("unknown field `"));
    let field = match inner {
        // The path of an unknown field ends with it, that of a missing one with what misses it.
        Some(name) if parent.rsplit('.').next() == Some(name) => parent.to_owned(),
        Some(name) if parent.is_empty() => name.to_owned(),
        Some(name) => format!("{parent}.{name}"),
        None if parent.is_empty() => "body".to_owned(),
        None => parent.to_owned(),
    };
    Problem::all_invalid(vec![FieldError { field: shortened(&field, 200), detail: shortened(text, 300) }])
}

fn with_nul(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| with_nul(item, format!("{path}[{index}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name.contains('\0') { Some(path.replace('\0', "")) } else { with_nul(item, path) }
        }),
        _ => None,
    }
}

/// What others wrote, without control characters, and not all of it.
fn shortened(text: &str, longest: usize) -> String {
    let mut clean: String =
        text.chars().filter(|character| !character.is_control()).take(longest + 1).collect();
    if clean.chars().count() > longest {
        clean.pop();
        clean.push('…');
    }
    clean
}

/// `application/json`, or anything that ends in `+json`, with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn unread(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::too_large("the body is larger than this request may be");
    }
    Problem::bad_request(format!("the body did not come whole: {}", rejection.body_text()))
}
