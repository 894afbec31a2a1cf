//! What arrives, and who gets it: a transaction, a call, or an answer at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Bucket, HeldBytes, InviteRate, Unacknowledged};
use super::config::SipConfig;
use super::counters::SipCounters;
use super::dialog::{Dialog, DialogId};
use super::incoming::{IncomingCall, Transport};
use super::message::{Content, Malformed, Message, Unparsable, parse, session_description};
use super::outgoing::{DialError, Method};
use super::request::{IncomingRequest, Takers};
use super::resolver::Resolver;
use super::task::{self, NewCall, ToCall};
use super::transaction::{Key, Transactions, key_of, to_bought};
use super::transport::{Flow, Handle, TcpConnections, TcpContext, Tls};
use super::validate::{ACCEPT, Refusal, SUPPORTED, check_mandatory, check_request};

/// Everything that the sockets and the calls of one endpoint share.
pub(super) struct Core {
    pub(super) config: SipConfig,
    pub(super) counters: Arc<SipCounters>,
    pub(super) transactions: Transactions,
    pub(super) draining: AtomicBool,
    /// Set when calls have to end now.
    pub(super) ending: CancellationToken,
    /// Set when the sockets have to close.
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) tcp: Arc<TcpConnections>,
    pub(super) tls: Tls,
    pub(super) resolver: Resolver,
    unacknowledged: Mutex<Unacknowledged>,
    pub(super) advertised: Option<(String, Option<u16>)>,
    calls: Mutex<Calls>,
    rate: Mutex<InviteRate>,
    held: Mutex<HeldBytes>,
    incoming: mpsc::Sender<IncomingCall>,
    takers: RwLock<Takers>,
    tag_hash: RandomState,
    /// Where we listen for TLS.
    pub(super) secure: Mutex<Vec<SocketAddr>>,
    /// Our own UDP sockets.
    ways: OnceLock<Vec<Flow>>,
}

struct KnownCall {
    mailbox: mpsc::Sender<ToCall>,
    /// What its peer may still ask for now.
    allowance: Bucket,
}

#[derive(Default)]
struct Calls {
    dialogs: HashMap<DialogId, KnownCall>,
    /// INVITEs that began a call, to notice the same one by another way (RFC 3261 8.2.2.2).
    invites: HashMap<(String, String, u32), Key>,
    /// INVITEs of ours on their way, by branch.
    outgoing: HashMap<String, mpsc::Sender<Message>>,
    /// Calls of ours without an answer.
    dialling: usize,
}

impl Core {
    pub(super) fn new(
        config: SipConfig,
        tls: Tls,
        advertised: Option<(String, Option<u16>)>,
        incoming: mpsc::Sender<IncomingCall>,
    ) -> Self {
        let limits = &config.limits;
        let rate = InviteRate::new(
            Instant::now(),
            limits.invites_per_second_per_source,
            limits.invite_burst_per_source,
            limits.sources,
        );
        Self {
            counters: Arc::default(),
            transactions: Transactions::new(&config),
            draining: AtomicBool::new(false),
            ending: CancellationToken::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            tcp: Arc::default(),
            tls,
            resolver: Resolver::new(&config.name_servers),
            unacknowledged: Mutex::default(),
            advertised,
            calls: Mutex::default(),
            rate: Mutex::new(rate),
            held: Mutex::new(HeldBytes::new(config.t1 * 128)),
            incoming,
            takers: RwLock::default(),
            tag_hash: RandomState::new(),
            secure: Mutex::default(),
            ways: OnceLock::new(),
            config,
        }
    }

    pub(super) fn tcp_context(self: &Arc<Self>) -> TcpContext<SharedCore> {
        TcpContext {
            connections: self.tcp.clone(),
            limits: self.config.limits.clone(),
            counters: self.counters.clone(),
            closing: self.closing.clone(),
            handler: Arc::new(SharedCore(self.clone())),
        }
    }

    /// Says once which sockets there are; later words are not heard.
    pub(super) fn set_ways(&self, ways: Vec<Flow>) {
        let _ = self.ways.set(ways);
    }

    /// Our own UDP sockets, towards nobody in particular.
    pub(super) fn ways(&self) -> &[Flow] {
        self.ways.get().map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn call_count(&self) -> usize {
        self.lock_calls().dialogs.len()
    }

    pub(super) fn forget_call(&self, id: &DialogId, invite: Option<&(String, String, u32)>) {
        let mut calls = self.lock_calls();
        calls.dialogs.remove(id);
        if let Some(invite) = invite {
            calls.invites.remove(invite);
        }
    }

    /// Requests in a dialog that our INVITE began go to this mailbox from now on.
    pub(super) fn know_dialog(&self, id: DialogId, mailbox: mpsc::Sender<ToCall>) {
        let allowance = Bucket::new(Instant::now(), REQUEST_BURST);
        self.lock_calls().dialogs.insert(id, KnownCall { mailbox, allowance });
    }

    /// Responses to the INVITE with this branch go to this queue, until [`Self::forget_invite`].
    pub(super) fn know_invite(&self, branch: String, responses: mpsc::Sender<Message>) {
        self.lock_calls().outgoing.insert(branch, responses);
    }

    pub(super) fn forget_invite(&self, branch: &str) {
        self.lock_calls().outgoing.remove(branch);
    }

    /// Says whether a call of ours may begin, and takes its place until [`Self::end_dialling`].
    pub(super) fn begin_dialling(&self) -> Result<(), DialError> {
        if self.draining.load(Ordering::Relaxed) || self.ending.is_cancelled() {
            return Err(DialError::Draining);
        }
        let limits = &self.config.limits;
        let transactions = self.transactions.count() >= limits.transactions;
        let mut calls = self.lock_calls();
        if transactions || calls.dialogs.len() + calls.dialling >= limits.calls {
            self.counters.outgoing_refused.increment();
            return Err(DialError::Overloaded);
        }
        calls.dialling += 1;
        Ok(())
    }

    pub(super) fn end_dialling(&self) {
        let mut calls = self.lock_calls();
        calls.dialling = calls.dialling.saturating_sub(1);
    }

    fn lock_calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call_of(&self, id: &DialogId) -> Option<mpsc::Sender<ToCall>> {
        self.lock_calls().dialogs.get(id).map(|known| known.mailbox.clone())
    }

    /// The call of a request, and whether its peer has not asked for too much of late.
    fn call_to_ask(&self, id: &DialogId) -> Option<(mpsc::Sender<ToCall>, bool)> {
        let mut calls = self.lock_calls();
        let known = calls.dialogs.get_mut(id)?;
        let allowed = known.allowance.take(Instant::now(), REQUESTS_PER_SECOND, REQUEST_BURST);
        Some((known.mailbox.clone(), allowed))
    }

    /// Whether the requests of a source that are remembered leave room for this one.
    fn has_room(&self, source: IpAddr, request: &Message) -> bool {
        let bytes = request.bytes().saturating_sub(ORDINARY_BYTES);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), source, bytes)
    }

    /// Answers without a transaction: the same request gets the same answer, To tag included, and costs
    /// no memory (RFC 3261 8.2.7).
    fn answer(&self, flow: &Flow, request: &Message, refusal: Refusal) {
        let mut hasher = self.tag_hash.build_hasher();
        for name in ["Via", "Call-ID", "From", "CSeq"] {
            hasher.write(request.header(name).unwrap_or_default().as_bytes());
        }
        let tag = format!("{:016x}", hasher.finish());
        let mut response = Message::response_to(request, refusal.status, refusal.reason, Some(&tag));
        for (name, value) in refusal.headers {
            response.push(name, value);
        }
        response.push("Server", &self.config.user_agent);
        flow.send(response.write());
    }

    fn refuse(&self, flow: &Flow, request: &Message, refusal: Refusal) {
        self.counters.refused_requests.increment();
        self.answer(flow, request, refusal);
    }

    fn count_malformed(&self, why: Malformed) {
        let counters = &self.counters;
        let counter = match why {
            Malformed::Empty => &counters.malformed_empty,
            Malformed::TooLarge => &counters.malformed_too_large,
            Malformed::StartLine => &counters.malformed_start_line,
            Malformed::Header => &counters.malformed_header,
            Malformed::TooManyHeaders => &counters.malformed_too_many_headers,
            Malformed::ControlCharacter => &counters.malformed_control_character,
            Malformed::Encoding => &counters.malformed_encoding,
            Malformed::ContentLength => &counters.malformed_content_length,
            Malformed::Mandatory => &counters.malformed_mandatory,
            Malformed::Truncated => &counters.malformed_truncated,
        };
        counter.increment();
    }

    /// A 400 for what can be answered: a request other than ACK with a Via.
    fn answer_unparsable(&self, flow: &Flow, unparsable: Unparsable) {
        self.count_malformed(unparsable.why);
        let mut salvage = unparsable.salvage;
        let method = salvage.method();
        if method.is_empty() || method == "ACK" || !salvage.note_source(flow.remote) {
            return;
        }
        self.counters.malformed_answered.increment();
        self.answer(flow, &salvage, Refusal::new(400, unparsable.why.reason()));
    }

    async fn handle_message(self: &Arc<Self>, flow: &Flow, data: &[u8]) {
        self.counters.received_messages.increment();
        if data.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            self.counters.keepalives.increment();
            return;
        }
        match parse(data) {
            Err(unparsable) => self.answer_unparsable(flow, *unparsable),
            Ok(message) if message.is_request() => self.handle_request(flow, message).await,
            Ok(message) => self.handle_response(flow, message).await,
        }
    }

    async fn handle_response(&self, flow: &Flow, message: Message) {
        if self.handle_invite_response(&message) {
            self.counters.received_responses.increment();
            return;
        }
        let bought = to_bought(&message);
        match bought.as_ref().and_then(key_of) {
            Some(key) if self.transactions.knows(&key) => {
                self.counters.received_responses.increment();
                if let Some(bought) = bought {
                    self.transactions.deliver(bought, flow).await;
                }
            }
            // A 2xx that comes again after its transaction ended wants another ACK (RFC 3261 13.2.2.4).
            _ if message.status() / 100 == 2
                && message.cseq().is_some_and(|(_, method)| method == "INVITE") =>
            {
                if !self.repeat_answer(message) {
                    self.counters.stray_responses.increment();
                }
            }
            _ => self.counters.stray_responses.increment(),
        }
    }

    /// A 2xx came again; `false` when its call is not known.
    pub(super) fn repeat_answer(&self, response: Message) -> bool {
        let call = DialogId::of_response(&response).and_then(|id| self.call_of(&id));
        let Some(call) = call else { return false };
        // A call that does not get to reading it gets the next one.
        let _ = call.try_send(ToCall::RepeatedAnswer(response));
        true
    }

    /// Whether it is an answer to an INVITE of a call of ours. A peer that sends more provisional responses than are read
    /// loses them; there is always room for the final one.
    fn handle_invite_response(&self, response: &Message) -> bool {
        let Some((_, "INVITE")) = response.cseq() else { return false };
        let Some(via) = response.top_via() else { return false };
        let queue = via.branch().and_then(|branch| self.lock_calls().outgoing.get(branch).cloned());
        let Some(queue) = queue else { return false };
        let provisional = response.status() < 200;
        if provisional && queue.capacity() <= FINAL_PLACES || queue.try_send(response.clone()).is_err() {
            self.counters.provisionals_dropped.increment();
        }
        true
    }

    async fn handle_request(self: &Arc<Self>, flow: &Flow, mut request: Message) {
        let flow = &request.top_via().map_or_else(|| flow.clone(), |via| flow.for_answers(&via));
        if !request.note_source(flow.remote) {
            // Without a Via there is nobody to answer.
            self.count_malformed(Malformed::Mandatory);
            return;
        }
        if let Err(refusal) = check_mandatory(&request) {
            if refusal.status == 400 {
                self.count_malformed(Malformed::Mandatory);
            }
            if request.method() != "ACK" {
                self.refuse(flow, &request, refusal);
            }
            return;
        }
        self.counters.received_requests.increment();
        let bought = to_bought(&request);
        let Some((bought, key)) = bought.and_then(|bought| key_of(&bought).map(|key| (bought, key))) else {
            // Methods that have no transaction here, or identifiers that it cannot read.
            let refusal = check_request(&request, &self.allow())
                .err()
                .unwrap_or_else(|| Refusal::new(400, "Malformed Header Field"));
            return self.refuse(flow, &request, refusal);
        };
        match request.method() {
            "ACK" => {
                let in_dialog = DialogId::of_request(&request).and_then(|id| self.call_of(&id)).is_some();
                if !in_dialog && !self.transactions.knows(&key) {
                    self.counters.stray_acks.increment();
                }
                return self.transactions.deliver(bought, flow).await;
            }
            "CANCEL" if !self.transactions.knows(&key) => {
                return self.refuse(flow, &request, Refusal::new(481, ""));
            }
            _ if self.transactions.knows(&key) => {
                if request.method() != "CANCEL" {
                    self.counters.retransmissions_received.increment();
                }
                return self.transactions.deliver(bought, flow).await;
            }
            _ => {}
        }
        if let Err(refusal) = check_request(&request, &self.allow()) {
            return self.refuse(flow, &request, refusal);
        }
        // RFC 5630 section 3.1.3: who writes `sips` wants every hop encrypted, and this one was not.
        if flow.transport != Transport::Tls && has_scheme(request.uri(), "sips") {
            return self.refuse(flow, &request, Refusal::new(416, ""));
        }
        let rsipstack::sip::SipMessage::Request(bought) = bought else { return };
        if request.to_tag().is_some() {
            return self.handle_in_dialog(flow, request, key, bought);
        }
        match request.method() {
            "INVITE" => self.handle_invite(flow, request, key, bought),
            "OPTIONS" => self.answer_options(flow, &request),
            "MESSAGE" | "REGISTER" => self.hand_over(flow, request, key, bought),
            _ => self.refuse(flow, &request, Refusal::new(481, "")),
        }
    }

    fn handle_in_dialog(&self, flow: &Flow, request: Message, key: Key, bought: rsipstack::sip::Request) {
        let call = DialogId::of_request(&request).and_then(|id| self.call_to_ask(&id));
        let Some((call, allowed)) = call else {
            return self.refuse(flow, &request, Refusal::new(481, ""));
        };
        // A transaction is remembered for half a minute; one call must not fill the memory with them, nor
        // take their places from others. It may always end.
        if request.method() != "BYE" && (!allowed || !self.has_room(flow.remote.ip(), &request)) {
            self.counters.refused_rate.increment();
            return self.answer(flow, &request, overloaded());
        }
        // Twice the cap: what belongs to a call wins over what wants to become one.
        if self.transactions.count() >= self.config.limits.transactions.saturating_mul(2) {
            self.counters.dropped_overload.increment();
            return;
        }
        match call.try_reserve() {
            Ok(permit) => {
                let transaction = self.transactions.new_server(key, bought, flow);
                permit.send(ToCall::Request { transaction, request, flow: flow.clone() });
            }
            // The call is ending, or its peer sends faster than it can be answered.
            Err(mpsc::error::TrySendError::Closed(())) => self.refuse(flow, &request, Refusal::new(481, "")),
            Err(mpsc::error::TrySendError::Full(())) => self.refuse(flow, &request, overloaded()),
        }
    }

    fn answer_options(&self, flow: &Flow, request: &Message) {
        if self.draining.load(Ordering::Relaxed) {
            self.counters.refused_draining.increment();
            return self.answer(flow, request, overloaded());
        }
        self.answer(flow, request, capabilities(&self.allow()));
    }

    /// Whoever takes requests with this method from now on.
    pub(super) fn take_requests(&self, method: Method) -> mpsc::Receiver<IncomingRequest> {
        self.takers.write().unwrap_or_else(PoisonError::into_inner).take(method)
    }

    fn allow(&self) -> String {
        self.takers.read().unwrap_or_else(PoisonError::into_inner).allow()
    }

    /// Gives a request to whoever takes its kind, within the limits for new calls.
    fn hand_over(self: &Arc<Self>, flow: &Flow, request: Message, key: Key, bought: rsipstack::sip::Request) {
        let taker = self.takers.read().unwrap_or_else(PoisonError::into_inner).of(request.method());
        let Some((method, taker)) = taker else { return self.refuse(flow, &request, Refusal::new(405, "")) };
        if self.draining.load(Ordering::Relaxed) {
            self.counters.refused_draining.increment();
            return self.answer(flow, &request, overloaded());
        }
        let source = flow.remote.ip();
        let room = self.transactions.count() < self.config.limits.transactions;
        let Some(permit) = taker.try_reserve().ok().filter(|_| room && self.has_room(source, &request))
        else {
            self.counters.refused_overload.increment();
            return self.answer(flow, &request, overloaded());
        };
        if !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), source) {
            self.counters.refused_rate.increment();
            return self.answer(flow, &request, overloaded());
        }
        self.counters.requests_taken.increment();
        let transaction = self.transactions.new_server(key, bought, flow);
        let info = task::invite_info(&request, flow, &request);
        permit.send(IncomingRequest::new(self.clone(), method, info, request, transaction));
    }

    /// Says whether a new call may begin, before anything is allocated for it.
    fn admit(&self, source: IpAddr, invite: &Message) -> Result<mpsc::Permit<'_, IncomingCall>, Refusal> {
        let limits = &self.config.limits;
        if self.draining.load(Ordering::Relaxed) {
            self.counters.refused_draining.increment();
            return Err(overloaded());
        }
        let full = self.call_count() >= limits.calls || self.transactions.count() >= limits.transactions;
        let permit = self.incoming.try_reserve().ok().filter(|_| !full);
        let Some(permit) = permit else {
            self.counters.refused_overload.increment();
            return Err(overloaded());
        };
        if !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), source) {
            self.counters.refused_rate.increment();
            return Err(overloaded());
        }
        if !self.has_room(source, invite) || !self.lock_unacknowledged().take(source, limits.unacknowledged) {
            self.counters.refused_overload.increment();
            return Err(overloaded());
        }
        Ok(permit)
    }

    pub(super) fn lock_unacknowledged(&self) -> MutexGuard<'_, Unacknowledged> {
        self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle_invite(
        self: &Arc<Self>,
        flow: &Flow,
        invite: Message,
        key: Key,
        bought: rsipstack::sip::Request,
    ) {
        let identity = (
            invite.call_id().to_owned(),
            invite.sender_tag().unwrap_or_default(),
            invite.cseq().map_or(0, |(number, _)| number),
        );
        let merged = {
            let calls = self.lock_calls();
            calls.invites.get(&identity).is_some_and(|known| *known != key)
        };
        if merged {
            self.counters.merged_requests.increment();
            return self.refuse(flow, &invite, Refusal::new(482, ""));
        }
        let Some(dialog) = Dialog::from_invite(&invite, &random_token()) else {
            return self.refuse(flow, &invite, Refusal::new(400, "Missing Or Malformed Contact"));
        };
        let offer = match session_description(&invite) {
            Content::Sdp(sdp) => Some(sdp),
            _ => None,
        };
        let timer = match task::negotiate_timer(&invite, &self.config) {
            Ok(timer) => timer,
            Err(refusal) => return self.refuse(flow, &invite, refusal),
        };
        let permit = match self.admit(flow.remote.ip(), &invite) {
            Ok(permit) => permit,
            Err(refusal) => return self.answer(flow, &invite, refusal),
        };
        let transaction = self.transactions.new_server(key.clone(), bought, flow);
        let (to_call, mailbox) = mpsc::channel(64);
        {
            let mut calls = self.lock_calls();
            let allowance = Bucket::new(Instant::now(), REQUEST_BURST);
            calls.dialogs.insert(dialog.id.clone(), KnownCall { mailbox: to_call.clone(), allowance });
            calls.invites.insert(identity.clone(), key.clone());
        }
        self.counters.invites.increment();
        let new = NewCall { dialog, invite, offer, timer, identity, transaction, flow: flow.clone() };
        permit.send(task::start(self.clone(), new, to_call, mailbox));
    }
}

/// The core behind an `Arc`, as the transports know it.
pub(super) struct SharedCore(pub(super) Arc<Core>);

impl Handle for SharedCore {
    async fn handle(&self, flow: &Flow, data: &[u8]) {
        self.0.handle_message(flow, data).await;
    }
}

/// 200 to OPTIONS (RFC 3261 11.2).
pub(super) fn capabilities(allow: &str) -> Refusal {
    Refusal::new(200, "")
        .with("Allow", allow)
        .with("Accept", ACCEPT)
        .with("Accept-Encoding", "identity")
        .with("Accept-Language", "en")
        .with("Supported", SUPPORTED)
}

/// 503 with a Retry-After that spreads those who come back over 5 to 30 s.
pub(super) fn overloaded() -> Refusal {
    Refusal::new(503, "").with("Retry-After", (5 + random() % 26).to_string())
}

pub(super) fn random() -> u64 {
    // Without random numbers there is nothing that could be kept apart or secret.
    getrandom::u64().expect("the operating system has random numbers")
}

pub(super) fn random_token() -> String {
    format!("{:016x}", random())
}

fn has_scheme(uri: &str, scheme: &str) -> bool {
    uri.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(scheme))
}

/// What a peer may ask for in one call: far more keys than anybody presses, far fewer than a flood.
const REQUESTS_PER_SECOND: f64 = 10.0;
const REQUEST_BURST: f64 = 100.0;
/// What a message may have without counting as large.
const ORDINARY_BYTES: usize = 4096;
/// Places for final responses in the queue of an INVITE of ours.
const FINAL_PLACES: usize = 8;
