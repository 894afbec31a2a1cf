//! The control plane: SIP, SDP, calls and what they do, configuration and operations. It refuses to know
//! what is in an RTP packet; media is made through the [`engine`]'s commands and events.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

pub mod access;
pub mod api;
pub mod apps;
pub mod asterisk;
pub mod call;
pub mod config;
pub mod event;
pub mod exchange;
pub mod media;
pub mod model;
pub mod ng;
pub mod record;
pub mod route;
pub mod routing;
pub mod sdp;
pub mod sip;
pub mod store;
pub mod telemetry;
pub mod trunk;
