//! Our own requests inside the dialog (RFC 3261 12.2.1, 14.1, 15.1.1).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Asked, CallTask, Phase, ToCall};
use crate::sip::core::{Core, random, random_token};
use crate::sip::dialog::Dialog;
use crate::sip::digest::Authorization;
use crate::sip::message::{Content, Message, decimal, session_description};
use crate::sip::session::{ByeReason, EndCause, RequestError};
use crate::sip::session_timer::SessionExpires;
use crate::sip::transaction::{NoAnswer, TRANSPORT_FAILED};
use crate::sip::transport::Flow;
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
        if let Some(reason) = reason {
            bye.push("Reason", reason.write());
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
        let asking = ask(
            &self.core,
            &self.dialog,
            &self.flow,
            &self.contact_user,
            self.authorization.clone(),
            request,
            proven,
        );
        let to_self = self.to_self.clone();
        self.core.tasks.spawn(async move {
            let response = asking.await;
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
            Asked::Bye | Asked::Prack => {}
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
            // It may have been sent again with the answer to a challenge.
            self.send_ack(response.cseq().map_or(cseq, |(number, _)| number));
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

    pub(super) fn send_ack(&mut self, cseq: u32) {
        let ack = self.dialog.request_with_cseq("ACK", cseq);
        self.last_ack = Some((cseq, ack.clone()));
        self.transmit_ack(ack);
    }

    /// The ACK of the call's first 2xx proves what its INVITE did (RFC 3261 22.1).
    pub(super) fn send_first_ack(&mut self, invite: &Message) {
        let cseq = invite.cseq().map_or(0, |(number, _)| number);
        let mut ack = self.dialog.request_with_cseq("ACK", cseq);
        let proofs = ["Authorization", "Proxy-Authorization"];
        ack.headers
            .extend(invite.headers.iter().filter(|field| proofs.contains(&field.name.as_str())).cloned());
        self.last_ack = Some((cseq, ack.clone()));
        self.transmit_ack(ack);
    }

    fn transmit_ack(&self, ack: Message) {
        let sending = send_once(&self.core, &self.dialog, &self.flow, &self.contact_user, ack);
        self.core.tasks.spawn(sending);
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

/// Sends a request in a dialog and returns its final response. One that is challenged goes once more with the answer,
/// where there is one.
pub(in crate::sip) fn ask(
    core: &Arc<Core>,
    dialog: &Dialog,
    flow: &Flow,
    user: &str,
    authorization: Option<Arc<Mutex<Authorization>>>,
    request: Message,
    proven: bool,
) -> impl Future<Output = Message> + Send + use<> {
    let (core, flow, user) = (core.clone(), flow.clone(), user.to_owned());
    let (hop, routed, cseqs) = (dialog.next_hop(), dialog.has_route_set(), dialog.cseqs());
    async move {
        // RFC 3261 8.1.3.1: a transport error is taken for a 503.
        let Some(flow) = core.route(hop.as_ref(), routed, &flow, proven).await else {
            return NoAnswer::TransportFailed.response();
        };
        let mut plain = request;
        for _ in 0..MOST_CHALLENGES {
            let request = core.addressed(plain.clone(), &flow, &user);
            let Some(transaction) = core.transactions.new_client(&request, &flow) else {
                return Message::response(400, "Malformed Request");
            };
            let response = match transaction.run().await {
                Ok(response) => response,
                Err(none) => return none.response(),
            };
            let Some(authorization) = &authorization else { return response };
            let mut authorization = authorization.lock().unwrap_or_else(PoisonError::into_inner);
            let challenged = matches!(response.status(), 401 | 407);
            if !challenged || authorization.handle_challenge(&request, &response).is_err() {
                return response;
            }
            let cseq = cseqs.fetch_add(1, Ordering::Relaxed) + 1;
            let value = format!("{cseq} {}", plain.method());
            if let Some(field) = plain.headers.iter_mut().find(|field| field.name == "CSeq") {
                field.value = value;
            }
            authorization.authorize(&mut plain, &random_token());
        }
        Message::response(482, "Challenged Without End")
    }
}

/// Sends an ACK, which has no transaction.
pub(in crate::sip) fn send_once(
    core: &Arc<Core>,
    dialog: &Dialog,
    flow: &Flow,
    user: &str,
    ack: Message,
) -> impl Future<Output = ()> + Send + use<> {
    let (core, flow, user) = (core.clone(), flow.clone(), user.to_owned());
    let (hop, routed) = (dialog.next_hop(), dialog.has_route_set());
    async move {
        if let Some(flow) = core.route(hop.as_ref(), routed, &flow, true).await {
            flow.send(core.addressed(ack, &flow, &user).write());
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
/// Requests that a challenge can make of one.
const MOST_CHALLENGES: usize = 4;
