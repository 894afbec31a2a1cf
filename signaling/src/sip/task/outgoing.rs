//! Our own requests inside the dialog (RFC 3261 12.2.1, 14.1, 15.1.1).

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Asked, CallTask, Phase, ToCall};
use crate::sip::core::random;
use crate::sip::message::{Content, Message, decimal, session_description};
use crate::sip::session::{ByeReason, EndCause, RequestError};
use crate::sip::session_timer::SessionExpires;
use crate::sip::validate::{ALLOW, SUPPORTED};

impl CallTask {
    /// The owner wants the call to end. A 2xx must be acknowledged first (RFC 3261 15).
    pub(super) fn hang_up(&mut self, reason: Option<ByeReason>) {
        match self.phase {
            Phase::Answered => drop(self.wants_bye.get_or_insert(reason)),
            Phase::Confirmed => self.send_bye(EndCause::LocalBye, reason),
            Phase::Early | Phase::Ending(_) | Phase::Over => {}
        }
    }

    pub(super) fn send_bye(&mut self, cause: EndCause, reason: Option<ByeReason>) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Over) {
            return;
        }
        if !self.server.is_final() {
            self.answer_invite(487, "", |response| response);
        }
        self.pending = None;
        self.timer = Default::default();
        let mut bye = self.dialog.request("BYE");
        if let Some(ByeReason { protocol, cause, text }) = reason {
            let text = crate::sip::message::one_line(&text).replace(['"', '\\'], "'");
            bye.push("Reason", format!("{protocol};cause={cause};text=\"{text}\""));
        }
        // Who never acknowledged may never have called: only the source itself is told.
        let proven = !self.holds_place;
        self.phase = Phase::Ending(cause);
        self.send(bye, proven, Asked::Bye);
    }

    pub(super) fn reinvite(&mut self, sdp: String, reply: oneshot::Sender<Result<String, RequestError>>) {
        match self.phase {
            Phase::Confirmed => {}
            Phase::Answered | Phase::Early => return drop(reply.send(Err(RequestError::Pending))),
            Phase::Ending(_) | Phase::Over => return drop(reply.send(Err(RequestError::Closed))),
        }
        if self.unacknowledged() || self.client_invite || !self.server.is_final() || !self.negotiation.offer()
        {
            return drop(reply.send(Err(RequestError::Pending)));
        }
        self.send_reinvite(sdp, Some(reply));
    }

    fn send_reinvite(&mut self, sdp: String, reply: Option<oneshot::Sender<Result<String, RequestError>>>) {
        self.client_invite = true;
        let mut invite = self.dialog.request("INVITE");
        let cseq = invite.cseq().map_or(0, |(number, _)| number);
        self.add_timer(&mut invite);
        invite.push("Allow", ALLOW);
        invite.push("Supported", SUPPORTED);
        invite.set_body("application/sdp", sdp.clone());
        self.send(invite, true, Asked::Reinvite { cseq, sdp, reply });
    }

    pub(super) fn send_info(
        &mut self,
        content_type: &str,
        body: Vec<u8>,
        reply: oneshot::Sender<Result<(), RequestError>>,
    ) {
        if self.phase != Phase::Confirmed {
            return drop(reply.send(Err(RequestError::Closed)));
        }
        let mut info = self.dialog.request("INFO");
        info.set_body(&crate::sip::message::one_line(content_type), body);
        self.send(info, true, Asked::Info { reply });
    }

    /// Refreshes the session (RFC 4028 7.4, 10).
    pub(super) fn refresh(&mut self, now: Instant) {
        let busy = self.unacknowledged() || self.client_invite || !self.negotiation.is_stable();
        if self.phase != Phase::Confirmed || busy || !self.server.is_final() {
            self.timer.retry_at(now + retry_delay());
            return;
        }
        if self.peer_allows_update {
            let mut update = self.dialog.request("UPDATE");
            self.add_timer(&mut update);
            update.push("Allow", ALLOW);
            update.push("Supported", SUPPORTED);
            self.send(update, true, Asked::Update);
        } else if self.negotiation.offer() {
            self.send_reinvite(self.local_sdp.clone(), None);
        }
    }

    fn add_timer(&self, request: &mut Message) {
        if let Some(proposal) = self.timer.proposal() {
            request.push("Session-Expires", proposal.write());
            let minimum = self.core.config.min_session_expires.as_secs().max(self.min_se);
            request.push("Min-SE", minimum.to_string());
        }
    }

    /// Sends a request in a task of its own, which reports the final response to the mailbox.
    pub(super) fn send(&mut self, request: Message, proven: bool, asked: Asked) {
        let (core, flow, user) = (self.core.clone(), self.flow.clone(), self.contact_user.clone());
        let (hop, routed) = (self.dialog.next_hop(), self.dialog.has_route_set());
        let to_self = self.to_self.clone();
        self.core.tasks.spawn(async move {
            let flow = core.route(hop.as_ref(), routed, &flow, proven).await;
            let response = match flow {
                Some(flow) => {
                    let request = core.addressed(request, &flow, &user);
                    match core.transactions.new_client(&request, &flow) {
                        Some(transaction) => transaction.run().await,
                        None => Message::response(400, "Malformed Request"),
                    }
                }
                // RFC 3261 8.1.3.1: a transport error is taken for a 503.
                None => Message::response(503, TRANSPORT_FAILED),
            };
            // A call that is over has no use for it.
            let _ = to_self.send(ToCall::Response { asked, response }).await;
        });
    }

    pub(super) fn handle_response(&mut self, asked: Asked, response: &Message) {
        let status = response.status();
        if let Asked::Bye = asked {
            if let Phase::Ending(cause) = self.phase.clone() {
                let failed = status == 503 && response.reason() == TRANSPORT_FAILED;
                self.finish(if failed && cause == EndCause::LocalBye {
                    EndCause::TransportFailed
                } else {
                    cause
                });
            }
            return;
        }
        let refreshes = matches!(asked, Asked::Reinvite { .. } | Asked::Update);
        if refreshes && status / 100 == 2 {
            self.dialog.refresh_target(response);
            let answered = SessionExpires::of(response).unwrap_or(None);
            self.timer.start_as_uac(Instant::now(), answered);
        }
        match asked {
            Asked::Reinvite { cseq, sdp, reply } => {
                if status / 100 == 2 {
                    self.local_sdp = sdp;
                }
                self.handle_reinvite_response(cseq, reply, response);
            }
            Asked::Update => self.handle_refresh_failure(status, response),
            Asked::Info { reply } => drop(reply.send(outcome(response))),
            Asked::Refer { cseq } => self.handle_refer_response(cseq, response),
            Asked::Bye => {}
        }
        // RFC 3261 12.2.1.2: the dialog is gone at the other end.
        if matches!(status, 408 | 481) {
            self.send_bye(EndCause::PeerLost { status }, None);
        }
    }

    fn handle_reinvite_response(
        &mut self,
        cseq: u32,
        reply: Option<oneshot::Sender<Result<String, RequestError>>>,
        response: &Message,
    ) {
        self.client_invite = false;
        self.negotiation.settle_local();
        let status = response.status();
        if status / 100 == 2 {
            self.send_ack(cseq);
        }
        let Some(reply) = reply else { return self.handle_refresh_failure(status, response) };
        let result = match (outcome(response), session_description(response)) {
            (Err(error), _) => Err(error),
            (Ok(()), Content::Sdp(answer)) => Ok(answer),
            (Ok(()), _) => Err(RequestError::NoAnswer),
        };
        let _ = reply.send(result);
    }

    /// A refresh that was not accepted is tried again in another way, or later (RFC 4028 7.3, 10).
    fn handle_refresh_failure(&mut self, status: u16, response: &Message) {
        let now = Instant::now();
        match status {
            200..300 => {}
            422 => {
                let min_se = response.header("Min-SE").and_then(decimal).unwrap_or(0);
                self.min_se = self.min_se.max(min_se);
                self.timer.raise(min_se);
                self.timer.retry_at(now);
            }
            405 | 501 if self.peer_allows_update => {
                self.peer_allows_update = false;
                self.timer.retry_at(now);
            }
            491 => self.timer.retry_at(now + retry_delay()),
            // The session timer itself ends what cannot be refreshed; a peer that says no is not pestered.
            _ => self.timer.retry_at(now + REFUSED_PAUSE + retry_delay()),
        }
    }

    fn send_ack(&mut self, cseq: u32) {
        let ack = self.dialog.request_with_cseq("ACK", cseq);
        self.last_ack = Some((cseq, ack.clone()));
        self.transmit_ack(ack);
    }

    fn transmit_ack(&self, ack: Message) {
        let (core, flow, user) = (self.core.clone(), self.flow.clone(), self.contact_user.clone());
        let (hop, routed) = (self.dialog.next_hop(), self.dialog.has_route_set());
        self.core.tasks.spawn(async move {
            if let Some(flow) = core.route(hop.as_ref(), routed, &flow, true).await {
                flow.send(core.addressed(ack, &flow, &user).write());
            }
        });
    }

    /// The peer repeats a 2xx: its ACK was lost (RFC 3261 13.2.2.4).
    pub(super) fn repeat_ack(&mut self, response: &Message) {
        let cseq = response.cseq().map(|(number, _)| number);
        if let Some((of, ack)) = &self.last_ack
            && Some(*of) == cseq
        {
            self.transmit_ack(ack.clone());
        }
    }
}

fn outcome(response: &Message) -> Result<(), RequestError> {
    match response.status() {
        200..300 => Ok(()),
        491 => Err(RequestError::Pending),
        status => Err(RequestError::Refused { status, reason: response.reason().to_owned() }),
    }
}

/// We did not make the Call-ID: 0 to 2 s in steps of 10 ms (RFC 3261 14.1).
fn retry_delay() -> Duration {
    Duration::from_millis(10 * (random() % 201))
}

const REFUSED_PAUSE: Duration = Duration::from_secs(5);
const TRANSPORT_FAILED: &str = "Transport Failed";
