//! HTTP: health, metrics, the calls, and the API below `/api`.
//!
//! A resource below `/api` is a file with `pub(super) fn routes() -> OpenApiRouter<Arc<Api>>`, merged in `routes`:
//!
//! ```text
//! #[utoipa::path(post, path = "/api/things", tag = "things", request_body = NewThing,
//!     responses((status = 201, body = Thing)))]
//! async fn create(State(api): State<Arc<Api>>, caller: Caller, Json(new): Json<NewThing>)
//!     -> Result<(StatusCode, Json<Thing>), Problem> {
//!     caller.require(Role::TenantAdmin)?;
//! ```
//!
//! Extractors are those of [`extract`] and [`page`], so that whatever goes wrong is a [`problem::Problem`]; the door
//! checks the token, the time limit and trailing slashes; `document` adds what all have in common.

mod audit;
mod batches;
mod caller;
mod calls;
mod calls_resource;
mod control;
mod device;
mod document;
mod door;
mod events;
#[cfg(test)]
mod events_tests;
mod extract;
mod host;
mod idempotency;
mod keys;
mod live_calls;
mod me;
mod not_yet;
mod numbers;
mod outbound_routes;
mod page;
mod problem;
mod records;
mod routes;
mod server;
mod streams;
#[cfg(test)]
mod streams_tests;
mod tenants;
mod trunks;
#[cfg(test)]
mod trunks_tests;
mod webhooks;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod calls_resource_tests;
#[cfg(test)]
mod tests;

pub use calls_resource::fuzz_twiml;
pub use control::Control;
pub use idempotency::forget_old;
pub use routes::Api;
pub use server::{HttpError, HttpListener, HttpServer};
