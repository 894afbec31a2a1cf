//! One call: a task that owns the dialog, its session state and everything that waits.
//!
//! ```text
//! owner --Command--> task --SessionEvent--> owner
//! core  --ToCall---> task --InviteServer / spawned client transactions--> transactions
//! ```

mod invite;
pub(super) mod outgoing;
mod refer;
mod requests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::command::Command;
use super::config::SipConfig;
use super::core::{Core, random};
use super::dialog::Dialog;
use super::digest::Authorization;
use super::incoming::{CallError, IncomingCall, InviteInfo, Party, Rejection};
use super::message::{Message, NameAddr, Uri};
use super::negotiation::Negotiation;
use super::refer::TransferError;
use super::reliable::{Provisional, ReliableProvisional};
use super::session::{ByeReason, Decision, EndCause, RequestError, Session, SessionEvent};
use super::session_timer::{Negotiated, SessionExpires, SessionTimeout, SessionTimer, negotiate};
use super::transaction::{InviteReport, InviteServer, ServerTransaction};
use super::transport::Flow;
use super::validate::{ALLOW, Refusal, SUPPORTED};

/// What reaches a call from outside.
pub(super) enum ToCall {
    /// A request in the dialog.
    Request { transaction: ServerTransaction, request: Message, flow: Flow },
    /// News of the INVITE server transaction with this number.
    Invite { number: u32, report: InviteReport },
    /// The final response to a request of ours.
    Response { asked: Asked, response: Message },
    /// A 2xx to a re-INVITE of ours came again.
    RepeatedAnswer(Message),
}

/// A call of ours that was answered.
pub(super) struct Established {
    pub(super) dialog: Dialog,
    pub(super) info: InviteInfo,
    pub(super) flow: Flow,
    pub(super) contact_user: String,
    /// Our offer.
    pub(super) offer: String,
    pub(super) invite: Message,
    /// The 2xx.
    pub(super) answer: Message,
    pub(super) authorization: Arc<Mutex<Authorization>>,
    /// The largest Min-SE that a 422 has named.
    pub(super) min_se: u64,
}

/// What a request of ours was for.
pub(super) enum Asked {
    Bye,
    Reinvite {
        cseq: u32,
        sdp: String,
        reply: Option<oneshot::Sender<Result<String, RequestError>>>,
    },
    /// A refresh of the session timer by UPDATE.
    Update,
    /// A PRACK; nobody waits for its answer.
    Prack,
    Info {
        reply: oneshot::Sender<Result<(), RequestError>>,
    },
    Refer {
        cseq: u32,
    },
}

/// A call that was admitted.
pub(super) struct NewCall {
    pub(super) dialog: Dialog,
    pub(super) invite: Message,
    pub(super) offer: Option<String>,
    pub(super) timer: Negotiated,
    pub(super) identity: (String, String, u32),
    pub(super) transaction: ServerTransaction,
    pub(super) flow: Flow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No final answer yet.
    Early,
    /// Our 2xx was sent; its ACK has not come.
    Answered,
    Confirmed,
    /// Our BYE is on its way.
    Ending(EndCause),
    Over,
}

struct CallTask {
    core: Arc<Core>,
    phase: Phase,
    dialog: Dialog,
    invite: Message,
    /// By what a repetition of the INVITE by another way is noticed; `None` in a call of ours.
    identity: Option<(String, String, u32)>,
    /// What a call of ours was asked to prove.
    authorization: Option<Arc<Mutex<Authorization>>>,
    /// The INVITE's source, and whether the call still counts as unacknowledged there.
    source: IpAddr,
    holds_place: bool,
    /// The way the peer's last request came.
    flow: Flow,
    contact_user: String,
    /// The INVITE server transaction in progress, the first one's included, with its number and request.
    server: InviteServer,
    server_number: u32,
    server_request: Message,
    /// The 2xx of that transaction held our offer.
    offered_in_answer: bool,
    /// Our 2xx to a re-INVITE was sent; its ACK has not come.
    reinvite_answered: bool,
    /// A re-INVITE of ours has no final response.
    client_invite: bool,
    /// The ACKs of our last re-INVITE, for repeated answers.
    last_ack: Option<(u32, Message)>,
    negotiation: Negotiation,
    /// Our last session description, repeated to refresh by re-INVITE.
    local_sdp: String,
    /// The answer to the offer in a reliable provisional response.
    early_answer: Option<String>,
    /// Offer and answer were exchanged in reliable provisional responses.
    early_settled: bool,
    negotiated: Negotiated,
    timer: SessionTimer,
    /// The largest Min-SE that a 422 of the peer has named.
    min_se: u64,
    reliable: ReliableProvisional,
    ring_reply: Option<oneshot::Sender<Result<(), CallError>>>,
    /// The last provisional response, repeated each minute (RFC 3261 13.3.1.1).
    provisional: Option<(Instant, Message)>,
    pending: Option<requests::PendingOffer>,
    wants_bye: Option<Option<ByeReason>>,
    /// A REFER of ours whose outcome is not known, and whether there was one before.
    referral: Option<refer::Referral>,
    wants_refer: Option<refer::WantedReferral>,
    referred: bool,
    peer_allows_update: bool,
    commands: mpsc::Receiver<Command>,
    mailbox: mpsc::Receiver<ToCall>,
    to_self: mpsc::Sender<ToCall>,
    events: mpsc::Sender<SessionEvent>,
    cancelled: watch::Sender<bool>,
    ended: Arc<OnceLock<EndCause>>,
}

/// The session timer of an INVITE or UPDATE, or the refusal that it asks for.
pub(super) fn negotiate_timer(request: &Message, config: &SipConfig) -> Result<Negotiated, Refusal> {
    match negotiate(request, config.session_expires, config.min_session_expires) {
        Negotiated::TooSmall { min_se } => Err(Refusal::new(422, "").with("Min-SE", min_se.to_string())),
        Negotiated::Invalid => Err(Refusal::new(400, "Malformed Session-Expires Or Min-SE")),
        negotiated => Ok(negotiated),
    }
}

/// Starts the task of a call and returns the owner's end.
pub(super) fn start(
    core: Arc<Core>,
    new: NewCall,
    to_self: mpsc::Sender<ToCall>,
    mailbox: mpsc::Receiver<ToCall>,
) -> IncomingCall {
    let (command_sender, commands) = mpsc::channel(16);
    let (events, event_receiver) = mpsc::channel(32);
    let (cancelled, cancelled_receiver) = watch::channel(false);
    let ended = Arc::new(OnceLock::new());
    let info = Arc::new(info(&new));
    let NewCall { dialog, invite, offer, timer, identity, transaction, flow } = new;
    let mut server = transaction.run_invite(to_self.clone(), |report| ToCall::Invite { number: 0, report });
    server.respond(&Message::response_to(&invite, 100, "", None));
    let mut negotiation = Negotiation::Stable;
    if offer.is_some() {
        // Nothing can be pending before the first offer.
        let _ = negotiation.handle_offer();
    }
    let task = CallTask {
        phase: Phase::Early,
        identity: Some(identity),
        authorization: None,
        source: flow.remote.ip(),
        holds_place: true,
        contact_user: info.request_uri.user.clone(),
        peer_allows_update: invite.lists("Allow", "UPDATE"),
        server_request: invite.clone(),
        server,
        server_number: 0,
        offered_in_answer: false,
        reinvite_answered: false,
        min_se: 0,
        client_invite: false,
        last_ack: None,
        negotiation,
        local_sdp: String::new(),
        early_answer: None,
        early_settled: false,
        negotiated: timer,
        timer: SessionTimer::default(),
        reliable: ReliableProvisional::new(core.config.t1, (random() & 0x00ff_ffff) as u32 + 1),
        ring_reply: None,
        provisional: None,
        pending: None,
        wants_bye: None,
        referral: None,
        wants_refer: None,
        referred: false,
        commands,
        mailbox,
        to_self,
        events,
        cancelled,
        ended: ended.clone(),
        core: core.clone(),
        dialog,
        invite,
        flow,
    };
    core.tasks.spawn(task.run());
    IncomingCall {
        info,
        offer,
        commands: command_sender,
        events: event_receiver,
        cancelled: cancelled_receiver,
        ended,
    }
}

/// Starts the task of a call of ours that was answered; its ACK goes out at once.
pub(super) fn start_established(
    core: Arc<Core>,
    new: Established,
    to_self: mpsc::Sender<ToCall>,
    mailbox: mpsc::Receiver<ToCall>,
) -> Session {
    let (command_sender, commands) = mpsc::channel(16);
    let (events, event_receiver) = mpsc::channel(32);
    let (cancelled, _) = watch::channel(false);
    let ended = Arc::new(OnceLock::new());
    let info = Arc::new(new.info);
    let mut timer = SessionTimer::default();
    timer.start_as_uac(Instant::now(), SessionExpires::of(&new.answer).unwrap_or(None));
    let none = Message::request("INVITE", "");
    let mut task = CallTask {
        phase: Phase::Confirmed,
        identity: None,
        authorization: Some(new.authorization),
        source: new.flow.remote.ip(),
        holds_place: false,
        contact_user: new.contact_user,
        peer_allows_update: new.answer.lists("Allow", "UPDATE"),
        invite: none.clone(),
        server_request: none,
        server: InviteServer::none(),
        server_number: 0,
        offered_in_answer: false,
        reinvite_answered: false,
        min_se: new.min_se,
        client_invite: false,
        last_ack: None,
        negotiation: Negotiation::Stable,
        local_sdp: new.offer,
        early_answer: None,
        early_settled: true,
        negotiated: Negotiated::Off,
        timer,
        reliable: ReliableProvisional::new(core.config.t1, 1),
        ring_reply: None,
        provisional: None,
        pending: None,
        wants_bye: None,
        referral: None,
        wants_refer: None,
        referred: false,
        commands,
        mailbox,
        to_self,
        events,
        cancelled,
        ended: ended.clone(),
        core: core.clone(),
        dialog: new.dialog,
        flow: new.flow,
    };
    task.send_first_ack(&new.invite);
    core.tasks.spawn(task.run());
    Session::new(info, command_sender, event_receiver, ended)
}

fn info(new: &NewCall) -> InviteInfo {
    invite_info(&new.invite, &new.flow, &new.invite)
}

/// What is known of a call by its INVITE and the headers of `message`, which came by `flow`.
pub(super) fn invite_info(invite: &Message, flow: &Flow, message: &Message) -> InviteInfo {
    let party = |address: Option<NameAddr>| match address {
        Some(NameAddr { display, uri, .. }) => party(display, &uri),
        None => Party::default(),
    };
    InviteInfo {
        call_id: invite.call_id().to_owned(),
        from: party(invite.from()),
        to: party(invite.to()),
        request_uri: self::party(None, invite.uri()),
        remote: flow.remote,
        local: std::net::SocketAddr::new(flow.local_ip(), flow.local.port()),
        transport: flow.transport,
        headers: message.headers.iter().map(|field| (field.name.clone(), field.value.clone())).collect(),
    }
}

fn party(display: Option<String>, uri: &str) -> Party {
    let (user, host) = Uri::parse(uri).map(|uri| (uri.user, uri.host)).unwrap_or_default();
    Party { display, user, host, uri: uri.to_owned() }
}

impl CallTask {
    async fn run(mut self) {
        let ending = self.core.ending.clone();
        let mut told_to_end = false;
        let mut owned = true;
        let mut commanded = true;
        while self.phase != Phase::Over {
            let deadline = self.poll_timeout();
            let sleep =
                deadline.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                Some(message) = self.mailbox.recv() => self.handle_mail(message).await,
                command = self.commands.recv(), if commanded => match command {
                    Some(command) => self.handle_command(command),
                    None => commanded = false,
                },
                decision = decide(&mut self.pending) => self.handle_decision(decision).await,
                () = self.events.closed(), if owned => {
                    owned = false;
                    self.handle_abandoned();
                }
                () = ending.cancelled(), if !told_to_end => {
                    told_to_end = true;
                    self.handle_shutdown();
                }
                () = tokio::time::sleep(sleep) => self.handle_timeout(Instant::now()),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let provisional = self.provisional.as_ref().map(|(at, _)| *at);
        let referral = self.referral.as_ref().map(refer::Referral::deadline);
        let timers = [self.timer.poll_timeout(), self.reliable.poll_timeout(), provisional, referral];
        timers.into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.reliable.handle_timeout(now) {
            Some(Provisional::Repeat(response)) => self.server.respond(&response),
            Some(Provisional::GiveUp) => {
                self.answer_invite(504, "No PRACK", |response| response);
                self.reply_ring(Err(CallError::NoPrack));
                self.finish(EndCause::PeerLost { status: 408 });
            }
            None => {}
        }
        if let Some((at, response)) = self.provisional.take() {
            if now >= at {
                self.server.respond(&response);
                self.provisional = Some((now + PROVISIONAL_INTERVAL, response));
            } else {
                self.provisional = Some((at, response));
            }
        }
        self.check_referral(now);
        match self.timer.handle_timeout(now) {
            Some(SessionTimeout::Refresh) => self.refresh(now),
            Some(SessionTimeout::Expire) => {
                self.core.counters.sessions_expired.increment();
                let text = "session expired".to_owned();
                self.send_bye(
                    EndCause::SessionExpired,
                    Some(ByeReason { protocol: "SIP", cause: 408, text }),
                );
            }
            None => {}
        }
    }

    async fn handle_mail(&mut self, message: ToCall) {
        match message {
            ToCall::Invite { number, report } => self.handle_invite_report(number, report),
            ToCall::Request { transaction, request, flow } => {
                self.handle_request(transaction, request, flow).await;
            }
            ToCall::Response { asked, response } => self.handle_response(asked, &response),
            ToCall::RepeatedAnswer(response) => self.repeat_ack(&response),
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Ring { status, sdp, reply } => self.ring(status, sdp, reply),
            Command::Reject { rejection, reply } => {
                let _ = reply.send(self.reject(&rejection));
            }
            Command::Accept { sdp, reply } => {
                let _ = reply.send(self.accept(sdp));
            }
            Command::Bye { reason } => self.hang_up(reason),
            Command::Reinvite { sdp, reply } => self.reinvite(sdp, reply),
            Command::Info { content_type, body, reply } => self.send_info(&content_type, body, reply),
            Command::Refer { target, patience, reply } => self.refer(&target, patience, reply),
        }
    }

    /// The owner dropped the call.
    fn handle_abandoned(&mut self) {
        match self.phase {
            Phase::Early => {
                self.answer_invite(480, "", |response| response);
                self.finish(EndCause::LocalBye);
            }
            _ => self.hang_up(None),
        }
    }

    fn handle_shutdown(&mut self) {
        match self.phase {
            Phase::Early => {
                let refusal = super::core::overloaded();
                self.answer_invite(503, "", |response| with_headers(response, &refusal));
                self.finish(EndCause::Shutdown);
            }
            Phase::Answered | Phase::Confirmed => {
                // There is no time to wait for an ACK.
                self.send_bye(EndCause::Shutdown, None);
            }
            Phase::Ending(_) | Phase::Over => {}
        }
    }

    fn emit(&mut self, event: SessionEvent) -> bool {
        let sent = self.events.try_send(event).is_ok();
        if !sent {
            self.core.counters.events_dropped.increment();
        }
        sent
    }

    fn finish(&mut self, cause: EndCause) {
        self.leave_answered();
        self.reply_ring(Err(CallError::Closed));
        self.settle_referral(Err(TransferError::Closed));
        let _ = self.ended.set(cause);
        self.phase = Phase::Over;
    }

    fn gone(&self) -> CallError {
        if *self.cancelled.borrow() { CallError::Cancelled } else { CallError::Closed }
    }

    /// A response of this dialog with what every one of them carries.
    fn response(&self, request: &Message, status: u16, reason: &str) -> Message {
        let tag = &self.dialog.id.local_tag;
        dialog_response(&self.core, tag, &self.flow, &self.contact_user, request, status, reason)
    }
}

impl Drop for CallTask {
    fn drop(&mut self) {
        self.release_place();
        self.core.forget_call(&self.dialog.id, self.identity.as_ref());
    }
}

/// A response in a dialog with what every one of them carries.
pub(super) fn dialog_response(
    core: &Core,
    local_tag: &str,
    flow: &Flow,
    contact_user: &str,
    request: &Message,
    status: u16,
    reason: &str,
) -> Message {
    let mut response = Message::response_to(request, status, reason, Some(local_tag));
    if status < 300 && matches!(request.method(), "INVITE" | "UPDATE") {
        for route in request.values("Record-Route") {
            response.push("Record-Route", route);
        }
        response.push("Contact", core.contact(flow, contact_user, request.uri()));
        response.push("Allow", ALLOW);
        response.push("Supported", SUPPORTED);
    }
    response.push("Server", &core.config.user_agent);
    response
}

/// Resolves when the owner has decided about a pending offer.
async fn decide(pending: &mut Option<requests::PendingOffer>) -> Decision {
    match pending {
        Some(pending) => match (&mut pending.decision).await {
            Ok(decision) => decision,
            Err(_) => Err(Rejection::new(488)),
        },
        None => std::future::pending().await,
    }
}

pub(super) fn rejection_headers(rejection: &Rejection, mut response: Message) -> Message {
    if let Some(warning) = &rejection.warning {
        response.push("Warning", warning_value(warning));
    }
    if let Some(after) = rejection.retry_after {
        response.push("Retry-After", after.as_secs().max(1).to_string());
    }
    for challenge in &rejection.challenges {
        response.push("WWW-Authenticate", super::message::one_line(challenge));
    }
    response
}

pub(super) fn with_headers(mut response: Message, refusal: &Refusal) -> Message {
    for (name, value) in &refusal.headers {
        response.push(name, value.as_str());
    }
    response
}

/// `warn-code SP warn-agent SP quoted text` (RFC 3261 20.43).
fn warning_value(text: &str) -> String {
    let text = super::message::one_line(text);
    let (code, text) = match text.split_once(' ') {
        Some((code, rest)) if code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()) => (code, rest),
        _ => ("399", text.as_str()),
    };
    format!("{code} sidetone \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

const PROVISIONAL_INTERVAL: Duration = Duration::from_secs(60);
