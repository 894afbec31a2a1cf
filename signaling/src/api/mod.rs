//! HTTP: health, metrics and the calls.

mod host;
mod routes;
mod server;

pub use routes::Api;
pub use server::{HttpError, HttpServer};
