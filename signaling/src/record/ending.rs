//! Why a leg ended, in the words and numbers of a record.

use engine::ai::LineEnd;

use crate::call::{CallEnd, HangUp};
use crate::model::{HangUpSide, RecordState};
use crate::sip::EndCause;

/// Why a leg ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How far it came.
    pub state: RecordState,
    /// In words.
    pub cause: String,
    /// The SIP status, or 200 after an answered call.
    pub status: Option<u16>,
    /// The Q.850 cause.
    pub q850: Option<u16>,
    /// Who ended it.
    pub side: HangUpSide,
}

impl Ending {
    /// A leg that was not answered but refused, by `side`, with this SIP status.
    #[must_use]
    pub fn refused(status: u16, reason: &str, side: HangUpSide) -> Self {
        let state = match status {
            486 | 600 => RecordState::Busy,
            408 | 480 => RecordState::NoAnswer,
            487 => RecordState::Cancelled,
            _ => RecordState::Failed,
        };
        let cause = if reason.is_empty() { format!("refused with {status}") } else { reason.to_owned() };
        Self { state, cause, status: Some(status), q850: Some(q850(status)), side }
    }

    /// The caller gave up before the answer.
    #[must_use]
    pub fn cancelled() -> Self {
        Self {
            state: RecordState::Cancelled,
            cause: "the caller gave up".to_owned(),
            status: Some(487),
            q850: Some(16),
            side: HangUpSide::Caller,
        }
    }

    /// An answered call that the peer or one of ours ended. `peer` is who the other side is.
    pub(crate) fn of(end: &CallEnd, peer: HangUpSide) -> Self {
        use HangUpSide::System;
        let (state, q850, side) = match end {
            CallEnd::Session(EndCause::RemoteBye { reason }) => {
                let told = reason.as_deref().and_then(told_q850);
                (RecordState::Completed, told.unwrap_or(NORMAL), peer)
            }
            CallEnd::Line(LineEnd::CallerHungUp) => (RecordState::Completed, NORMAL, peer),
            CallEnd::Line(LineEnd::Lost(_) | LineEnd::Protocol(_) | LineEnd::Stalled) => {
                (RecordState::Completed, OUT_OF_ORDER, peer)
            }
            CallEnd::Line(LineEnd::Silent) => (RecordState::Completed, TIMER_EXPIRED, System),
            CallEnd::Line(LineEnd::Shutdown) => (RecordState::Completed, TEMPORARY, System),
            CallEnd::Session(EndCause::LocalBye)
            | CallEnd::Line(LineEnd::HungUp)
            | CallEnd::AppFinished
            | CallEnd::BackendHungUp
            | CallEnd::Transferred
            | CallEnd::HungUp(HangUp::Operator) => (RecordState::Completed, NORMAL, System),
            CallEnd::Session(EndCause::AckTimeout | EndCause::SessionExpired) => {
                (RecordState::Completed, TIMER_EXPIRED, System)
            }
            CallEnd::Session(EndCause::PeerLost { .. }) => (RecordState::Completed, TIMER_EXPIRED, peer),
            CallEnd::Session(EndCause::TransportFailed) => (RecordState::Completed, OUT_OF_ORDER, peer),
            CallEnd::MediaTimeout => (RecordState::Completed, TIMER_EXPIRED, System),
            CallEnd::BackendFailed | CallEnd::MediaLost => (RecordState::Completed, TEMPORARY, System),
            CallEnd::OfferFailed => (RecordState::Failed, NO_MEDIA, System),
            CallEnd::Session(EndCause::Shutdown) | CallEnd::HungUp(HangUp::Drain) => {
                (RecordState::Completed, TEMPORARY, System)
            }
        };
        let status = if *end == CallEnd::OfferFailed { 488 } else { 200 };
        Self { state, cause: end.name().to_owned(), status: Some(status), q850: Some(q850), side }
    }
}

/// The Q.850 cause in a Reason header (RFC 3326), if it has one.
fn told_q850(reason: &str) -> Option<u16> {
    let lower = reason.to_ascii_lowercase();
    let of_q850 = lower.split(',').find(|value| value.trim_start().starts_with("q.850"))?;
    let parameters = of_q850.split(';').skip(1);
    let cause = parameters.filter_map(|parameter| parameter.trim().strip_prefix("cause")).next()?;
    let digits: String =
        cause.trim_start().strip_prefix('=')?.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|cause| *cause < 128)
}

/// The cause that RFC 3398 section 8.2.6.1 gives a SIP status; 31 where it names none.
#[must_use]
const fn q850(status: u16) -> u16 {
    match status {
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 485 | 604 => 1,
        405 => 63,
        406 | 415 | 501 => 79,
        408 | 504 => 102,
        410 => 22,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        480 => 18,
        481 | 500 | 503 => 41,
        482 | 483 => 25,
        484 => 28,
        486 | 600 => 17,
        487 => NORMAL,
        488 | 606 => NO_MEDIA,
        502 => 38,
        _ => 31,
    }
}

const NORMAL: u16 = 16;
const OUT_OF_ORDER: u16 = 27;
const TEMPORARY: u16 = 41;
const NO_MEDIA: u16 = 65;
const TIMER_EXPIRED: u16 = 102;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_reason_header_is_kept() {
        for (header, cause) in [
            ("Q.850;cause=17;text=\"User busy\"", Some(17)),
            ("SIP ;cause=200 ;text=\"x\", Q.850 ; text=\"a\" ; cause = 34", Some(34)),
            ("q.850;CAUSE=16", Some(16)),
            ("SIP;cause=600", None),
            ("Q.850", None),
            ("Q.850;cause=", None),
            ("Q.850;cause=99999999999", None),
            ("Q.850;cause=700", None),
        ] {
            assert_eq!(told_q850(header), cause, "{header}");
        }
    }

    #[test]
    fn every_end_has_a_state_a_cause_and_a_side() {
        let bye = CallEnd::Session(EndCause::RemoteBye { reason: Some("Q.850;cause=31".into()) });
        let ending = Ending::of(&bye, HangUpSide::Caller);
        assert_eq!(
            (ending.state, ending.q850, ending.side),
            (RecordState::Completed, Some(31), HangUpSide::Caller)
        );
        assert_eq!((ending.status, ending.cause.as_str()), (Some(200), "caller hung up"));
        let ending = Ending::of(&CallEnd::HungUp(HangUp::Drain), HangUpSide::Caller);
        assert_eq!((ending.q850, ending.side), (Some(41), HangUpSide::System));
        for (status, state, q850) in [
            (486, RecordState::Busy, 17),
            (404, RecordState::Failed, 1),
            (480, RecordState::NoAnswer, 18),
            (503, RecordState::Failed, 41),
            (487, RecordState::Cancelled, 16),
        ] {
            let ending = Ending::refused(status, "", HangUpSide::System);
            assert_eq!((ending.state, ending.q850), (state, Some(q850)), "{status}");
        }
    }
}
