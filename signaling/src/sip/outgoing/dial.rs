//! A call of ours until it is answered: the addresses of its target one after the other, challenges, forks, giving up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Event};
use super::early::Forks;
use super::failure::{Failure, FailureClass};
use super::linger::{hang_up, linger};
use super::{DialError, OutgoingCall, OutgoingInvite, Progress};
use crate::sip::core::{Core, random_token};
use crate::sip::digest::Authorization;
use crate::sip::message::{Content, Message, decimal, session_description};
use crate::sip::resolver::Hop;
use crate::sip::session::ByeReason;
use crate::sip::task::{Established, ToCall, invite_info, start_established};
use crate::sip::transport::Flow;
use crate::sip::validate::{ACCEPT, ALLOW, SUPPORTED};

/// Starts a call.
pub(in crate::sip) fn start(core: &Arc<Core>, invite: OutgoingInvite) -> Result<OutgoingCall, DialError> {
    if invite.offer.is_empty() || invite.offer.len() > MAX_OFFER_BYTES || invite.offer.contains('\0') {
        return Err(DialError::Unsendable);
    }
    core.begin_dialling()?;
    let call_id = random_token() + &random_token();
    let (progress, receiver) = mpsc::channel(PROGRESS);
    let (cancel, cancelled) = oneshot::channel();
    let place = Place(core.clone());
    // Whatever happens before, there is room for how it ends.
    let Ok(last) = progress.clone().try_reserve_owned() else { return Err(DialError::Overloaded) };
    let (to_self, mailbox) = mpsc::channel(64);
    let now = Instant::now();
    let dial = Dial {
        contact_user: invite.contact_user.clone().unwrap_or_else(|| invite.from.user()),
        authorization: Arc::new(Mutex::new(Authorization::new(invite.credentials.clone()))),
        session_expires: core.config.session_expires.as_secs(),
        min_se: core.config.min_session_expires.as_secs(),
        ring_deadline: now + invite.ring_timeout.min(LONGEST_RING),
        core: core.clone(),
        call_id: call_id.clone(),
        local_tag: random_token(),
        cseq: 0,
        invite,
        progress,
        to_self,
        mailbox,
        cancelled,
        _place: place,
    };
    core.tasks.spawn(dial.run(last));
    Ok(OutgoingCall { call_id, progress: receiver, cancel: Some(cancel) })
}

/// A place among the calls that are not answered.
struct Place(Arc<Core>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.end_dialling();
    }
}

struct Dial {
    core: Arc<Core>,
    invite: OutgoingInvite,
    call_id: String,
    local_tag: String,
    cseq: u32,
    contact_user: String,
    authorization: Arc<Mutex<Authorization>>,
    session_expires: u64,
    min_se: u64,
    ring_deadline: Instant,
    progress: mpsc::Sender<Progress>,
    to_self: mpsc::Sender<ToCall>,
    mailbox: mpsc::Receiver<ToCall>,
    cancelled: oneshot::Receiver<Option<ByeReason>>,
    _place: Place,
}

/// How an attempt ended.
enum Outcome {
    /// A final response.
    Final(Message),
    Silent,
    Broken,
    RingTimeout,
    Cancelled(Option<ByeReason>),
    Shutdown,
}

/// What an attempt leads to.
enum Then {
    /// The same again, with what was asked for.
    Again,
    /// The next address of the target (RFC 3263 4.3).
    NextAddress(Failure),
    End(Failure),
    Answered,
}

impl Dial {
    async fn run(mut self, last: OwnedPermit<Progress>) {
        let core = self.core.clone();
        let target = self.invite.target.clone();
        let hops = tokio::select! {
            hops = core.hops(&target) => hops,
            stopped = self.stopped() => return self.fail(last, stopped.failure()),
        };
        let mut failure = Failure::local(
            FailureClass::Unreachable,
            503,
            DialError::Unreachable(self.invite.target.host()).to_string(),
        );
        let mut last = last;
        for (index, hop) in hops.into_iter().enumerate() {
            if index > 0 {
                core.counters.outgoing_failovers.increment();
            }
            let flow = tokio::select! {
                flow = core.flow_of(&hop) => flow,
                stopped = self.stopped() => return self.fail(last, stopped.failure()),
            };
            let Some(flow) = flow else {
                core.resolver.note_failure(&hop, std::time::Instant::now());
                failure = unreachable_hop(&hop);
                continue;
            };
            let mut then = Then::Again;
            for _ in 0..MOST_REQUESTS {
                let (next, kept) = self.attempt(flow.clone(), last).await;
                let Some(kept) = kept else { return };
                (then, last) = (next, kept);
                if !matches!(then, Then::Again) {
                    break;
                }
            }
            match then {
                Then::NextAddress(why) => {
                    core.resolver.note_failure(&hop, std::time::Instant::now());
                    failure = why;
                }
                Then::End(why) => return self.fail(last, why),
                Then::Again => {
                    let text = "the server asks without end";
                    return self.fail(last, Failure::local(FailureClass::Challenged, 482, text));
                }
                Then::Answered => return,
            }
        }
        self.fail(last, failure);
    }

    fn fail(self, last: OwnedPermit<Progress>, failure: Failure) {
        let counters = &self.core.counters;
        let cancelled = failure.class == FailureClass::Cancelled;
        if cancelled { &counters.outgoing_cancelled } else { &counters.outgoing_failed }.increment();
        last.send(Progress::Failed(failure));
    }

    /// Completes when nobody wants the call any more, with no INVITE out.
    async fn stopped(&mut self) -> Outcome {
        tokio::select! {
            reason = &mut self.cancelled => Outcome::Cancelled(reason.ok().flatten()),
            () = self.core.ending.cancelled() => Outcome::Shutdown,
            () = sleep_until(self.ring_deadline) => Outcome::RingTimeout,
        }
    }

    /// One INVITE. The permit is gone with an answer.
    async fn attempt(
        &mut self,
        flow: Flow,
        last: OwnedPermit<Progress>,
    ) -> (Then, Option<OwnedPermit<Progress>>) {
        let invite = self.write_invite();
        let invite = self.core.addressed(invite, &flow, &self.contact_user);
        let remote = Some(flow.remote);
        let attempt = Attempt::start(self.core.clone(), invite, flow, self.contact_user.clone()).await;
        let Some(mut attempt) = attempt else {
            let failure = Failure::local(FailureClass::Refused, 500, DialError::Unsendable.to_string());
            return (Then::End(failure), Some(last));
        };
        let mut forks = Forks::default();
        let outcome = self.wait(&mut attempt, &mut forks).await;
        let then = match outcome {
            Outcome::Final(response) if response.status() < 300 => {
                let failed = self.answered(attempt, forks, response, last);
                return failed
                    .map_or((Then::Answered, None), |(failure, last)| (Then::End(failure), Some(last)));
            }
            Outcome::Final(response) => {
                let then = self.refused(&attempt, &response);
                forks.forget(&attempt);
                linger(attempt, false, None);
                then
            }
            outcome => {
                forks.forget(&attempt);
                let then = match &outcome {
                    Outcome::Silent | Outcome::Broken => {
                        Then::NextAddress(Failure { remote, ..outcome.failure() })
                    }
                    _ => Then::End(Failure { remote, ..outcome.failure() }),
                };
                let reason = match outcome {
                    Outcome::Cancelled(reason) => reason,
                    _ => None,
                };
                linger(attempt, true, reason);
                then
            }
        };
        (then, Some(last))
    }

    /// Until there is a final response, or nobody waits for it any more.
    async fn wait(&mut self, attempt: &mut Attempt, forks: &mut Forks) -> Outcome {
        let silent = Instant::now() + self.invite.response_timeout;
        loop {
            let unheard = !attempt.is_answered();
            tokio::select! {
                biased;
                reason = &mut self.cancelled => return Outcome::Cancelled(reason.ok().flatten()),
                () = self.core.ending.cancelled() => return Outcome::Shutdown,
                event = attempt.next() => match event {
                    Event::Response(response) if response.status() >= 200 => return Outcome::Final(response),
                    Event::Response(response) => {
                        let told = forks.handle_provisional(attempt, &response, &self.to_self);
                        self.tell(told);
                    }
                    Event::TimedOut | Event::Over => return Outcome::Silent,
                    Event::Broken => return Outcome::Broken,
                },
                Some(mail) = self.mailbox.recv() => {
                    if let ToCall::Request { transaction, request, flow } = mail {
                        let told = forks.handle_request(attempt, transaction, request, flow).await;
                        self.tell(told);
                    }
                }
                decision = forks.decided() => forks.answer_offer(attempt, decision).await,
                () = sleep_until(silent), if unheard => return Outcome::Silent,
                () = sleep_until(self.ring_deadline) => return Outcome::RingTimeout,
            }
        }
    }

    /// An owner that does not read loses provisional responses.
    fn tell(&self, progress: Option<Progress>) {
        if let Some(progress) = progress
            && self.progress.try_send(progress).is_err()
        {
            self.core.counters.provisionals_dropped.increment();
        }
    }

    fn write_invite(&mut self) -> Message {
        self.cseq += 1;
        let OutgoingInvite { target, request_user, from, to, .. } = &self.invite;
        let uri = target.request_uri(request_user.as_deref());
        let mut invite = Message::request("INVITE", &uri);
        invite.push("Max-Forwards", "70");
        for route in target.routes() {
            invite.push("Route", route);
        }
        invite.push("From", format!("{from};tag={}", self.local_tag));
        invite.push("To", to.as_ref().map_or_else(|| format!("<{uri}>"), ToString::to_string));
        invite.push("Call-ID", &self.call_id);
        invite.push("CSeq", format!("{} INVITE", self.cseq));
        invite.push("Allow", ALLOW);
        invite.push("Supported", SUPPORTED);
        invite.push("Accept", ACCEPT);
        invite.push("Session-Expires", self.session_expires.max(self.min_se).to_string());
        invite.push("Min-SE", self.min_se.to_string());
        if let Some(identity) = &self.invite.asserted_identity {
            invite.push("P-Asserted-Identity", identity.to_string());
        }
        if self.invite.private {
            invite.push("Privacy", "id");
        }
        if let Some(diversion) = &self.invite.diversion {
            invite.push("Diversion", diversion.to_string());
        }
        for (name, value) in self.invite.headers.iter() {
            invite.push(name, value);
        }
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .authorize(&mut invite, &random_token());
        invite.set_body("application/sdp", self.invite.offer.clone());
        invite
    }

    /// A final response other than 2xx.
    fn refused(&mut self, attempt: &Attempt, response: &Message) -> Then {
        let mut failure = Failure::of_response(response, Some(attempt.flow.remote));
        match response.status() {
            401 | 407 => {
                let mut authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
                match authorization.handle_challenge(&attempt.invite, response) {
                    Ok(()) => return Then::Again,
                    Err(why) => {
                        failure.reason = format!("{} ({})", failure.reason, why.text());
                    }
                }
            }
            // RFC 4028 7.3.
            422 => {
                let min_se = response.header("Min-SE").and_then(decimal).unwrap_or(0);
                if min_se > self.min_se && min_se <= LONGEST_SESSION {
                    self.min_se = min_se;
                    return Then::Again;
                }
            }
            // RFC 3263 4.3.
            503 => return Then::NextAddress(failure),
            _ => {}
        }
        Then::End(failure)
    }

    /// The first fork that answers is the call.
    fn answered(
        &mut self,
        attempt: Attempt,
        mut forks: Forks,
        response: Message,
        last: OwnedPermit<Progress>,
    ) -> Option<(Failure, OwnedPermit<Progress>)> {
        let remote = Some(attempt.flow.remote);
        let confirmed = crate::sip::dialog::Dialog::from_response(&attempt.invite, &response);
        let Some(confirmed) = confirmed.filter(|dialog| !dialog.id.remote_tag.is_empty()) else {
            forks.forget(&attempt);
            hang_up(&attempt, &response, true);
            let failure = Failure::local(FailureClass::ServerFailure, 500, "the answer has no To tag");
            return Some((Failure { remote, ..failure }, last));
        };
        let early = forks.choose(&attempt, &confirmed.id);
        let (mut settled, mut answer) = (false, None);
        let dialog = match early {
            Some(mut early) => {
                (settled, answer) = (early.settled, early.answer.take());
                early.dialog.confirm(confirmed);
                early.dialog
            }
            None => confirmed,
        };
        // RFC 3262 5: what came reliably is the answer. Some peers say it in an unreliable 183 only.
        let sdp = match session_description(&response) {
            Content::Sdp(sdp) if !settled => Some(sdp),
            _ => answer,
        };
        let Some(sdp) = sdp else {
            hang_up(&attempt, &response, true);
            let failure = Failure::local(FailureClass::ServerFailure, 500, "the answer has no SDP");
            return Some((Failure { remote, ..failure }, last));
        };
        self.core.counters.outgoing_answered.increment();
        let (to_self, _) = mpsc::channel(1);
        let (_, mailbox) = mpsc::channel(1);
        let to_self = std::mem::replace(&mut self.to_self, to_self);
        let mailbox = std::mem::replace(&mut self.mailbox, mailbox);
        self.core.know_dialog(dialog.id.clone(), to_self.clone());
        let established = Established {
            info: invite_info(&attempt.invite, &attempt.flow, &response),
            dialog,
            flow: attempt.flow.clone(),
            contact_user: self.contact_user.clone(),
            offer: self.invite.offer.clone(),
            invite: attempt.invite.clone(),
            answer: response,
            authorization: self.authorization.clone(),
            min_se: self.min_se,
        };
        let session = start_established(self.core.clone(), established, to_self, mailbox);
        linger(attempt, false, None);
        last.send(Progress::Answered { session, sdp });
        None
    }
}

impl Outcome {
    fn failure(&self) -> Failure {
        match self {
            Self::Silent => Failure::local(FailureClass::TimedOut, 408, "the server did not answer in time"),
            Self::Broken => Failure::local(FailureClass::Unreachable, 503, "the connection broke"),
            Self::RingTimeout => Failure::local(FailureClass::NoAnswer, 408, "it rang in vain"),
            Self::Cancelled(_) => Failure::local(FailureClass::Cancelled, 487, "cancelled"),
            Self::Shutdown => Failure::local(FailureClass::Cancelled, 487, "shut down"),
            Self::Final(response) => Failure::of_response(response, None),
        }
    }
}

fn unreachable_hop(hop: &Hop) -> Failure {
    let text = format!("{} cannot be reached by {}", hop.address, hop.transport.name());
    let failure = Failure::local(FailureClass::Unreachable, 503, text);
    Failure { remote: Some(hop.address), ..failure }
}

/// Challenges of several realms, stale nonces and intervals that are too small, and the request itself.
const MOST_REQUESTS: usize = 6;
/// What waits for an owner to be read.
const PROGRESS: usize = 32;
const MAX_OFFER_BYTES: usize = 32 * 1024;
/// RFC 3261 16.6, timer C is three minutes and more; nobody listens to ringing for an hour.
const LONGEST_RING: Duration = Duration::from_secs(3600);
const LONGEST_SESSION: u64 = 86_400;
