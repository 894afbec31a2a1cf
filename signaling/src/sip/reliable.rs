//! Reliable provisional responses (RFC 3262), one at a time.

use std::time::{Duration, Instant};

use super::message::{Message, decimal};

/// The sending side: repeats a provisional response until its PRACK comes.
#[derive(Debug)]
pub(super) struct ReliableProvisional {
    t1: Duration,
    rseq: u32,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    response: Message,
    cseq: u32,
    interval: Duration,
    next: Instant,
    give_up: Instant,
}

/// What a timeout asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Provisional {
    /// Send this again.
    Repeat(Message),
    /// No PRACK within 64*T1: refuse the INVITE with a 5xx (RFC 3262 3).
    GiveUp,
}

impl ReliableProvisional {
    /// `first_rseq` is between 1 and 2^31 - 1, best chosen at random (RFC 3262 3).
    pub(super) fn new(t1: Duration, first_rseq: u32) -> Self {
        Self { t1, rseq: (first_rseq & 0x7fff_ffff).max(1) - 1, pending: None }
    }

    /// Makes a provisional response reliable. `None` while an earlier one is not acknowledged.
    pub(super) fn send(&mut self, now: Instant, cseq: u32, response: Message) -> Option<Message> {
        if self.pending.is_some() {
            return None;
        }
        self.rseq += 1;
        let response = response.with("Require", "100rel").with("RSeq", self.rseq.to_string());
        let pending = Pending {
            response: response.clone(),
            cseq,
            interval: self.t1,
            next: now + self.t1,
            give_up: now + self.t1 * 64,
        };
        self.pending = Some(pending);
        Some(response)
    }

    /// Whether this RAck acknowledges what is pending, which then no longer is.
    pub(super) fn handle_prack(&mut self, rack: &str) -> bool {
        let mut parts = rack.split_ascii_whitespace();
        let (rseq, cseq) = (parts.next().and_then(decimal), parts.next().and_then(decimal));
        let invite = parts.next().is_some_and(|method| method == "INVITE") && parts.next().is_none();
        let matches = self.pending.as_ref().is_some_and(|pending| {
            invite && rseq == Some(u64::from(self.rseq)) && cseq == Some(u64::from(pending.cseq))
        });
        if matches {
            self.pending = None;
        }
        matches
    }

    /// The INVITE got its final answer: nothing is repeated any more.
    pub(super) fn stop(&mut self) {
        self.pending = None;
    }

    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.next.min(pending.give_up))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Provisional> {
        let pending = self.pending.as_mut()?;
        if now >= pending.give_up {
            self.pending = None;
            return Some(Provisional::GiveUp);
        }
        if now < pending.next {
            return None;
        }
        // Doubles without the cap of T2 (RFC 3262 3).
        pending.interval *= 2;
        pending.next = now + pending.interval;
        Some(Provisional::Repeat(pending.response.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Duration = Duration::from_millis(500);

    #[test]
    fn it_is_repeated_with_doubling_intervals_and_given_up_after_64_t1() {
        let start = Instant::now();
        let mut reliable = ReliableProvisional::new(T1, 10);
        let sent = reliable.send(start, 1, Message::response(183, "")).unwrap();
        assert_eq!((sent.header("RSeq"), sent.header("Require")), (Some("10"), Some("100rel")));
        let mut repeats = Vec::new();
        loop {
            let at = reliable.poll_timeout().unwrap();
            match reliable.handle_timeout(at).unwrap() {
                Provisional::Repeat(response) => {
                    assert_eq!(response, sent);
                    repeats.push((at - start).as_millis());
                }
                Provisional::GiveUp => {
                    assert_eq!(at - start, T1 * 64);
                    break;
                }
            }
        }
        assert_eq!(repeats, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(reliable.poll_timeout(), None);
    }

    #[test]
    fn only_the_right_rack_acknowledges() {
        let start = Instant::now();
        let mut reliable = ReliableProvisional::new(T1, 1);
        let _ = reliable.send(start, 314, Message::response(180, ""));
        assert!(reliable.send(start, 314, Message::response(183, "")).is_none(), "one at a time");
        for wrong in [
            "",
            "1",
            "1 314",
            "2 314 INVITE",
            "1 315 INVITE",
            "1 314 UPDATE",
            "-1 314 INVITE",
            "1 314 INVITE x",
        ] {
            assert!(!reliable.handle_prack(wrong), "{wrong}");
        }
        assert!(reliable.handle_prack("1 314 INVITE"));
        assert!(!reliable.handle_prack("1 314 INVITE"), "twice");
        let next = reliable.send(start, 314, Message::response(183, "")).unwrap();
        assert_eq!(next.header("RSeq"), Some("2"));
        reliable.stop();
        assert_eq!(reliable.poll_timeout(), None);
    }

    #[test]
    fn an_early_timeout_does_nothing() {
        let start = Instant::now();
        let mut reliable = ReliableProvisional::new(T1, u32::MAX);
        let sent = reliable.send(start, 1, Message::response(183, "")).unwrap();
        assert_eq!(sent.header("RSeq"), Some("2147483647"));
        assert_eq!(reliable.handle_timeout(start + T1 / 2), None);
    }
}
