//! What the peer asks for inside the dialog.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{CallTask, Negotiated, Phase, ToCall, negotiate_timer, rejection_headers, with_headers};
use crate::sip::core::{capabilities, overloaded, random};
use crate::sip::message::{Content, Message, session_description};
use crate::sip::negotiation::{Glare, Negotiation};
use crate::sip::session::{Decision, EndCause, OfferRequest, OfferWanted, SessionEvent};
use crate::sip::transaction::ServerTransaction;
use crate::sip::transport::Flow;
use crate::sip::validate::{ACCEPT, ALLOW, Refusal};

/// An offer (or a wish for one) that the owner has not decided about.
pub(super) struct PendingOffer {
    pub(super) decision: oneshot::Receiver<Decision>,
    negotiated: Negotiated,
    of: PendingIn,
}

enum PendingIn {
    /// A re-INVITE with an offer.
    Reinvite,
    /// A re-INVITE without.
    Empty,
    /// An UPDATE or PRACK with an offer.
    Other { transaction: ServerTransaction, request: Message },
}

impl CallTask {
    pub(super) async fn handle_request(
        &mut self,
        transaction: ServerTransaction,
        request: Message,
        flow: Flow,
    ) {
        if !self.dialog.accept_cseq(&request) {
            let refusal = Refusal::new(500, "CSeq Out Of Order");
            return self.refuse(transaction, &request, refusal).await;
        }
        self.flow = flow;
        if request.header("Allow").is_some() {
            self.peer_allows_update = request.lists("Allow", "UPDATE");
        }
        match request.method() {
            "BYE" => self.handle_bye(transaction, &request).await,
            "INVITE" => self.handle_reinvite(transaction, request).await,
            "UPDATE" => self.handle_update(transaction, request).await,
            "PRACK" => self.handle_prack(transaction, request).await,
            "INFO" => self.handle_info(transaction, &request).await,
            "NOTIFY" => self.handle_notify(transaction, &request).await,
            "OPTIONS" => self.refuse(transaction, &request, capabilities(ALLOW)).await,
            _ => self.refuse(transaction, &request, Refusal::new(501, "")).await,
        }
    }

    pub(super) async fn refuse(
        &mut self,
        transaction: ServerTransaction,
        request: &Message,
        refusal: Refusal,
    ) {
        if refusal.status >= 300 {
            self.core.counters.refused_requests.increment();
        }
        let response = with_headers(self.response(request, refusal.status, refusal.reason), &refusal);
        if request.method() == "INVITE" {
            // It has a transaction of its own that nobody needs to hear about any more.
            let number = u32::MAX;
            let mut server =
                transaction.run_invite(self.to_self.clone(), move |report| ToCall::Invite { number, report });
            server.respond(&response);
        } else {
            transaction.answer(&response).await;
        }
    }

    async fn handle_bye(&mut self, transaction: ServerTransaction, request: &Message) {
        let response = self.response(request, 200, "");
        transaction.answer(&response).await;
        let reason = request.header("Reason").map(str::to_owned);
        if let Some(PendingOffer { of: PendingIn::Other { transaction, request }, .. }) = self.pending.take()
        {
            // RFC 3261 15.1.2: what is still pending is answered 487.
            let response = self.response(&request, 487, "");
            transaction.answer(&response).await;
        }
        match self.phase.clone() {
            Phase::Early => {
                self.core.counters.calls_cancelled.increment();
                self.answer_invite(487, "", |response| response);
                let _ = self.cancelled.send(true);
                self.finish(EndCause::RemoteBye { reason });
            }
            Phase::Ending(cause) => self.finish(cause),
            _ => {
                self.settle_referral_by_bye().await;
                if self.server.is_final() {
                    self.server.stop();
                } else {
                    self.answer_invite(487, "", |response| response);
                }
                self.finish(EndCause::RemoteBye { reason });
            }
        }
    }

    async fn handle_reinvite(&mut self, transaction: ServerTransaction, request: Message) {
        let unsettled = self.phase == Phase::Early || self.pending.is_some() || !self.server.is_final();
        if matches!(self.phase, Phase::Ending(_) | Phase::Over) {
            return self.refuse(transaction, &request, Refusal::new(481, "")).await;
        }
        if unsettled {
            return self.refuse(transaction, &request, retry_soon()).await;
        }
        if self.client_invite {
            return self.refuse(transaction, &request, Refusal::new(491, "")).await;
        }
        let negotiated = match negotiate_timer(&request, &self.core.config) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return self.refuse(transaction, &request, refusal).await,
        };
        let (decide, decision) = oneshot::channel();
        let content = session_description(&request);
        let taken = match content {
            Content::Sdp(_) => self.negotiation.handle_offer(),
            _ if self.negotiation.offer() => Ok(()),
            _ if self.negotiation == Negotiation::LocalOffer => Err(Glare::RequestPending),
            _ => Err(Glare::Unsettled),
        };
        if let Err(glare) = taken {
            return self.refuse(transaction, &request, glare_refusal(glare)).await;
        }
        let (of, event) = match content {
            Content::Sdp(sdp) => (PendingIn::Reinvite, SessionEvent::Offer(OfferRequest { sdp, decide })),
            _ => (PendingIn::Empty, SessionEvent::OfferWanted(OfferWanted { decide })),
        };
        if !self.emit(event) {
            self.negotiation = Negotiation::Stable;
            return self.refuse(transaction, &request, overloaded()).await;
        }
        self.server_number = self.server_number.wrapping_add(1) & 0x7fff_ffff;
        let number = self.server_number;
        self.server =
            transaction.run_invite(self.to_self.clone(), move |report| ToCall::Invite { number, report });
        self.server.respond(&Message::response_to(&request, 100, "", None));
        self.server_request = request;
        self.offered_in_answer = false;
        self.reinvite_answered = false;
        self.pending = Some(PendingOffer { decision, negotiated, of });
    }

    /// The peer took its re-INVITE back before it was answered.
    pub(super) fn cancel_reinvite(&mut self) {
        if self.server.is_final() {
            return;
        }
        self.answer_invite(487, "", |response| response);
        self.pending = None;
        self.negotiation = Negotiation::Stable;
    }

    pub(super) async fn handle_decision(&mut self, decision: Decision) {
        let Some(PendingOffer { negotiated, of, .. }) = self.pending.take() else { return };
        match of {
            PendingIn::Reinvite => self.negotiation.settle_remote(),
            // Settled by the answer in the ACK, or right now when there will be none.
            PendingIn::Empty if decision.is_err() => self.negotiation.settle_local(),
            PendingIn::Empty => {}
            PendingIn::Other { .. } => self.negotiation.settle_remote(),
        }
        match (of, decision) {
            (PendingIn::Other { transaction, request }, decision) => {
                let response = match decision {
                    Ok(sdp) => {
                        self.dialog.refresh_target(&request);
                        let mut response = self.response(&request, 200, "");
                        if request.method() == "UPDATE" {
                            response = negotiated.apply(response);
                            self.timer.start_as_uas(Instant::now(), negotiated);
                        }
                        response.set_body("application/sdp", sdp.clone());
                        self.local_sdp = sdp;
                        response
                    }
                    Err(rejection) => {
                        let response = self.response(&request, rejection.status, &rejection.reason);
                        rejection_headers(&rejection, response)
                    }
                };
                transaction.answer(&response).await;
            }
            (of, Ok(sdp)) => {
                let request = self.server_request.clone();
                self.dialog.refresh_target(&request);
                let mut response = negotiated.apply(self.response(&request, 200, ""));
                response.set_body("application/sdp", sdp.clone());
                self.local_sdp = sdp;
                self.offered_in_answer = matches!(of, PendingIn::Empty);
                self.reinvite_answered = true;
                self.server.respond(&response);
                self.timer.start_as_uas(Instant::now(), negotiated);
            }
            (_, Err(rejection)) => {
                self.answer_invite(rejection.status, &rejection.reason, |response| {
                    rejection_headers(&rejection, response)
                });
            }
        }
    }

    async fn handle_update(&mut self, transaction: ServerTransaction, request: Message) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Over) {
            return self.refuse(transaction, &request, Refusal::new(481, "")).await;
        }
        let negotiated = match negotiate_timer(&request, &self.core.config) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return self.refuse(transaction, &request, refusal).await,
        };
        if let Content::Sdp(sdp) = session_description(&request) {
            return self.handle_offer(transaction, request, sdp, negotiated).await;
        }
        self.dialog.refresh_target(&request);
        let response = negotiated.apply(self.response(&request, 200, ""));
        if self.phase != Phase::Early {
            self.timer.start_as_uas(Instant::now(), negotiated);
        }
        transaction.answer(&response).await;
    }

    /// An offer in an UPDATE (RFC 3311 5.2) or PRACK (RFC 3262 5).
    async fn handle_offer(
        &mut self,
        transaction: ServerTransaction,
        request: Message,
        sdp: String,
        negotiated: Negotiated,
    ) {
        // A caller who left the first offer to us cannot make one before it has ours.
        let too_early = self.phase == Phase::Early && !self.early_settled && self.early_answer.is_none();
        if too_early && self.negotiation.is_stable() || self.client_invite {
            return self.refuse(transaction, &request, Refusal::new(491, "")).await;
        }
        if let Err(glare) = self.negotiation.handle_offer() {
            return self.refuse(transaction, &request, glare_refusal(glare)).await;
        }
        let (decide, decision) = oneshot::channel();
        if !self.emit(SessionEvent::Offer(OfferRequest { sdp, decide })) {
            self.negotiation.settle_remote();
            return self.refuse(transaction, &request, overloaded()).await;
        }
        self.pending =
            Some(PendingOffer { decision, negotiated, of: PendingIn::Other { transaction, request } });
    }

    async fn handle_prack(&mut self, transaction: ServerTransaction, request: Message) {
        if !self.reliable.handle_prack(request.header("RAck").unwrap_or_default()) {
            return self.refuse(transaction, &request, Refusal::new(481, "")).await;
        }
        self.reply_ring(Ok(()));
        match session_description(&request) {
            Content::Sdp(sdp) if self.negotiation == Negotiation::LocalOffer => {
                self.negotiation.settle_local();
                self.early_answer = Some(sdp);
            }
            Content::Sdp(sdp) => return self.handle_offer(transaction, request, sdp, Negotiated::Off).await,
            _ => {}
        }
        let response = self.response(&request, 200, "");
        transaction.answer(&response).await;
    }

    async fn handle_info(&mut self, transaction: ServerTransaction, request: &Message) {
        if request.header("Info-Package").is_some() {
            // RFC 6086 4.2.2: there is no package that we know.
            let refusal = Refusal::new(469, "Bad Info Package").with("Recv-Info", "");
            return self.refuse(transaction, request, refusal).await;
        }
        let encoded =
            request.list("Content-Encoding").any(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        let content_type = request.header("Content-Type").unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let status = match content_type.as_str() {
            _ if request.body.is_empty() => 200,
            _ if encoded => 415,
            "application/dtmf-relay" | "application/dtmf" => {
                let event = SessionEvent::Info { content_type, body: request.body.clone() };
                if self.emit(event) { 200 } else { 503 }
            }
            _ => 415,
        };
        let refusal = match status {
            415 => Refusal::new(415, "").with("Accept", ACCEPT).with("Accept-Encoding", "identity"),
            503 => overloaded(),
            _ => Refusal::new(200, ""),
        };
        self.refuse(transaction, request, refusal).await;
    }

    /// Whether a 2xx of ours waits for its ACK.
    pub(super) fn unacknowledged(&self) -> bool {
        self.phase == Phase::Answered || self.reinvite_answered
    }

    pub(super) fn server_acknowledged(&mut self) {
        self.reinvite_answered = false;
    }
}

/// 500 with a Retry-After of 0 to 10 s (RFC 3261 14.2).
fn retry_soon() -> Refusal {
    Refusal::new(500, "Earlier Request Pending").with("Retry-After", (random() % 11).to_string())
}

fn glare_refusal(glare: Glare) -> Refusal {
    match glare {
        Glare::RequestPending => Refusal::new(491, ""),
        Glare::Unsettled => retry_soon(),
    }
}
