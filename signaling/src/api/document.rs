//! The document of the API (OpenAPI 3.1), made from the code, and the page that shows it.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa::PartialSchema as _;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
};
use utoipa_swagger_ui::Config;

use super::problem::{FieldError, PROBLEM_JSON, Problem};

/// Adds what all operations have in common: the token, the tenant's header, and what can go wrong.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    document.info = InfoBuilder::new()
        .title("sidetone")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()))
        .build();
    document.servers = None;
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("API key (st_...) or JWT")
        .description(Some(
            "An API key or a JWT. The first start writes one to `admin-token` in the data folder.",
        ))
        .build();
    let mut components = ComponentsBuilder::from(document.components.take().unwrap_or_default())
        .security_scheme("token", SecurityScheme::Http(bearer))
        .schema("Problem", Problem::schema())
        .schema("FieldError", FieldError::schema());
    for failure in FAILURES {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let mut response = ResponseBuilder::new().description(failure.means).content(PROBLEM_JSON, content);
        for name in failure.headers {
            response = response.header(*name, Header::default());
        }
        components = components.response(failure.name, response.build());
    }
    document.components = Some(components.build());
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        let in_path = path.contains('{');
        for (method, operation) in operations(item) {
            complete_operation(operation, method, in_path);
        }
    }
    document
}

fn complete_operation(operation: &mut Operation, method: Method, in_path: bool) {
    let parameters = operation.parameters.get_or_insert_default();
    let tenant = ("X-Tenant", "^[A-Za-z0-9_.-]{1,64}$");
    parameters.push(header_parameter(tenant, "For admins: the tenant that this is about."));
    if matches!(method, Method::Post | Method::Patch) {
        parameters.push(header_parameter(
            ("Idempotency-Key", "^[!#-~]{1,255}$"),
            "Makes it safe to send a request again: the same key and body get the answer of the first one for 24 hours.",
        ));
    }
    let with_body = operation.request_body.is_some();
    for failure in FAILURES {
        let possible = match failure.of {
            Of::All => true,
            Of::Body => with_body,
            Of::Path => in_path,
            Of::Write => method != Method::Get,
        };
        let responses = &mut operation.responses.responses;
        if possible && !responses.contains_key(failure.status) {
            let reference = Ref::from_response_name(failure.name);
            responses.insert(failure.status.to_owned(), RefOr::Ref(reference));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::Get, &mut item.get),
        (Method::Post, &mut item.post),
        (Method::Put, &mut item.put),
        (Method::Patch, &mut item.patch),
        (Method::Delete, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn header_parameter((name, pattern): (&str, &str), description: &str) -> RefOr<Parameter> {
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some(pattern));
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(utoipa::openapi::Required::False)
        .description(Some(description))
        .schema(Some(text.build()));
    RefOr::T(parameter.build())
}

/// Something that can go wrong with many operations.
struct Failure {
    status: &'static str,
    name: &'static str,
    means: &'static str,
    headers: &'static [&'static str],
    of: Of,
}

enum Of {
    All,
    Body,
    Path,
    Write,
}

const fn failure(status: &'static str, name: &'static str, of: Of, means: &'static str) -> Failure {
    Failure { status, name, means, headers: &[], of }
}

const FAILURES: &[Failure] = &[
    failure("400", "Malformed", Of::All, "The request cannot be read."),
    Failure {
        headers: &["WWW-Authenticate"],
        ..failure("401", "Unauthorized", Of::All, "No token, or a bad one.")
    },
    failure("403", "Forbidden", Of::All, "The token's role is not enough."),
    failure("404", "NotFound", Of::Path, "There is no such thing, or it belongs to another tenant."),
    failure("409", "Conflict", Of::Write, "It does not go with what is there."),
    failure("413", "TooLarge", Of::Body, "The body is too large."),
    failure("415", "MediaType", Of::Body, "The body is not JSON."),
    failure("422", "Invalid", Of::All, "A field or parameter cannot be taken; `errors` names it."),
    Failure { headers: &["Retry-After"], ..failure("429", "TooMany", Of::All, "Too many requests.") },
    failure("503", "Unavailable", Of::All, "Not possible now."),
];

/// `/openapi.json` and `/docs`, for everybody: they say what there is, not what is in it.
pub(super) fn pages<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let json = Bytes::from(document.to_json().unwrap_or_default());
    let config = Arc::new(
        Config::from("/openapi.json")
            .display_request_duration(true)
            .persist_authorization(false)
            .try_it_out_enabled(true)
            .validator_url("none"),
    );
    let assets = Arc::clone(&config);
    Router::new()
        .route("/openapi.json", get(move || async { ([(header::CONTENT_TYPE, "application/json")], json) }))
        .route("/docs", get(move || async move { page("", &config) }))
        .route("/docs/", get(|| async { Redirect::permanent("/docs") }))
        .route("/docs/{file}", get(move |Path(file): Path<String>| async move { page(&file, &assets) }))
}

/// A file of the page.
fn page(name: &str, config: &Arc<Config<'static>>) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::clone(config)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let bytes = if name.is_empty() {
        // Its files are beside it, though its own path has no slash at the end.
        String::from_utf8_lossy(&file.bytes)
            .replacen("<head>", "<head><base href=\"/docs/\">", 1)
            .into_bytes()
    } else {
        file.bytes.into_owned()
    };
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(&file.content_type);
    headers.insert(
        header::CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// Nothing from anywhere else. The page sets styles on its elements, and has its icons as `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

const ABOUT: &str = "Trunks, numbers, routes, calls, messages and records of a sidetone. \
    Every request needs `Authorization: Bearer TOKEN`; errors are problem details (RFC 9457) that name the field; \
    lists come by pages, `next` of one being the `cursor` of the following.";
