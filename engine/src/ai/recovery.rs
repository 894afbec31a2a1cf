//! Whether a lost connection is worth another attempt, and when.

use super::config::Reconnect;
use super::connect::ConnectError;
use super::session::AiFailure;
use crate::time::Duration;

/// What the end of a connection, or of an attempt, means for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The backend hung up.
    HangUp,
    /// The same backend may be tried again.
    Transient,
    /// The same backend would do the same again; another may not.
    Refused,
}

impl Class {
    /// By close code (RFC 6455 section 7.4.1 and the IANA registry). Without a code it is a hang-up: that is
    /// how a browser's or Node's `close()` looks.
    pub(super) fn of_code(code: u16) -> Self {
        match code {
            1000 | 1005 => Self::HangUp,
            // Protocol error, data not taken, policy, size, extension; and what applications define.
            1002 | 1003 | 1007..=1010 | 3000..=4999 => Self::Refused,
            _ => Self::Transient,
        }
    }

    pub(super) fn of_failure(failure: &AiFailure) -> Self {
        match failure {
            AiFailure::Lost(_)
            | AiFailure::PingTimeout
            | AiFailure::WriteStalled
            | AiFailure::Rejected { .. } => Self::Transient,
            AiFailure::Protocol(_)
            | AiFailure::MessageTooLarge(_)
            | AiFailure::GivenUp { .. }
            | AiFailure::Internal => Self::Refused,
        }
    }

    /// Of an attempt to connect again.
    pub(super) fn of_error(error: &ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { .. } | ConnectError::Timeout { .. } | ConnectError::Tls { .. } => {
                Self::Transient
            }
            ConnectError::Refused { status: 408 | 425 | 429 | 500..=599, .. } => Self::Transient,
            ConnectError::Closed { code, .. } if Self::of_code(*code) == Self::Transient => Self::Transient,
            _ => Self::Refused,
        }
    }
}

/// The pause before an attempt, counted from 0: doubled each time, with `chance` in it, so that the calls of a
/// backend that restarts do not come back all at once; never shorter than the backend asked for.
pub(super) fn pause(
    policy: &Reconnect,
    attempt: u32,
    chance: u32,
    retry_after: Option<Duration>,
) -> Duration {
    let full = policy.backoff.saturating_mul(1 << attempt.min(16)).min(policy.longest_backoff);
    let half = full / 2;
    let part = half.mul_f64(f64::from(chance) / f64::from(u32::MAX));
    (half + part).max(retry_after.unwrap_or_default())
}

/// The seconds of a Retry-After, if the backend gave them.
pub(super) fn retry_after(error: &ConnectError) -> Option<Duration> {
    match error {
        ConnectError::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_have_their_classes() {
        for (code, class) in [
            (1000, Class::HangUp),
            (1001, Class::Transient),
            (1005, Class::HangUp),
            (1006, Class::Transient),
            (1008, Class::Refused),
            (1009, Class::Refused),
            (1011, Class::Transient),
            (1012, Class::Transient),
            (1013, Class::Transient),
            (4000, Class::Refused),
            (4999, Class::Refused),
        ] {
            assert_eq!(Class::of_code(code), class, "{code}");
        }
    }

    #[test]
    fn statuses_have_their_classes() {
        for (status, class) in [
            (401, Class::Refused),
            (403, Class::Refused),
            (404, Class::Refused),
            (429, Class::Transient),
            (500, Class::Transient),
            (503, Class::Transient),
        ] {
            let error = ConnectError::Refused { url: String::new(), status, retry_after: None };
            assert_eq!(Class::of_error(&error), class, "{status}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = Reconnect {
            backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(1),
            ..Reconnect::default()
        };
        let longest: Vec<_> =
            (0..5).map(|attempt| pause(&policy, attempt, u32::MAX, None).as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1000, 1000]);
        let shortest: Vec<_> = (0..5).map(|attempt| pause(&policy, attempt, 0, None).as_millis()).collect();
        assert_eq!(shortest, [100, 200, 400, 500, 500]);
        assert_eq!(pause(&policy, 90, 0, Some(Duration::from_secs(7))), Duration::from_secs(7));
    }
}
