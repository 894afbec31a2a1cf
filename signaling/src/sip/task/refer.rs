//! Our REFER and the news of it (RFC 3515): the subscription that it begins lives as long as the referral.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Asked, CallTask, Phase, ToCall};
use crate::sip::message::{Message, NameAddr, decimal};
use crate::sip::refer::{TransferError, TransferTarget, Transferred};
use crate::sip::transaction::ServerTransaction;
use crate::sip::validate::{ALLOW, Refusal, SUPPORTED};

/// A REFER that waits for the ACK.
pub(super) type WantedReferral =
    (TransferTarget, Duration, oneshot::Sender<Result<Transferred, TransferError>>);

/// A REFER of ours whose outcome is not known.
pub(super) struct Referral {
    cseq: u32,
    /// The peer has answered with 2xx.
    accepted: bool,
    deadline: Instant,
    reply: oneshot::Sender<Result<Transferred, TransferError>>,
}

impl Referral {
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl CallTask {
    pub(super) fn refer(
        &mut self,
        target: &TransferTarget,
        patience: Duration,
        reply: oneshot::Sender<Result<Transferred, TransferError>>,
    ) {
        if self.referral.is_some() || self.wants_refer.is_some() {
            return drop(reply.send(Err(TransferError::Pending)));
        }
        match self.phase {
            Phase::Confirmed => {}
            // Nothing is asked of a peer that has not acknowledged.
            Phase::Answered => {
                self.wants_refer = Some((target.clone(), patience, reply));
                return;
            }
            _ => return drop(reply.send(Err(TransferError::Closed))),
        }
        let mut refer = self.dialog.request("REFER");
        let cseq = refer.cseq().map_or(0, |(number, _)| number);
        refer.push("Refer-To", format!("<{target}>"));
        // RFC 3892: whom the peer has called, and so who sends it elsewhere.
        if let Some(NameAddr { uri, .. }) = refer.from() {
            refer.push("Referred-By", format!("<{uri}>"));
        }
        refer.push("Allow", ALLOW);
        refer.push("Supported", SUPPORTED);
        let deadline = Instant::now() + patience;
        self.referral = Some(Referral { cseq, accepted: false, deadline, reply });
        self.core.counters.refers_sent.increment();
        self.send(refer, true, Asked::Refer { cseq });
    }

    /// The session is acknowledged: what was asked for before can be sent.
    pub(super) fn refer_if_wanted(&mut self) {
        if let Some((target, patience, reply)) = self.wants_refer.take() {
            self.refer(&target, patience, reply);
        }
    }

    pub(super) fn handle_refer_response(&mut self, cseq: u32, response: &Message) {
        let Some(referral) = self.referral.as_mut().filter(|referral| referral.cseq == cseq) else { return };
        match response.status() {
            200..300 => {
                // The one that was accepted, where a challenge came first.
                referral.cseq = response.cseq().map_or(cseq, |(number, _)| number);
                referral.accepted = true;
            }
            status => {
                let reason = response.reason().to_owned();
                self.settle_referral(Err(TransferError::Refused { status, reason }));
            }
        }
    }

    /// News of our referral. Any other NOTIFY is of a subscription that we do not have.
    pub(super) async fn handle_notify(&mut self, transaction: ServerTransaction, request: &Message) {
        let event = request.header("Event").unwrap_or_default();
        let mut parts = event.split(';').map(str::trim);
        if !parts.next().is_some_and(|package| package.eq_ignore_ascii_case("refer")) {
            let refusal = Refusal::new(489, "").with("Allow-Events", "refer");
            return self.refuse(transaction, request, refusal).await;
        }
        // RFC 3515 2.4.6: with several referrals in a dialog the id is the CSeq number of one of them.
        let id = parts.find_map(|part| part.strip_prefix("id=")).and_then(decimal);
        let known =
            self.referral.as_ref().is_some_and(|referral| id.is_none_or(|id| id == u64::from(referral.cseq)));
        if !known {
            // The last NOTIFY may come when we have given up already.
            let status = if self.referred { 200 } else { 481 };
            return self.refuse(transaction, request, Refusal::new(status, "")).await;
        }
        self.refuse(transaction, request, Refusal::new(200, "")).await;
        let state = request.header("Subscription-State").unwrap_or_default();
        let state = state.split(';').next().unwrap_or_default().trim();
        let over = state.eq_ignore_ascii_case("terminated");
        match progress(&request.body) {
            Some((200..300, _)) => self.settle_referral(Ok(Transferred::Answered)),
            Some((status @ 300.., reason)) => {
                self.settle_referral(Err(TransferError::Failed { status, reason }))
            }
            _ if over => self.settle_referral(Err(TransferError::NoNews)),
            _ => {}
        }
    }

    /// Whoever waits for the referral waits no longer.
    pub(super) fn settle_referral(&mut self, result: Result<Transferred, TransferError>) {
        if let Some(referral) = self.referral.take() {
            self.referred = true;
            let counters = &self.core.counters;
            if result.is_ok() { &counters.refers_succeeded } else { &counters.refers_failed }.increment();
            let _ = referral.reply.send(result);
        }
    }

    /// The peer has hung up. One that has taken a referral may do so as soon as it has no more use for us, and its BYE
    /// may overtake its answer.
    pub(super) async fn settle_referral_by_bye(&mut self) {
        let patience = tokio::time::Instant::now() + ANSWER_PATIENCE;
        while self.referral.as_ref().is_some_and(|referral| !referral.accepted) {
            match tokio::time::timeout_at(patience, self.mailbox.recv()).await {
                Ok(Some(ToCall::Response { asked: Asked::Refer { cseq }, response })) => {
                    self.handle_refer_response(cseq, &response);
                }
                // Nothing else matters to a session that is over.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        let accepted = self.referral.as_ref().is_some_and(|referral| referral.accepted);
        self.settle_referral(if accepted { Ok(Transferred::Left) } else { Err(TransferError::Closed) });
    }

    pub(super) fn check_referral(&mut self, now: Instant) {
        if self.referral.as_ref().is_some_and(|referral| now >= referral.deadline) {
            self.settle_referral(Err(TransferError::NoNews));
        }
    }
}

/// The status line in a body of `message/sipfrag` (RFC 3420).
pub(super) fn progress(body: &[u8]) -> Option<(u16, String)> {
    let line = body.get(..body.len().min(MAX_LINE))?.split(|&byte| byte == b'\r' || byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (status, reason) = line.strip_prefix("SIP/2.0 ")?.split_at_checked(3)?;
    let status = decimal(status).filter(|status| (100..700).contains(status))?;
    Some((status as u16, crate::sip::message::one_line(reason.trim())))
}

const MAX_LINE: usize = 256;
/// How much later than its BYE a peer's answer to our REFER may come.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_status_of_a_fragment_is_read() {
        for (body, status) in [
            ("SIP/2.0 100 Trying\r\n", Some(100)),
            ("SIP/2.0 200 OK\r\nContact: <sip:a@example.com>\r\n", Some(200)),
            ("SIP/2.0 603 Declined", Some(603)),
            ("SIP/2.0 503", Some(503)),
            ("SIP/2.0 99 x", None),
            ("SIP/2.0 700 x", None),
            ("SIP/2.0 é00", None),
            ("SIP/2.0 20", None),
            ("INVITE sip:a@example.com SIP/2.0\r\n", None),
            ("", None),
        ] {
            assert_eq!(progress(body.as_bytes()).map(|(status, _)| status), status, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_fragment_is_survived(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = progress(&body);
            let _ = progress(&[b"SIP/2.0 ".as_slice(), &body].concat());
        }
    }
}
