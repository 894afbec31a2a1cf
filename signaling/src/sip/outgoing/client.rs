//! The INVITE client transaction (RFC 3261 17.1.1, with the Accepted state of RFC 6026 7.2): no socket, no clock.
//!
//! It is our own, unlike the other transactions, because all that is special about outgoing calls happens in it: answers
//! of several forks, repeated answers, and answers that cross a CANCEL.

use std::time::{Duration, Instant};

/// The states of RFC 3261 figure 5 and RFC 6026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Calling,
    Proceeding,
    /// A final response other than 2xx was acknowledged; it may come again.
    Completed,
    /// A 2xx came; it may come again, and those of other forks, too.
    Accepted,
    Terminated,
}

/// What a response asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The caller has to know it.
    Deliver,
    /// The caller has to know it, and it has to be acknowledged in the transaction (not a 2xx).
    DeliverAndAck,
    /// It came again: only the ACK goes out once more.
    Ack,
    Ignore,
}

/// What a timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send the INVITE again.
    Retransmit,
    /// Nobody answered within 64 * T1.
    TimedOut,
}

#[derive(Clone, Debug)]
pub(super) struct InviteClient {
    state: State,
    reliable: bool,
    t1: Duration,
    /// Timer A: interval, and when it fires.
    retransmit: Option<(Duration, Instant)>,
    /// Timer B, D or M.
    end: Option<Instant>,
}

impl InviteClient {
    /// The INVITE is sent at `now`.
    pub(super) fn new(now: Instant, t1: Duration, reliable: bool) -> Self {
        let retransmit = (!reliable).then_some((t1, now + t1));
        Self { state: State::Calling, reliable, t1, retransmit, end: Some(now + t1 * 64) }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn handle_response(&mut self, now: Instant, status: u16) -> Received {
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..200) => {
                self.state = State::Proceeding;
                (self.retransmit, self.end) = (None, None);
                Received::Deliver
            }
            (State::Calling | State::Proceeding | State::Accepted, 200..300) => {
                if self.state != State::Accepted {
                    self.state = State::Accepted;
                    // Timer M.
                    (self.retransmit, self.end) = (None, Some(now + self.t1 * 64));
                }
                Received::Deliver
            }
            (State::Calling | State::Proceeding, 300..700) => {
                self.state = State::Completed;
                // Timer D: at least 32 s where messages get lost.
                let keep = if self.reliable { Duration::ZERO } else { self.t1 * 64 };
                (self.retransmit, self.end) = (None, Some(now + keep));
                Received::DeliverAndAck
            }
            (State::Completed, 300..700) => Received::Ack,
            _ => Received::Ignore,
        }
    }

    /// Nobody waits for an answer any more; what still comes is looked at for 64 * T1.
    pub(super) fn give_up(&mut self, now: Instant) {
        if matches!(self.state, State::Calling | State::Proceeding) {
            (self.retransmit, self.end) = (None, Some(now + self.t1 * 64));
        }
    }

    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let retransmit = self.retransmit.map(|(_, at)| at);
        [retransmit, self.end].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if self.end.is_some_and(|end| now >= end) {
            let timed_out = matches!(self.state, State::Calling | State::Proceeding);
            self.state = State::Terminated;
            (self.retransmit, self.end) = (None, None);
            return timed_out.then_some(Due::TimedOut);
        }
        let (interval, at) = self.retransmit?;
        if now < at {
            return None;
        }
        // Doubles without the cap of T2 (RFC 3261 17.1.1.2).
        self.retransmit = Some((interval * 2, now + interval * 2));
        Some(Due::Retransmit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Duration = Duration::from_millis(500);

    fn in_state(state: State, now: Instant) -> InviteClient {
        let mut client = InviteClient::new(now, T1, false);
        let status = match state {
            State::Calling => return client,
            State::Proceeding => 180,
            State::Completed => 486,
            State::Accepted => 200,
            State::Terminated => 0,
        };
        if state == State::Terminated {
            assert_eq!(client.handle_timeout(now + T1 * 64), Some(Due::TimedOut));
        } else {
            let _ = client.handle_response(now, status);
        }
        assert_eq!(client.state(), state);
        client
    }

    #[test]
    fn every_state_and_response() {
        use Received::{Ack, Deliver, DeliverAndAck, Ignore};
        use State::{Accepted, Calling, Completed, Proceeding, Terminated};
        let now = Instant::now();
        for (state, answers) in [
            (Calling, [(Deliver, Proceeding), (Deliver, Accepted), (DeliverAndAck, Completed)]),
            (Proceeding, [(Deliver, Proceeding), (Deliver, Accepted), (DeliverAndAck, Completed)]),
            (Completed, [(Ignore, Completed), (Ignore, Completed), (Ack, Completed)]),
            (Accepted, [(Ignore, Accepted), (Deliver, Accepted), (Ignore, Accepted)]),
            (Terminated, [(Ignore, Terminated), (Ignore, Terminated), (Ignore, Terminated)]),
        ] {
            for (status, (received, after)) in [183, 202, 603].into_iter().zip(answers) {
                let mut client = in_state(state, now);
                assert_eq!(client.handle_response(now, status), received, "{state:?} {status}");
                assert_eq!(client.state(), after, "{state:?} {status}");
            }
        }
    }

    #[test]
    fn it_repeats_with_doubling_pauses_until_64_t1() {
        let start = Instant::now();
        let mut client = InviteClient::new(start, T1, false);
        let mut sent = Vec::new();
        let end = loop {
            let at = client.poll_timeout().unwrap();
            match client.handle_timeout(at) {
                Some(Due::Retransmit) => sent.push((at - start).as_millis()),
                Some(Due::TimedOut) => break at - start,
                None => {}
            }
        };
        assert_eq!(sent, [500, 1500, 3500, 7500, 15_500, 31_500]);
        assert_eq!((end, client.state()), (T1 * 64, State::Terminated));
        assert_eq!(client.poll_timeout(), None);
    }

    #[test]
    fn a_provisional_response_ends_the_repetition_and_the_time_limit() {
        let start = Instant::now();
        let mut client = in_state(State::Proceeding, start);
        assert_eq!(client.poll_timeout(), None);
        client.give_up(start + T1);
        assert_eq!(client.handle_timeout(start + T1 * 65), Some(Due::TimedOut));
    }

    #[test]
    fn a_stream_needs_no_repetition() {
        let start = Instant::now();
        let mut client = InviteClient::new(start, T1, true);
        assert_eq!(client.poll_timeout(), Some(start + T1 * 64));
        assert_eq!(client.handle_response(start, 503), Received::DeliverAndAck);
        assert_eq!((client.handle_timeout(start), client.state()), (None, State::Terminated));
    }

    #[test]
    fn answers_are_taken_for_as_long_as_they_may_come() {
        let start = Instant::now();
        for state in [State::Accepted, State::Completed] {
            let mut client = in_state(state, start);
            assert_eq!(client.handle_timeout(start + T1 * 63), None);
            assert_eq!(client.state(), state);
            assert_eq!(client.handle_timeout(start + T1 * 64), None);
            assert_eq!(client.state(), State::Terminated);
        }
    }
}
