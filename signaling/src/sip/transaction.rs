//! The bought part: the transactions of RFC 3261 17 by `rsipstack`, behind our own messages.
//!
//! Only its transactions and their timers are used. Messages reach it after our own reader has accepted
//! them, and leave through connections of ours, so that no limit depends on it.

use rsipstack::sip::headers::make_header;
use rsipstack::sip::{
    Headers, Host, HostWithPort, Method, Request, Response, SipMessage, StatusCode, Uri, Version,
};
use rsipstack::transaction::endpoint::{EndpointInner, EndpointInnerRef, EndpointOption};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::{Transaction, TransactionEvent, TransactionEventSender};
use rsipstack::transport::TransportLayer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::config::SipConfig;
use super::message::{HeaderField, Message, NameAddr, StartLine, reason_phrase};
use super::transport::Flow;

/// What a transaction is known by. Retransmissions, ACK and CANCEL share the one of their request.
pub(super) type Key = TransactionKey;

/// All transactions of the endpoint.
pub(super) struct Transactions {
    inner: EndpointInnerRef,
}

impl Transactions {
    pub(super) fn new(config: &SipConfig) -> Self {
        let option = EndpointOption {
            t1: config.t1,
            t2: config.t1 * 8,
            t4: config.t1 * 10,
            t1x64: config.t1 * 64,
            // The ACK of a 2xx belongs to the session (RFC 3261 13.2.2.4).
            auto_ack_2xx: false,
            ..EndpointOption::default()
        };
        let transports = TransportLayer::new(CancellationToken::new());
        let (agent, cancel) = (config.user_agent.clone(), CancellationToken::new());
        let inner =
            EndpointInner::new(agent, transports, cancel, None, vec![], Some(option), None, None, None);
        Self { inner }
    }

    /// Fires the timers of all transactions, forever.
    pub(super) async fn serve_timers(&self) {
        self.inner.process_timer().await;
    }

    /// Running ones and those kept to answer retransmissions.
    pub(super) fn count(&self) -> usize {
        self.inner.transactions.len() + self.inner.finished_transactions.len()
    }

    /// Whether a message of this key belongs to something that exists.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.inner.transactions.contains_key(key) || self.inner.finished_transactions.contains_key(key)
    }

    /// Gives a message to the transaction that it belongs to.
    pub(super) async fn deliver(&self, message: SipMessage, flow: &Flow) {
        // An error only says that there is no such transaction any more.
        let _ = self.inner.on_received_message(message, flow.connection(), &flow.remote_sip_addr()).await;
    }

    pub(super) fn new_server(&self, key: Key, request: Request, flow: &Flow) -> ServerTransaction {
        let mut inner = Transaction::new_server(key, request, self.inner.clone(), Some(flow.connection()));
        inner.destination = Some(flow.remote_sip_addr());
        ServerTransaction { inner: Box::new(inner) }
    }

    /// Starts a client transaction. `None` when the request is not one that can be sent.
    pub(super) fn new_client(&self, request: &Message, flow: &Flow) -> Option<ClientTransaction> {
        let SipMessage::Request(request) = to_bought(request)? else { return None };
        let key = TransactionKey::from_request(&request, TransactionRole::Client).ok()?;
        let mut inner = Transaction::new_client(key, request, self.inner.clone(), Some(flow.connection()));
        inner.destination = Some(flow.remote_sip_addr());
        Some(ClientTransaction { inner })
    }
}

/// The key that finds the transaction of a received message; `None` when it can have none.
pub(super) fn key_of(message: &SipMessage) -> Option<Key> {
    match message {
        SipMessage::Request(request) => TransactionKey::from_request(request, TransactionRole::Server).ok(),
        SipMessage::Response(response) => {
            TransactionKey::from_response(response, TransactionRole::Client).ok()
        }
    }
}

/// A request that waits for its answer. Dropped unanswered, it is forgotten.
pub(super) struct ServerTransaction {
    inner: Box<Transaction>,
}

impl ServerTransaction {
    /// Answers anything but INVITE; retransmissions get the same answer.
    pub(super) async fn answer(mut self, response: &Message) {
        if let Some(SipMessage::Response(response)) = to_bought(response) {
            // The network's errors are counted where it is touched.
            let _ = self.inner.respond(response).await;
        }
    }

    /// [`Self::answer`] for a task of its own.
    pub(super) async fn answer_owned(self, response: Message) {
        self.answer(&response).await;
    }

    /// Runs an INVITE server transaction to its end. What the peer says goes to `report`.
    pub(super) fn run_invite<T: Send + 'static>(
        self,
        report: mpsc::Sender<T>,
        wrap: impl Fn(InviteReport) -> T + Send + 'static,
    ) -> InviteServer {
        let mut transaction = self.inner;
        let (sender, key) = (transaction.tu_sender.clone(), transaction.key.clone());
        tokio::spawn(async move {
            while let Some(message) = transaction.receive().await {
                let SipMessage::Request(request) = message else { continue };
                let event = match request.method {
                    Method::Ack => InviteReport::Ack(from_bought_request(&request)),
                    Method::Cancel => InviteReport::Cancel,
                    _ => continue,
                };
                if report.send(wrap(event)).await.is_err() {
                    // The call is gone; the transaction still has to absorb what comes.
                    continue;
                }
            }
            let _ = report.send(wrap(InviteReport::Ended)).await;
        });
        InviteServer { running: Some((sender, key)), last_status: 0 }
    }
}

/// What happened to an INVITE server transaction.
#[derive(Debug)]
pub(super) enum InviteReport {
    Ack(Message),
    Cancel,
    /// It is over: acknowledged, or 64*T1 have passed.
    Ended,
}

/// The answering end of a running INVITE server transaction.
pub(super) struct InviteServer {
    running: Option<(TransactionEventSender, Key)>,
    last_status: u16,
}

impl InviteServer {
    /// That of a call of ours, whose peer has sent no INVITE yet: over and answered.
    pub(super) fn none() -> Self {
        Self { running: None, last_status: 200 }
    }

    pub(super) fn respond(&mut self, response: &Message) {
        if self.is_final() {
            return;
        }
        if let Some(SipMessage::Response(message)) = to_bought(response) {
            self.last_status = response.status();
            // A closed channel means that the transaction is over, which leaves nothing to answer.
            if let Some((sender, _)) = &self.running {
                let _ = sender.send(TransactionEvent::Respond(message));
            }
        }
    }

    pub(super) fn is_final(&self) -> bool {
        self.last_status >= 200
    }

    /// Stops repeating the 2xx: the peer has hung up.
    pub(super) fn stop(&self) {
        if let Some((sender, key)) = &self.running {
            let _ = sender.send(TransactionEvent::Terminate(key.clone()));
        }
    }
}

impl Drop for InviteServer {
    fn drop(&mut self) {
        // Only reached unanswered when the call's task died: its transaction would wait forever.
        if !self.is_final() {
            self.stop();
        }
    }
}

/// Why there is no final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// None came within 64 * T1.
    TimedOut,
    /// The connection did not take the request.
    TransportFailed,
}

impl NoAnswer {
    /// What is taken for it inside a dialog (RFC 3261 8.1.3.1).
    pub(super) fn response(self) -> Message {
        match self {
            Self::TimedOut => Message::response(408, ""),
            Self::TransportFailed => Message::response(503, TRANSPORT_FAILED),
        }
    }
}

/// The reason phrase of a 503 of our own making.
pub(super) const TRANSPORT_FAILED: &str = "Transport Failed";

/// A request of ours on its way.
pub(super) struct ClientTransaction {
    inner: Transaction,
}

impl ClientTransaction {
    /// Sends it and returns the final response.
    pub(super) async fn run(mut self) -> Result<Message, NoAnswer> {
        let _ = self.inner.send().await;
        while let Some(message) = self.inner.receive().await {
            let SipMessage::Response(response) = message else { continue };
            // What came from the network has the reason phrase that it came with, see `to_bought`.
            let made_here = response.wire_reason.is_none();
            match response.status_code.code() {
                ..200 => {}
                503 if made_here => return Err(NoAnswer::TransportFailed),
                _ if made_here => return Err(NoAnswer::TimedOut),
                _ => return Ok(from_bought_response(&response)),
            }
        }
        Err(NoAnswer::TimedOut)
    }
}

/// `None` for a method that the transactions do not know; such requests are answered without one.
pub(super) fn to_bought(message: &Message) -> Option<SipMessage> {
    let mut headers = Headers::default();
    for HeaderField { name, value } in message.headers.iter().filter(|field| field.name != "Content-Length") {
        headers.push(make_header(name, plain(name, value)));
    }
    headers.push(make_header("Content-Length", message.body.len().to_string()));
    let body = message.body.clone();
    Some(match &message.start {
        StartLine::Request { method, uri, .. } => {
            let method: Method = method.parse().ok()?;
            SipMessage::Request(Request { method, uri: opaque_uri(uri), version: Version::V2, headers, body })
        }
        StartLine::Response { status, reason } => {
            let status_code = match StatusCode::from(*status) {
                StatusCode::Other(..) => StatusCode::Other(*status, reason.clone()),
                known if known.text() == reason || *status == 100 => known,
                _ => StatusCode::Other(*status, reason.clone()),
            };
            SipMessage::Response(Response {
                status_code,
                wire_reason: Some(reason.clone()),
                version: Version::V2,
                headers,
                body,
            })
        }
    })
}

/// From and To without the white space around `;` and `=` that hides a tag from the bought reader.
fn plain(name: &str, value: &str) -> String {
    let spaced = ["; ", " ;", "= ", " =", "\t"].iter().any(|space| value.contains(space));
    let address = (spaced && matches!(name, "From" | "To")).then(|| NameAddr::parse(value)).flatten();
    address.map_or_else(|| value.to_owned(), |address| address.write())
}

/// A URI that is written exactly as it was given. The bought type would take it apart at the first `;`,
/// though a user part may hold one, and escape it anew.
fn opaque_uri(uri: &str) -> Uri {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sip", uri));
    let scheme = scheme.parse().ok();
    let host_with_port = HostWithPort { host: Host::Domain(rest.to_owned().into()), port: None };
    Uri { scheme, host_with_port, ..Uri::default() }
}

fn from_bought_request(request: &Request) -> Message {
    let mut message = Message::request(&request.method.to_string(), &request.uri.to_string());
    copy_headers(&request.headers, &mut message);
    message.body = request.body.clone();
    message
}

fn from_bought_response(response: &Response) -> Message {
    let code = response.status_code.code();
    let text = response.wire_reason.as_deref().unwrap_or_else(|| response.status_code.text());
    let text = if text.is_empty() { reason_phrase(code) } else { text };
    let mut message = Message::response(code, text);
    copy_headers(&response.headers, &mut message);
    message.body = response.body.clone();
    message
}

fn copy_headers(headers: &Headers, message: &mut Message) {
    for header in headers.iter() {
        message.push(header.name(), header.value());
    }
}
