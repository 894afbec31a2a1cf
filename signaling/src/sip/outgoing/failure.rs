//! Why a call of ours was not answered, and whether another trunk may do better.

use std::time::Duration;

use super::Remote;
use crate::sip::message::{Message, NameAddr, decimal, one_line};

/// What kind of no it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The callee is busy (486, 600).
    Busy,
    /// It rang in vain: our own time limit, 480 or 487.
    NoAnswer,
    /// Somebody declined, or does not serve us (403, 603, other 4xx and 6xx).
    Refused,
    /// There is no such number (404, 410, 484, 485, 604).
    NotFound,
    /// The server failed (5xx).
    ServerFailure,
    /// There was no way to the server: its name, its address, its connection.
    Unreachable,
    /// The server, or one behind it (408), did not answer.
    TimedOut,
    /// We gave up.
    Cancelled,
    /// The server did not take who we say we are (401, 407).
    Challenged,
    /// The call is to be sent elsewhere (3xx); see [`Failure::contacts`].
    Redirected,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Busy,
        Self::NoAnswer,
        Self::Refused,
        Self::NotFound,
        Self::ServerFailure,
        Self::Unreachable,
        Self::TimedOut,
        Self::Cancelled,
        Self::Challenged,
        Self::Redirected,
    ];

    /// The class of a final status code other than 2xx.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirected,
            401 | 407 => Self::Challenged,
            408 => Self::TimedOut,
            404 | 410 | 484 | 485 | 604 => Self::NotFound,
            480 | 487 => Self::NoAnswer,
            486 | 600 => Self::Busy,
            500..600 => Self::ServerFailure,
            _ => Self::Refused,
        }
    }

    /// The name used in records, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::ServerFailure => "server_failure",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Challenged => "challenged",
            Self::Redirected => "redirected",
        }
    }

    /// Whether the fault is the carrier's rather than the callee's, so that another carrier may do better.
    #[must_use]
    pub const fn is_of_the_trunk(self) -> bool {
        matches!(self, Self::ServerFailure | Self::Unreachable | Self::TimedOut | Self::Challenged)
    }
}

/// Why a call of ours was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The final status code; what stands for it where none came: 408, 487, 500 or 503.
    pub status: u16,
    /// The reason phrase, one line.
    pub reason: String,
    /// What kind of no it was.
    pub class: FailureClass,
    /// Whether the status came from the other side.
    pub answered: bool,
    /// How long to leave the server alone.
    pub retry_after: Option<Duration>,
    /// Its Reason header (RFC 3326), one line, such as `Q.850;cause=16;text="Terminated"`.
    pub cause: Option<String>,
    /// Where else to call, best first, at most eight (3xx). They are not followed by themselves.
    pub contacts: Vec<String>,
    /// Who said so, or where the last try went.
    pub remote: Remote,
}

impl Failure {
    /// A failure that we found ourselves.
    pub(super) fn local(class: FailureClass, status: u16, reason: impl Into<String>) -> Self {
        let (retry_after, cause, contacts, remote) = (None, None, Vec::new(), None);
        Self { status, reason: reason.into(), class, answered: false, retry_after, cause, contacts, remote }
    }

    /// A final response other than 2xx.
    pub(in crate::sip) fn of_response(response: &Message, remote: Remote) -> Self {
        let status = response.status();
        let mut contacts: Vec<(u64, String)> = Vec::new();
        if status / 100 == 3 {
            for contact in response.list("Contact").take(MAX_CONTACTS).filter_map(NameAddr::parse) {
                let q = contact.params.iter().find(|(name, _)| name.eq_ignore_ascii_case("q"));
                let q = q.and_then(|(_, value)| value.as_deref()?.parse::<f64>().ok()).unwrap_or(1.0);
                contacts.push((((1.0 - q.clamp(0.0, 1.0)) * 1000.0) as u64, one_line(&contact.uri)));
            }
            contacts.sort_by_key(|(preference, _)| *preference);
        }
        Self {
            status,
            reason: one_line(response.reason()),
            class: FailureClass::of_status(status),
            answered: true,
            retry_after: retry_after(response),
            cause: response.header("Reason").map(one_line),
            contacts: contacts.into_iter().map(|(_, uri)| uri).collect(),
            remote,
        }
    }
}

/// `Retry-After: 18000;duration=3600` or with a comment (RFC 3261 20.33).
pub(in crate::sip) fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.header("Retry-After")?;
    let seconds = decimal(value.split([';', '(', ' ', '\t']).next()?)?;
    Some(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
}

const MAX_CONTACTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_what_a_route_decides_by() {
        let response = Message::response(503, "Too\tMuch")
            .with("Retry-After", "120 (maintenance);duration=30")
            .with("Reason", "Q.850;cause=34;text=\"No circuit\"");
        let failure = Failure::of_response(&response, None);
        assert_eq!((failure.status, failure.reason.as_str()), (503, "Too Much"));
        assert_eq!(failure.class, FailureClass::ServerFailure);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(120)));
        assert_eq!(failure.cause.as_deref(), Some("Q.850;cause=34;text=\"No circuit\""));
        assert!(failure.class.is_of_the_trunk() && failure.answered);
    }

    #[test]
    fn contacts_of_a_redirection_are_sorted_by_preference() {
        let response = Message::response(302, "")
            .with("Contact", "<sip:c@h>;q=0.1, <sip:a@h>, bad")
            .with("Contact", "<sip:b@h>;q=0.5");
        let failure = Failure::of_response(&response, None);
        assert_eq!(failure.contacts, ["sip:a@h", "sip:b@h", "sip:c@h"]);
        assert_eq!(failure.class, FailureClass::Redirected);
    }

    #[test]
    fn classes_follow_the_status() {
        use FailureClass as C;
        for (status, class) in [
            (301, C::Redirected),
            (401, C::Challenged),
            (403, C::Refused),
            (404, C::NotFound),
            (408, C::TimedOut),
            (480, C::NoAnswer),
            (486, C::Busy),
            (488, C::Refused),
            (500, C::ServerFailure),
            (600, C::Busy),
            (603, C::Refused),
            (604, C::NotFound),
        ] {
            assert_eq!(C::of_status(status), class, "{status}");
        }
        assert!(!C::Busy.is_of_the_trunk() && C::TimedOut.is_of_the_trunk());
    }
}
