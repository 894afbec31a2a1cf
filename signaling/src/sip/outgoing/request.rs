//! Requests outside of dialogs (RFC 3261 8.1): MESSAGE (RFC 3428), OPTIONS and the like.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DialError;
use super::failure::retry_after;
use crate::sip::address::{Address, Headers};
use crate::sip::core::{Core, random_token};
use crate::sip::digest::{Authorization, Credentials};
use crate::sip::message::{Message, one_line};
use crate::sip::target::Target;
use crate::sip::transaction::NoAnswer;
use crate::sip::validate::{ACCEPT, ALLOW, SUPPORTED};

/// What is asked for outside of dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A short message (RFC 3428).
    Message,
    /// What somebody can do, or whether they are there (RFC 3261 11).
    Options,
    /// Where somebody is (RFC 3261 10), as one who is asked.
    Register,
}

impl Method {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "MESSAGE",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
        }
    }
}

/// A request outside of dialogs.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    /// What is asked for.
    pub method: Method,
    /// Where it goes.
    pub target: Target,
    /// The user part of the Request-URI; the target's URI as it stands without one.
    pub request_user: Option<String>,
    /// Who asks.
    pub from: Address,
    /// Who is asked, as it is shown; the Request-URI without one.
    pub to: Option<Address>,
    /// Further headers.
    pub headers: Headers,
    /// The body and its media type, such as `text/plain;charset=UTF-8`.
    pub body: Option<(String, Vec<u8>)>,
    /// What to prove with who we are.
    pub credentials: Option<Credentials>,
    /// How long all of it may take, with all addresses of the target.
    pub timeout: Duration,
}

impl OutgoingRequest {
    /// A request with nothing special, for 32 s.
    #[must_use]
    pub fn new(method: Method, target: Target, from: Address) -> Self {
        Self {
            method,
            target,
            request_user: None,
            from,
            to: None,
            headers: Headers::default(),
            body: None,
            credentials: None,
            timeout: Duration::from_secs(32),
        }
    }
}

/// A final response, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 699.
    pub status: u16,
    /// The reason phrase, one line.
    pub reason: String,
    /// How long to leave the server alone.
    pub retry_after: Option<Duration>,
    /// Who answered.
    pub remote: SocketAddr,
    headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether it is a 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// The first header of that name (long form, any case), trimmed.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends a request to one address of its target after the other until somebody answers.
pub(in crate::sip) async fn request(core: Arc<Core>, request: OutgoingRequest) -> Result<Answer, DialError> {
    if core.ending.is_cancelled() {
        return Err(DialError::Draining);
    }
    if core.transactions.count() >= core.config.limits.transactions {
        core.counters.outgoing_refused.increment();
        return Err(DialError::Overloaded);
    }
    if request.body.as_ref().is_some_and(|(_, body)| body.len() > MAX_BODY_BYTES) {
        return Err(DialError::Unsendable);
    }
    let (host, timeout) = (request.target.host(), request.timeout);
    let ending = core.ending.clone();
    tokio::select! {
        () = ending.cancelled() => Err(DialError::Draining),
        done = tokio::time::timeout(timeout, run(core, request)) => done.unwrap_or(Err(DialError::TimedOut(host))),
    }
}

async fn run(core: Arc<Core>, request: OutgoingRequest) -> Result<Answer, DialError> {
    core.counters.outgoing_requests.increment();
    let host = request.target.host();
    let mut authorization = Authorization::new(request.credentials.clone());
    let (call_id, tag, mut cseq) = (random_token() + &random_token(), random_token(), 0);
    let mut failed = Err(DialError::Unreachable(host.clone()));
    for (index, hop) in core.hops(&request.target).await.into_iter().enumerate() {
        if index > 0 {
            core.counters.outgoing_failovers.increment();
        }
        let Some(flow) = core.flow_of(&hop).await else {
            core.resolver.note_failure(&hop, Instant::now());
            continue;
        };
        for _ in 0..MOST_REQUESTS {
            cseq += 1;
            let mut message = write(&request, &call_id, &tag, cseq);
            authorization.authorize(&mut message, &random_token());
            let message = core.addressed(message, &flow, &request.from.user());
            let transaction = core.transactions.new_client(&message, &flow).ok_or(DialError::Unsendable)?;
            // It runs to its end even where nobody waits any more.
            let response = core.tasks.spawn(transaction.run()).await.map_err(|_| DialError::Draining)?;
            let response = match response {
                Ok(response) => response,
                Err(NoAnswer::TimedOut) => {
                    core.resolver.note_failure(&hop, Instant::now());
                    failed = Err(DialError::TimedOut(host.clone()));
                    break;
                }
                Err(NoAnswer::TransportFailed) => break,
            };
            match response.status() {
                401 | 407 if authorization.handle_challenge(&message, &response).is_ok() => continue,
                503 => {
                    core.resolver.note_failure(&hop, Instant::now());
                    failed = Ok(answer(response, hop.address));
                    break;
                }
                _ => {
                    core.resolver.note_success(&hop);
                    return Ok(answer(response, hop.address));
                }
            }
        }
    }
    failed
}

fn write(request: &OutgoingRequest, call_id: &str, tag: &str, cseq: u32) -> Message {
    let method = request.method.name();
    let uri = request.target.request_uri(request.request_user.as_deref());
    let mut message = Message::request(method, &uri);
    message.push("Max-Forwards", "70");
    for route in request.target.routes() {
        message.push("Route", route);
    }
    message.push("From", format!("{};tag={tag}", request.from));
    message.push("To", request.to.as_ref().map_or_else(|| format!("<{uri}>"), ToString::to_string));
    message.push("Call-ID", call_id);
    message.push("CSeq", format!("{cseq} {method}"));
    if request.method == Method::Options {
        message.push("Accept", ACCEPT);
        message.push("Allow", ALLOW);
        message.push("Supported", SUPPORTED);
    }
    for (name, value) in request.headers.iter() {
        message.push(name, value);
    }
    if let Some((content_type, body)) = &request.body {
        message.set_body(&one_line(content_type), body.clone());
    }
    message
}

fn answer(response: Message, remote: SocketAddr) -> Answer {
    Answer {
        status: response.status(),
        reason: one_line(response.reason()),
        retry_after: retry_after(&response),
        remote,
        headers: response.headers.into_iter().map(|field| (field.name, field.value)).collect(),
        body: response.body,
    }
}

const MOST_REQUESTS: usize = 6;
/// RFC 3428 8 wants messages below 1300 bytes where no stream carries them; longer ones are the owner's risk.
const MAX_BODY_BYTES: usize = 48 * 1024;
