//! Early dialogs of a call of ours (RFC 3261 13.2.2.1): what forks answer provisionally, their PRACKs (RFC 3262) and
//! what they ask for before the answer (RFC 3311).

use tokio::sync::{mpsc, oneshot};

use super::Progress;
use super::attempt::Attempt;
use crate::sip::core::capabilities;
use crate::sip::dialog::{Dialog, DialogId};
use crate::sip::incoming::Rejection;
use crate::sip::message::{Content, Message, decimal, session_description};
use crate::sip::session::{Decision, OfferRequest};
use crate::sip::task::outgoing::ask;
use crate::sip::task::{Asked, ToCall, dialog_response, rejection_headers, with_headers};
use crate::sip::transaction::ServerTransaction;
use crate::sip::transport::Flow;
use crate::sip::validate::{ALLOW, Refusal};

/// One fork that has shown itself.
pub(super) struct Early {
    pub(super) dialog: Dialog,
    /// The last RSeq that was acknowledged.
    rseq: Option<u32>,
    /// The answer to our offer.
    pub(super) answer: Option<String>,
    /// It came reliably, so that the 2xx need not say it again.
    pub(super) settled: bool,
}

/// An offer of the callee before it took the call.
pub(super) struct EarlyOffer {
    decision: oneshot::Receiver<Decision>,
    transaction: ServerTransaction,
    request: Message,
    flow: Flow,
    id: DialogId,
}

/// All forks of one attempt.
#[derive(Default)]
pub(super) struct Forks {
    pub(super) early: Vec<Early>,
    pub(super) offer: Option<EarlyOffer>,
}

impl Forks {
    /// Takes a provisional response. What the owner has to know comes back.
    pub(super) fn handle_provisional(
        &mut self,
        attempt: &Attempt,
        response: &Message,
        to_self: &mpsc::Sender<ToCall>,
    ) -> Option<Progress> {
        let status = response.status();
        let sdp = match session_description(response) {
            Content::Sdp(sdp) => Some(sdp),
            _ => None,
        };
        if status == 100 || response.to_tag().is_none() {
            return Some(Progress::Provisional { status, sdp: sdp.filter(|_| status != 100) });
        }
        let Some(early) = self.early_of(attempt, response, to_self) else {
            attempt.core.counters.provisionals_dropped.increment();
            return None;
        };
        let reliable = response.lists("Require", "100rel");
        if reliable {
            let rseq = response.header("RSeq").and_then(decimal).and_then(|rseq| u32::try_from(rseq).ok())?;
            // RFC 3262 4: in order, each once.
            if early.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
                return None;
            }
            early.rseq = Some(rseq);
            early.settled |= sdp.is_some();
        }
        if sdp.is_some() {
            early.answer.clone_from(&sdp);
        }
        if let (true, Some(rseq)) = (reliable, early.rseq) {
            let mut prack = early.dialog.request("PRACK");
            let cseq = attempt.invite.header("CSeq").unwrap_or_default();
            prack.push("RAck", format!("{rseq} {cseq}"));
            let user = &attempt.contact_user;
            let asking = ask(&attempt.core, &early.dialog, &attempt.flow, user, None, prack, true);
            let to_self = to_self.clone();
            attempt.core.tasks.spawn(async move {
                let response = asking.await;
                // Nobody waits for it; a PRACK that fails leaves the decision to the peer.
                let _ = to_self.send(ToCall::Response { asked: Asked::Prack, response }).await;
            });
        }
        Some(Progress::Provisional { status, sdp })
    }

    /// The fork of a response, made where it is new; `None` where there are too many.
    fn early_of(
        &mut self,
        attempt: &Attempt,
        response: &Message,
        to_self: &mpsc::Sender<ToCall>,
    ) -> Option<&mut Early> {
        let id = DialogId::of_response(response)?;
        if let Some(at) = self.early.iter().position(|early| early.dialog.id == id) {
            return self.early.get_mut(at);
        }
        if self.early.len() >= MOST_FORKS {
            return None;
        }
        let dialog = Dialog::from_response(&attempt.invite, response)?;
        attempt.core.know_dialog(id, to_self.clone());
        self.early.push(Early { dialog, rseq: None, answer: None, settled: false });
        self.early.last_mut()
    }

    /// Takes the fork with this tag out; the others are forgotten.
    pub(super) fn choose(&mut self, attempt: &Attempt, id: &DialogId) -> Option<Early> {
        let at = self.early.iter().position(|early| early.dialog.id == *id);
        let chosen = at.map(|at| self.early.swap_remove(at));
        self.forget(attempt);
        chosen
    }

    /// None of them will become a call.
    pub(super) fn forget(&mut self, attempt: &Attempt) {
        for early in self.early.drain(..) {
            attempt.core.forget_call(&early.dialog.id, None);
        }
    }

    /// A request in an early dialog.
    pub(super) async fn handle_request(
        &mut self,
        attempt: &Attempt,
        transaction: ServerTransaction,
        request: Message,
        flow: Flow,
    ) -> Option<Progress> {
        let id = DialogId::of_request(&request)?;
        let early = self.early.iter_mut().find(|early| early.dialog.id == id)?;
        let respond = |status, reason: &str| {
            dialog_response(
                &attempt.core,
                &id.local_tag,
                &flow,
                &attempt.contact_user,
                &request,
                status,
                reason,
            )
        };
        if !early.dialog.accept_cseq(&request) {
            transaction.answer(&respond(500, "CSeq Out Of Order")).await;
            return None;
        }
        let refusal = match (request.method(), session_description(&request)) {
            ("UPDATE", Content::Sdp(sdp)) => {
                // RFC 3311 5.2: not before our own offer is answered, and one at a time.
                if early.settled && self.offer.is_none() {
                    let (decide, decision) = oneshot::channel();
                    self.offer = Some(EarlyOffer { decision, transaction, request, flow, id });
                    return Some(Progress::Offer(OfferRequest { sdp, decide }));
                }
                Refusal::new(if early.settled { 500 } else { 491 }, "").with("Retry-After", "1")
            }
            ("UPDATE", _) => {
                early.dialog.refresh_target(&request);
                Refusal::new(200, "")
            }
            ("OPTIONS", _) => capabilities(ALLOW),
            // RFC 3261 15: a callee cannot hang up what it has not taken, and whoever does is gone.
            ("BYE", _) => Refusal::new(200, ""),
            ("INVITE", _) => Refusal::new(491, ""),
            ("INFO", _) if request.body.is_empty() => Refusal::new(200, ""),
            _ => Refusal::new(481, ""),
        };
        let response = with_headers(respond(refusal.status, refusal.reason), &refusal);
        if request.method() == "INVITE" {
            let (unheard, _) = mpsc::channel::<()>(1);
            transaction.run_invite(unheard, |_| ()).respond(&response);
        } else {
            transaction.answer(&response).await;
        }
        None
    }

    /// Resolves when the owner has decided about the callee's offer.
    pub(super) async fn decided(&mut self) -> Decision {
        match &mut self.offer {
            Some(offer) => (&mut offer.decision).await.unwrap_or_else(|_| Err(Rejection::new(488))),
            None => std::future::pending().await,
        }
    }

    pub(super) async fn answer_offer(&mut self, attempt: &Attempt, decision: Decision) {
        let Some(EarlyOffer { transaction, request, flow, id, .. }) = self.offer.take() else { return };
        let respond = |status, reason: &str| {
            dialog_response(
                &attempt.core,
                &id.local_tag,
                &flow,
                &attempt.contact_user,
                &request,
                status,
                reason,
            )
        };
        let response = match decision {
            Ok(sdp) => {
                if let Some(early) = self.early.iter_mut().find(|early| early.dialog.id == id) {
                    early.dialog.refresh_target(&request);
                }
                let mut response = respond(200, "");
                response.set_body("application/sdp", sdp);
                response
            }
            Err(rejection) => rejection_headers(&rejection, respond(rejection.status, &rejection.reason)),
        };
        transaction.answer(&response).await;
    }
}

/// Forks that are kept apart; those beyond are heard when they answer.
const MOST_FORKS: usize = 16;
