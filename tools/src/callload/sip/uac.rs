//! One call as its caller sees it: the INVITE and BYE client transactions (RFC 3261 section 17.1) and the dialog
//! between them (section 12). Sans-IO: messages and time go in, [`Output`]s come out.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};

use super::message::{Message, StartLine, tag, uri};

/// The same for every call of a worker.
#[derive(Clone, Debug)]
pub(in crate::callload) struct UacConfig {
    pub(in crate::callload) request_uri: String,
    /// Where the first INVITE goes.
    pub(in crate::callload) destination: SocketAddr,
    /// Address of our SIP socket.
    pub(in crate::callload) local: SocketAddr,
    /// `UDP` or `TCP`.
    pub(in crate::callload) transport: &'static str,
    pub(in crate::callload) from_user: String,
    /// Unlike that of any other worker or run.
    pub(in crate::callload) run: u64,
    /// How long an INVITE may stay without a final response.
    pub(in crate::callload) answer_timeout_ns: u64,
}

/// What the owner must do or know.
#[derive(Debug)]
pub(in crate::callload) enum Output {
    Send(SocketAddr, Vec<u8>),
    /// First provisional response above 100; carries its SDP, if any.
    Ringing,
    /// 200 came and was acknowledged; its SDP.
    Answered(String),
    /// A re-INVITE or UPDATE with an offer: answer with [`Uac::answer_offer`].
    Offered(Box<Message>),
    /// Never answered: why.
    Failed(String),
    /// BYE from the far end (`true`), or ours was answered or gave up.
    Ended {
        by_peer: bool,
        clean: bool,
    },
    Retransmitted,
    RepeatedAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Calling,
    Proceeding,
    /// CANCEL sent, waiting for 487 or a crossing 200.
    Cancelling,
    Established,
    /// BYE sent.
    Leaving,
    Terminated,
}

/// A call. Reused for the next one by [`Uac::start`].
pub(in crate::callload) struct Uac {
    config: Arc<UacConfig>,
    state: State,
    number: u64,
    dialog: Option<Dialog>,
    /// The request timers A or E send again.
    pending: Vec<u8>,
    pending_to: SocketAddr,
    interval_ns: u64,
    resend_ns: Option<u64>,
    give_up_ns: u64,
    /// ACK of a final response, sent again when the response comes again.
    ack: Option<(SocketAddr, Vec<u8>)>,
    hang_up_wanted: bool,
}

struct Dialog {
    remote_tag: String,
    to: String,
    remote_target: String,
    /// In the order of use: Record-Route reversed (RFC 3261 section 12.1.2).
    route_set: Vec<String>,
    destination: SocketAddr,
    cseq: u32,
}

impl Uac {
    pub(in crate::callload) fn new(config: Arc<UacConfig>) -> Self {
        let pending_to = config.destination;
        Self {
            config,
            state: State::Idle,
            number: 0,
            dialog: None,
            pending: Vec::new(),
            pending_to,
            interval_ns: 0,
            resend_ns: None,
            give_up_ns: u64::MAX,
            ack: None,
            hang_up_wanted: false,
        }
    }

    /// Sends the INVITE of call `number` with this offer.
    pub(in crate::callload) fn start(
        &mut self,
        now_ns: u64,
        number: u64,
        offer: &str,
        out: &mut Vec<Output>,
    ) {
        self.state = State::Calling;
        self.number = number;
        self.dialog = None;
        self.ack = None;
        self.hang_up_wanted = false;
        let invite = self.request("INVITE", &self.config.request_uri, 1, None, &self.branch(1), Some(offer));
        self.give_up_ns = now_ns + self.config.answer_timeout_ns;
        self.transmit(now_ns, self.config.destination, invite, out);
    }

    /// True when the call is over and the object may be started again.
    pub(in crate::callload) fn is_over(&self) -> bool {
        matches!(self.state, State::Idle | State::Terminated)
    }

    /// Ends the call whatever state it is in: BYE, CANCEL, or forgetting it.
    pub(in crate::callload) fn hang_up(&mut self, now_ns: u64, out: &mut Vec<Output>) {
        match self.state {
            State::Established => self.send_bye(now_ns, out),
            State::Proceeding => {
                // RFC 3261 section 9.1: the INVITE's branch and CSeq number.
                let config = Arc::clone(&self.config);
                let cancel = self.request("CANCEL", &config.request_uri, 1, None, &self.branch(1), None);
                self.state = State::Cancelling;
                self.give_up_ns = now_ns + LEAVE_TIMEOUT_NS;
                self.transmit(now_ns, config.destination, cancel, out);
            }
            // No CANCEL before a provisional response; the call is cancelled when one comes.
            State::Calling => {
                self.hang_up_wanted = true;
                self.give_up_ns = self.give_up_ns.min(now_ns + LEAVE_TIMEOUT_NS);
            }
            State::Idle | State::Cancelling | State::Leaving | State::Terminated => {}
        }
    }

    pub(in crate::callload) fn handle_response(
        &mut self,
        now_ns: u64,
        message: &Message,
        out: &mut Vec<Output>,
    ) {
        let StartLine::Response(status, reason) = &message.start else { return };
        match message.cseq() {
            Some((1, "INVITE")) => self.handle_invite_response(now_ns, *status, reason, message, out),
            Some((_, "BYE")) if self.state == State::Leaving && *status >= 200 => {
                self.state = State::Terminated;
                self.resend_ns = None;
                out.push(Output::Ended { by_peer: false, clean: *status < 300 });
            }
            Some((_, "CANCEL")) if self.state == State::Cancelling && *status >= 200 => self.resend_ns = None,
            _ => {}
        }
    }

    /// A request of the far end that carries this call's Call-ID.
    pub(in crate::callload) fn handle_request(
        &mut self,
        source: SocketAddr,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let StartLine::Request(method, _) = &message.start else { return };
        match method.as_str() {
            "ACK" => {}
            "BYE" => {
                out.push(Output::Send(source, reply(&message, "200 OK", "")));
                if matches!(self.state, State::Established | State::Leaving) {
                    let by_peer = self.state == State::Established;
                    self.state = State::Terminated;
                    self.resend_ns = None;
                    out.push(Output::Ended { by_peer, clean: true });
                }
            }
            "INVITE" | "UPDATE" if self.state == State::Established => {
                out.push(Output::Offered(Box::new(message)))
            }
            "INVITE" | "UPDATE" => out.push(Output::Send(source, reply(&message, "491 Request Pending", ""))),
            "OPTIONS" | "INFO" | "NOTIFY" => out.push(Output::Send(source, reply(&message, "200 OK", ""))),
            _ => {
                let allow = "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE\r\n";
                out.push(Output::Send(source, reply(&message, "405 Method Not Allowed", allow)));
            }
        }
    }

    /// Answers a re-offer with `sdp`.
    pub(in crate::callload) fn answer_offer(
        &self,
        source: SocketAddr,
        offer: &Message,
        sdp: &str,
        out: &mut Vec<Output>,
    ) {
        let fields = format!("Contact: {}\r\nContent-Type: application/sdp\r\n", self.contact());
        out.push(Output::Send(source, reply_with_body(offer, "200 OK", &fields, sdp)));
    }

    pub(in crate::callload) fn handle_timeout(&mut self, now_ns: u64, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        if now_ns >= self.give_up_ns {
            let (state, wanted) = (self.state, self.hang_up_wanted);
            match state {
                State::Leaving => {
                    self.state = State::Terminated;
                    out.push(Output::Ended { by_peer: false, clean: false });
                }
                State::Proceeding => self.hang_up(now_ns, out),
                State::Calling | State::Cancelling => {
                    self.state = State::Terminated;
                    let reason = match (state, wanted) {
                        (State::Calling, true) => "ended before the far end said anything",
                        (State::Calling, false) => "no response",
                        _ => "not answered in time",
                    };
                    out.push(Output::Failed(reason.to_owned()));
                }
                State::Idle | State::Established | State::Terminated => {}
            }
            if self.is_over() {
                self.resend_ns = None;
                return;
            }
        }
        if self.resend_ns.is_some_and(|resend_ns| now_ns >= resend_ns) {
            // Timer A doubles for ever, timer E up to T2 (RFC 3261 sections 17.1.1.2, 17.1.2.2).
            self.interval_ns *= 2;
            if self.state != State::Calling {
                self.interval_ns = self.interval_ns.min(T2_NS);
            }
            self.resend_ns = Some(now_ns + self.interval_ns);
            out.push(Output::Retransmitted);
            out.push(Output::Send(self.pending_to, self.pending.clone()));
        }
    }

    fn handle_invite_response(
        &mut self,
        now_ns: u64,
        status: u16,
        reason: &str,
        message: &Message,
        out: &mut Vec<Output>,
    ) {
        let waiting = matches!(self.state, State::Calling | State::Proceeding | State::Cancelling);
        match status {
            100..=199 => {
                if self.state == State::Calling {
                    self.state = State::Proceeding;
                    self.resend_ns = None;
                }
                if status > 100 && self.state == State::Proceeding {
                    out.push(Output::Ringing);
                }
                if self.hang_up_wanted && self.state == State::Proceeding {
                    self.hang_up_wanted = false;
                    self.hang_up(now_ns, out);
                }
            }
            200..=299 if waiting => {
                let Some(dialog) = Dialog::new(message, self.config.destination) else {
                    self.state = State::Terminated;
                    self.resend_ns = None;
                    out.push(Output::Failed("200 without To tag or Contact".to_owned()));
                    return;
                };
                let ack = self.request_in(&dialog, "ACK", 1);
                out.push(Output::Send(dialog.destination, ack.clone()));
                self.ack = Some((dialog.destination, ack));
                self.dialog = Some(dialog);
                self.resend_ns = None;
                self.give_up_ns = u64::MAX;
                let unwanted = self.state == State::Cancelling || self.hang_up_wanted;
                self.state = State::Established;
                if unwanted {
                    self.send_bye(now_ns, out);
                } else {
                    out.push(Output::Answered(message.body.clone()));
                }
            }
            200..=299 => {
                let answered_tag = message.header("to").and_then(tag);
                if self.dialog.as_ref().is_some_and(|dialog| Some(dialog.remote_tag.as_str()) == answered_tag)
                {
                    out.push(Output::RepeatedAnswer);
                    out.extend(self.ack.clone().map(|(to, ack)| Output::Send(to, ack)));
                } else if let Some(mut fork) = Dialog::new(message, self.config.destination) {
                    // A second branch answered as well: acknowledge it and take it down (RFC 3261 section 13.2.2.4).
                    out.push(Output::Send(fork.destination, self.request_in(&fork, "ACK", 1)));
                    fork.cseq = 2;
                    out.push(Output::Send(fork.destination, self.request_in(&fork, "BYE", 2)));
                }
            }
            _ if waiting => {
                // The ACK of a refusal belongs to the INVITE's transaction (RFC 3261 section 17.1.1.3).
                let to = message.header("to").unwrap_or_default();
                let config = &self.config;
                let ack = self.request("ACK", &config.request_uri, 1, Some((to, &[])), &self.branch(1), None);
                out.push(Output::Send(config.destination, ack.clone()));
                self.ack = Some((config.destination, ack));
                self.state = State::Terminated;
                self.resend_ns = None;
                out.push(Output::Failed(format!("{status} {reason}")));
            }
            _ => out.extend(self.ack.clone().map(|(to, ack)| Output::Send(to, ack))),
        }
    }

    fn send_bye(&mut self, now_ns: u64, out: &mut Vec<Output>) {
        let Some(dialog) = &mut self.dialog else { return };
        dialog.cseq += 1;
        let (cseq, destination) = (dialog.cseq, dialog.destination);
        let bye = self.request_in(self.dialog.as_ref().expect("just used"), "BYE", cseq);
        self.state = State::Leaving;
        self.give_up_ns = now_ns + LEAVE_TIMEOUT_NS;
        self.transmit(now_ns, destination, bye, out);
    }

    fn transmit(&mut self, now_ns: u64, to: SocketAddr, bytes: Vec<u8>, out: &mut Vec<Output>) {
        self.interval_ns = T1_NS;
        // Reliable transports carry no retransmissions.
        self.resend_ns = (self.config.transport == "UDP").then_some(now_ns + T1_NS);
        self.pending.clone_from(&bytes);
        self.pending_to = to;
        out.push(Output::Send(to, bytes));
    }

    /// A request inside the dialog; loose routing, and strict routing where the first route lacks `lr`
    /// (RFC 3261 section 12.2.1.1).
    fn request_in(&self, dialog: &Dialog, method: &str, cseq: u32) -> Vec<u8> {
        let mut request_uri = dialog.remote_target.as_str();
        let mut routes: Vec<&str> = dialog.route_set.iter().map(String::as_str).collect();
        if let Some(first) = routes.first().copied().filter(|first| !has_lr(first)) {
            routes.remove(0);
            routes.push(&dialog.remote_target);
            request_uri = first;
        }
        // Every request has its own transaction, the ACK of a 2xx too.
        let branch = format!("{}{}", self.branch(cseq), if method == "ACK" { "a" } else { "" });
        self.request(method, request_uri, cseq, Some((&dialog.to, &routes)), &branch, None)
    }

    fn request(
        &self,
        method: &str,
        request_uri: &str,
        cseq: u32,
        dialog: Option<(&str, &[&str])>,
        branch: &str,
        offer: Option<&str>,
    ) -> Vec<u8> {
        let UacConfig { local, transport, from_user, run, .. } = &*self.config;
        let plain_to = format!("<{}>", self.config.request_uri);
        let (to, routes) = dialog.unwrap_or((&plain_to, &[]));
        let routes: String = routes.iter().map(|route| format!("Route: <{route}>\r\n")).collect();
        let number = self.number;
        let mut text = format!(
            "{method} {request_uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch={branch};rport\r\n{routes}\
             Max-Forwards: 70\r\nFrom: <sip:{from_user}@{local}>;tag=c{run:x}n{number}\r\nTo: {to}\r\n\
             Call-ID: {}\r\nCSeq: {cseq} {method}\r\n",
            call_id(*run, number, *local),
        );
        if method == "INVITE" {
            text.push_str(&format!("Contact: {}\r\n", self.contact()));
            text.push_str(
                "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE\r\nUser-Agent: callload\r\n",
            );
        }
        match offer {
            Some(sdp) => text.push_str(&format!(
                "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
                sdp.len()
            )),
            None => text.push_str("Content-Length: 0\r\n\r\n"),
        }
        text.into_bytes()
    }

    fn contact(&self) -> String {
        let UacConfig { local, transport, from_user, .. } = &*self.config;
        let parameter = if *transport == "TCP" { ";transport=tcp" } else { "" };
        format!("<sip:{from_user}@{local}{parameter}>")
    }

    fn branch(&self, cseq: u32) -> String {
        format!("z9hG4bKcl{:x}n{}c{cseq}", self.config.run, self.number)
    }
}

impl Dialog {
    fn new(answer: &Message, fallback: SocketAddr) -> Option<Self> {
        let to = answer.header("to")?.to_owned();
        let remote_tag = tag(&to)?.to_owned();
        let remote_target = uri(answer.list("contact").first()?).to_owned();
        let mut route_set: Vec<String> =
            answer.list("record-route").iter().map(|r| uri(r).to_owned()).collect();
        route_set.reverse();
        let next_hop = route_set.first().unwrap_or(&remote_target);
        let destination = resolve(next_hop).unwrap_or(fallback);
        Some(Self { remote_tag, to, remote_target, route_set, destination, cseq: 1 })
    }
}

/// The Call-ID of a call.
fn call_id(run: u64, number: u64, local: SocketAddr) -> String {
    format!("{run:x}-{number}@{}", local.ip())
}

impl UacConfig {
    /// The number of the call that a Call-ID names, if it is one of ours.
    pub(in crate::callload) fn call_number(&self, call_id: &str) -> Option<u64> {
        let (run, rest) = call_id.split_once('-')?;
        let (number, _) = rest.split_once('@')?;
        (u64::from_str_radix(run, 16) == Ok(self.run)).then(|| number.parse().ok())?
    }
}

/// A response to a request of the far end.
fn reply(request: &Message, status: &str, fields: &str) -> Vec<u8> {
    reply_with_body(request, status, fields, "")
}

fn reply_with_body(request: &Message, status: &str, fields: &str, body: &str) -> Vec<u8> {
    let mut text = format!("SIP/2.0 {status}\r\n");
    let copied = [
        ("via", "Via"),
        ("record-route", "Record-Route"),
        ("from", "From"),
        ("to", "To"),
        ("call-id", "Call-ID"),
        ("cseq", "CSeq"),
    ];
    copied.into_iter().for_each(|(name, written)| text.push_str(&request.copied(name, written)));
    text.push_str(fields);
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

/// 481 for a request that belongs to no call.
pub(in crate::callload) fn reply_no_call(request: &Message) -> Vec<u8> {
    reply(request, "481 Call/Transaction Does Not Exist", "")
}

fn has_lr(uri: &str) -> bool {
    uri.split(';').skip(1).any(|p| p.eq_ignore_ascii_case("lr") || p.to_ascii_lowercase().starts_with("lr="))
}

/// Address of a SIP URI whose host is an IP address; names are left to the fallback, a lookup would block.
pub(in crate::callload) fn resolve(uri: &str) -> Option<SocketAddr> {
    let (_, host_port) = host_port(uri)?;
    let host_port = host_port.as_str();
    host_port.parse().ok().or_else(|| host_port.parse().ok().map(|ip| SocketAddr::new(ip, 5060))).or_else(
        || {
            let bare = host_port.strip_prefix('[')?.strip_suffix(']')?;
            Some(SocketAddr::new(bare.parse().ok()?, 5060))
        },
    )
}

/// Address of a SIP URI, by name if need be.
pub(in crate::callload) fn resolve_by_name(uri: &str) -> Option<SocketAddr> {
    resolve(uri).or_else(|| {
        let (_, host_port) = host_port(uri)?;
        let with_port = if host_port.contains(':') { host_port } else { format!("{host_port}:5060") };
        with_port.to_socket_addrs().ok()?.next()
    })
}

/// User and `host[:port]` of a SIP URI.
pub(in crate::callload) fn host_port(uri: &str) -> Option<(String, String)> {
    let rest = uri.strip_prefix("sip:")?;
    let rest = rest.split([';', '?']).next()?;
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    (!host.is_empty()).then(|| (user.to_owned(), host.to_owned()))
}

const T1_NS: u64 = 500_000_000;
const T2_NS: u64 = 4_000_000_000;
/// Shorter than 64*T1: a far end that does not answer BYE must not hold the run up for half a minute.
const LEAVE_TIMEOUT_NS: u64 = 8_000_000_000;

#[cfg(test)]
#[path = "uac_tests.rs"]
mod tests;
