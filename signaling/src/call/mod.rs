//! One call: a SIP dialog, its stream and what became of it.

mod config;

pub use config::CallConfig;
