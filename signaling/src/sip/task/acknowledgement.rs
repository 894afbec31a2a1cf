//! What comes after an INVITE: its ACK (RFC 3261 13.3.1.4), its CANCEL, or neither.

use super::{CallTask, Phase};
use crate::sip::incoming::CallError;
use crate::sip::message::Message;
use crate::sip::session::{ByeReason, EndCause, SessionEvent};
use crate::sip::transaction::InviteReport;

impl CallTask {
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

    fn handle_overtaken(&mut self, report: InviteReport) {
        match report {
            InviteReport::Ack(_) => {
                let answer = self.early_answer.take();
                self.handle_confirmed(answer);
            }
            InviteReport::Ended => self.give_up_ack(),
            InviteReport::Cancel => {}
        }
    }

    fn give_up_ack(&mut self) {
        self.core.counters.ack_timeouts.increment();
        let text = "no ACK".to_owned();
        // It keeps its place among the unacknowledged: whoever floods does not answer a BYE either.
        self.phase = Phase::Confirmed;
        self.send_bye(EndCause::AckTimeout, Some(ByeReason { protocol: "SIP", cause: 408, text }));
    }

    fn handle_cancel(&mut self) {
        self.core.counters.calls_cancelled.increment();
        self.answer_invite(487, "", |response| response);
        let _ = self.cancelled.send(true);
        self.reply_ring(Err(CallError::Cancelled));
        self.finish(EndCause::RemoteBye { reason: None });
    }

    fn handle_ack(&mut self, ack: &Message) {
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

    fn handle_confirmed(&mut self, answer: Option<String>) {
        self.leave_answered();
        self.emit(SessionEvent::Confirmed { answer });
        if let Some(reason) = self.wants_bye.take() {
            self.send_bye(EndCause::LocalBye, reason);
        }
    }
}
