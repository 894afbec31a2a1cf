//! The INVITE that began the call: ringing, the answer, its ACK, CANCEL (RFC 3261 13.3, 15.1.2, 9.2).

use std::time::Instant;

use tokio::sync::oneshot;

use crate::sip::incoming::{CallError, Rejection};
use crate::sip::message::Message;
use crate::sip::negotiation::Negotiation;
use crate::sip::session::{ByeReason, EndCause, SessionEvent};
use crate::sip::transaction::InviteReport;

use super::{CallTask, PROVISIONAL_INTERVAL, Phase, rejection_headers};

impl CallTask {
    pub(super) fn ring(
        &mut self,
        status: u16,
        sdp: Option<String>,
        reply: oneshot::Sender<Result<(), CallError>>,
    ) {
        if self.phase != Phase::Early {
            let _ = reply.send(Err(self.gone()));
            return;
        }
        let mut response = self.response(&self.invite, status, "");
        let with_sdp = sdp.is_some();
        if let Some(sdp) = sdp {
            response.set_body("application/sdp", sdp.clone());
            self.local_sdp = sdp;
        }
        if !self.invite.lists("Require", "100rel") {
            self.server.respond(&response);
            self.provisional = Some((Instant::now() + PROVISIONAL_INTERVAL, response));
            let _ = reply.send(Ok(()));
            return;
        }
        let cseq = self.invite.cseq().map_or(0, |(number, _)| number);
        let Some(response) = self.reliable.send(Instant::now(), cseq, response) else {
            let _ = reply.send(Err(CallError::PrackPending));
            return;
        };
        if with_sdp {
            match self.negotiation {
                Negotiation::RemoteOffer => {
                    self.negotiation.settle_remote();
                    self.early_settled = true;
                }
                _ => drop(self.negotiation.offer()),
            }
        }
        self.server.respond(&response);
        self.provisional = None;
        self.ring_reply = Some(reply);
    }

    pub(super) fn reply_ring(&mut self, result: Result<(), CallError>) {
        if let Some(reply) = self.ring_reply.take() {
            let _ = reply.send(result);
        }
    }

    pub(super) fn reject(&mut self, rejection: &Rejection) -> Result<(), CallError> {
        if self.phase != Phase::Early {
            return Err(self.gone());
        }
        self.core.counters.calls_rejected.increment();
        self.answer_invite(rejection.status, &rejection.reason, |response| {
            rejection_headers(rejection, response)
        });
        self.finish(EndCause::LocalBye);
        Ok(())
    }

    pub(super) fn accept(&mut self, sdp: String) -> Result<(), CallError> {
        if self.phase != Phase::Early {
            return Err(self.gone());
        }
        let mut response = self.negotiated.apply(self.response(&self.invite, 200, ""));
        // RFC 3262 5: what reliable provisional responses have settled is not said again.
        if !self.early_settled && self.early_answer.is_none() {
            response.set_body("application/sdp", sdp.clone());
            self.local_sdp = sdp;
            match self.negotiation {
                Negotiation::RemoteOffer => self.negotiation.settle_remote(),
                _ => {
                    let _ = self.negotiation.offer();
                    self.offered_in_answer = true;
                }
            }
        }
        self.stop_ringing();
        self.server.respond(&response);
        self.timer.start_as_uas(Instant::now(), self.negotiated);
        self.phase = Phase::Answered;
        self.core.counters.calls_accepted.increment();
        Ok(())
    }

    pub(super) fn stop_ringing(&mut self) {
        self.reliable.stop();
        self.provisional = None;
        self.reply_ring(Err(CallError::Closed));
    }

    /// A final answer other than 2xx to the INVITE in progress.
    pub(super) fn answer_invite(
        &mut self,
        status: u16,
        reason: &str,
        complete: impl FnOnce(Message) -> Message,
    ) {
        let response = complete(self.response(&self.server_request, status, reason));
        self.reliable.stop();
        self.provisional = None;
        self.server.respond(&response);
    }

    pub(super) fn handle_invite_report(&mut self, number: u32, report: InviteReport) {
        if number != self.server_number {
            // A re-INVITE has overtaken the first ACK.
            if number == 0 && self.phase == Phase::Answered {
                self.handle_overtaken(report);
            }
            return;
        }
        let unacknowledged = if number == 0 { self.phase == Phase::Answered } else { self.reinvite_answered };
        match report {
            InviteReport::Ack(ack) => self.handle_ack(&ack),
            InviteReport::Cancel if number == 0 && self.phase == Phase::Early => self.handle_cancel(),
            // A re-INVITE that is cancelled leaves the session as it was (RFC 3261 9.2, 14.1).
            InviteReport::Cancel => self.cancel_reinvite(),
            InviteReport::Ended if unacknowledged => self.give_up_ack(),
            InviteReport::Ended => {}
        }
    }

    pub(super) fn handle_overtaken(&mut self, report: InviteReport) {
        match report {
            InviteReport::Ack(_) => {
                let answer = self.early_answer.take();
                self.handle_confirmed(answer);
            }
            InviteReport::Ended => self.give_up_ack(),
            InviteReport::Cancel => {}
        }
    }

    pub(super) fn give_up_ack(&mut self) {
        self.core.counters.ack_timeouts.increment();
        let text = "no ACK".to_owned();
        // It keeps its place among the unacknowledged: whoever floods does not answer a BYE either.
        self.phase = Phase::Confirmed;
        self.send_bye(EndCause::AckTimeout, Some(ByeReason { protocol: "SIP", cause: 408, text }));
    }

    pub(super) fn handle_cancel(&mut self) {
        self.core.counters.calls_cancelled.increment();
        self.answer_invite(487, "", |response| response);
        let _ = self.cancelled.send(true);
        self.reply_ring(Err(CallError::Cancelled));
        self.finish(EndCause::RemoteBye { reason: None });
    }

    pub(super) fn handle_ack(&mut self, ack: &Message) {
        if !self.unacknowledged() {
            return;
        }
        let answer = match crate::sip::message::session_description(ack) {
            crate::sip::message::Content::Sdp(sdp) if self.offered_in_answer => Some(sdp),
            _ => self.early_answer.take(),
        };
        if std::mem::take(&mut self.offered_in_answer) {
            self.negotiation.settle_local();
        }
        self.server_acknowledged();
        self.handle_confirmed(answer);
    }

    pub(super) fn handle_confirmed(&mut self, answer: Option<String>) {
        self.leave_answered();
        self.emit(SessionEvent::Confirmed { answer });
        if let Some(reason) = self.wants_bye.take() {
            self.send_bye(EndCause::LocalBye, reason);
        }
        self.refer_if_wanted();
    }

    /// The first INVITE's 2xx needs its ACK no more.
    pub(super) fn leave_answered(&mut self) {
        if self.phase == Phase::Answered {
            self.phase = Phase::Confirmed;
        }
        self.release_place();
    }

    pub(super) fn release_place(&mut self) {
        if std::mem::take(&mut self.holds_place) {
            self.core.lock_unacknowledged().release(self.source);
        }
    }
}
