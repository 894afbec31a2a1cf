//! Why an AI backend could not be reached.

use std::io;

use super::super::counters::AiCounters;
use super::super::recovery::Class;
use crate::time::Duration;

/// Why an AI backend could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot work.
    #[error("the AI backend's configuration is not usable: {0}")]
    Config(String),
    /// The transport failed: name resolution, refused, reset.
    #[error("cannot reach the AI backend at {url}: {error}; is it running, and does the address fit?")]
    Unreachable {
        /// Where, without the query string.
        url: String,
        /// The operating system's error.
        error: io::Error,
    },
    /// No answer in time.
    #[error("the AI backend at {url} did not answer within {} ms", .waited.as_millis())]
    Timeout {
        /// Where, without the query string.
        url: String,
        /// How long altogether.
        waited: Duration,
    },
    /// TLS failed.
    #[error(
        "TLS with the AI backend at {url} failed: {error}; check its certificate, or trust its authority"
    )]
    Tls {
        /// Where, without the query string.
        url: String,
        /// TLS's reason.
        error: io::Error,
    },
    /// The upgrade was answered by a redirect.
    #[error(
        "the AI backend at {url} redirects to {location} ({status}); redirects are not followed, configure that URL"
    )]
    Redirected {
        /// Where, without the query string.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The upgrade was refused.
    #[error("the AI backend at {url} refused the stream with HTTP status {status}")]
    Refused {
        /// Where, without the query string.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The seconds of its Retry-After.
        retry_after: Option<Duration>,
    },
    /// The upgrade's answer is malformed.
    #[error("the answer of {url} is not a WebSocket upgrade: {reason}")]
    Handshake {
        /// Where, without the query string.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The backend closed the connection before the session was set up.
    #[error("the AI backend at {url} closed the stream with code {code} before it was ready: {reason}")]
    Closed {
        /// Where, without the query string.
        url: String,
        /// The close code (RFC 6455 section 7.4); 1005 if there was none, 1006 without a close frame.
        code: u16,
        /// The backend's reason, untrusted.
        reason: String,
    },
    /// The backend answered the session's set-up with an error.
    #[error(
        "the AI backend at {url} refused the session: {code}: {text}; check its settings and credentials"
    )]
    Rejected {
        /// Where, without the query string.
        url: String,
        /// The backend's word for it, cleaned.
        code: String,
        /// Its explanation, cleaned.
        text: String,
    },
    /// The AI threads have ended.
    #[error("the AI stream threads have ended")]
    Shutdown,
}

impl ConnectError {
    /// Whether another attempt may succeed soon.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Closed { code, .. } => Class::of_code(*code) == Class::Transient,
            _ => false,
        }
    }

    pub(super) fn count(&self, counters: &AiCounters) {
        match self {
            Self::Unreachable { .. } => counters.connect_refused.increment(),
            Self::Timeout { .. } => counters.connect_timeout.increment(),
            Self::Tls { .. } => counters.connect_tls.increment(),
            Self::Redirected { .. } => counters.connect_redirected.increment(),
            Self::Refused { .. } => counters.connect_http_status.increment(),
            Self::Handshake { .. } => counters.connect_handshake.increment(),
            Self::Config(_) | Self::Closed { .. } | Self::Rejected { .. } | Self::Shutdown => {}
        }
    }
}
