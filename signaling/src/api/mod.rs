//! HTTP: health, metrics and the calls.

mod ai;
mod calls;
mod calls_resource;
mod device;
mod host;
mod routes;
mod server;
mod streams;
#[cfg(test)]
mod streams_tests;

#[cfg(test)]
mod calls_resource_tests;
#[cfg(test)]
mod tests;

pub use calls_resource::fuzz_twiml;
pub use routes::Api;
pub use server::{HttpError, HttpListener, HttpServer};
