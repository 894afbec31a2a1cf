//! Errors of the API as problem details (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Role;
use crate::store::StoreError;

/// What went wrong, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The kind of problem, the same for every occurrence: `urn:sidetone:invalid`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What it was this time, and what to do.
    detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
    /// Seconds, for the header.
    #[serde(skip)]
    retry_after: Option<u32>,
    #[serde(skip)]
    challenge: Option<&'static str>,
}

/// One field that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where: `name`, `tools[1].url`, or the name of a parameter.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $kind:literal, $title:literal;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub(crate) fn $name(detail: impl Into<String>) -> Self {
                Self::new(StatusCode::$status, concat!("urn:sidetone:", $kind), $title, detail.into())
            }
        )*
    };
}

impl Problem {
    problems! {
        /// What came is no request that anybody could understand: broken JSON.
        bad_request = BAD_REQUEST, "malformed", "The request cannot be read";
        /// There is no such thing, or it belongs to somebody else.
        not_found = NOT_FOUND, "not-found", "There is no such thing";
        /// What is asked for does not go together with what is there.
        conflict = CONFLICT, "conflict", "It does not go with what is there";
        /// Who asks may not.
        forbidden = FORBIDDEN, "forbidden", "Not allowed";
        /// It cannot be done now, but perhaps later.
        unavailable = SERVICE_UNAVAILABLE, "unavailable", "Not possible now";
        /// Another server, which this needs, does not play along.
        bad_gateway = BAD_GATEWAY, "upstream", "Another server failed";
        /// Nobody has built it yet.
        not_implemented = NOT_IMPLEMENTED, "not-implemented", "Not built yet";
        /// The path does not take the method.
        method_not_allowed = METHOD_NOT_ALLOWED, "method", "The path does not take this method";
        /// More than a request may carry.
        too_large = PAYLOAD_TOO_LARGE, "too-large", "The request is too large";
        /// Not JSON.
        unsupported = UNSUPPORTED_MEDIA_TYPE, "media-type", "The content type is not taken";
        /// Addressed to another host.
        misdirected = MISDIRECTED_REQUEST, "misdirected", "The request is for another host";
        unprocessable = UNPROCESSABLE_ENTITY, "invalid", "Something in the request cannot be taken";
    }

    const fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: String) -> Self {
        let status = status.as_u16();
        Self { kind, title, status, detail, errors: Vec::new(), retry_after: None, challenge: None }
    }

    /// One field or parameter cannot be taken; `detail` says what could be.
    #[must_use]
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::all_invalid(vec![FieldError { field: field.into(), detail: detail.into() }])
    }

    /// Some fields cannot be taken.
    #[must_use]
    pub(crate) fn all_invalid(errors: Vec<FieldError>) -> Self {
        let fields = errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>().join(", ");
        Self { errors, ..Self::unprocessable(format!("see errors: {fields}")) }
    }

    /// The thing of that kind and name is not there.
    #[must_use]
    pub(crate) fn no_such(what: &str, name: impl std::fmt::Display) -> Self {
        Self::not_found(format!("there is no {what} {name} here"))
    }

    /// No token, or none that is good.
    #[must_use]
    pub(crate) fn unauthorized(detail: impl Into<String>, token_sent: bool) -> Self {
        // RFC 6750 section 3.1: no error code where no token came.
        let challenge = if token_sent {
            r#"Bearer realm="sidetone", error="invalid_token""#
        } else {
            r#"Bearer realm="sidetone""#
        };
        let problem = Self::new(
            StatusCode::UNAUTHORIZED,
            "urn:sidetone:unauthorized",
            "A token is needed",
            detail.into(),
        );
        Self { challenge: Some(challenge), ..problem }
    }

    /// A lesser role than is needed.
    #[must_use]
    pub(crate) fn needs(role: Role) -> Self {
        Self::forbidden(format!("this needs the role {} or a greater one", role.name()))
    }

    /// Too often.
    #[must_use]
    pub(crate) fn too_many(detail: impl Into<String>, retry_after_s: u32) -> Self {
        let problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "urn:sidetone:too-many",
            "Too many requests",
            detail.into(),
        );
        Self { retry_after: Some(retry_after_s), ..problem }
    }

    /// Our own fault. The cause goes to the log, not to the client.
    #[must_use]
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request of the API failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "urn:sidetone:internal",
            "It failed here",
            "the log of this process says why".to_owned(),
        )
    }

    /// The HTTP status.
    #[must_use]
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_conflict() {
            return Self::conflict(error.to_string());
        }
        if error.is_temporary() {
            tracing::warn!(%error, "a request of the API could not be carried out");
            return Self {
                retry_after: Some(1),
                ..Self::unavailable("the store does not answer now; try again")
            };
        }
        Self::internal(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

pub(super) const PROBLEM_JSON: &str = "application/problem+json";
