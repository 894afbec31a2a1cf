//! One INVITE on its way to one address, with its transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::client::{Due, InviteClient, Received, State};
use crate::sip::core::Core;
use crate::sip::message::Message;
use crate::sip::session::ByeReason;
use crate::sip::transport::Flow;

pub(super) struct Attempt {
    pub(super) core: Arc<Core>,
    /// As it was sent.
    pub(super) invite: Message,
    pub(super) flow: Flow,
    pub(super) contact_user: String,
    client: InviteClient,
    branch: String,
    responses: mpsc::Receiver<Message>,
    cancelled: bool,
}

/// What an attempt has to tell.
pub(super) enum Event {
    Response(Message),
    /// Nobody answered within 64 * T1.
    TimedOut,
    /// The connection broke before anybody answered.
    Broken,
    /// The transaction is over.
    Over,
}

impl Attempt {
    /// Sends `invite`, which has its Via.
    pub(super) async fn start(
        core: Arc<Core>,
        invite: Message,
        flow: Flow,
        contact_user: String,
    ) -> Option<Self> {
        let branch = invite.top_via()?.branch()?.to_owned();
        let (queue, responses) = mpsc::channel(RESPONSES);
        core.know_invite(branch.clone(), queue);
        let client = InviteClient::new(Instant::now(), core.config.t1, flow.transport.is_stream());
        let attempt = Self { core, invite, flow, contact_user, client, branch, responses, cancelled: false };
        attempt.core.counters.invites_sent.increment();
        // What cannot be sent now may be with the next repetition; a connection that broke is noticed by itself.
        attempt.flow.transmit(attempt.invite.write()).await;
        Some(attempt)
    }

    /// The next thing that somebody has to know. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if self.client.state() == State::Terminated {
                return Event::Over;
            }
            let deadline = self.client.poll_timeout();
            let sleep = deadline.map_or(LONG, |at| at.saturating_duration_since(Instant::now()));
            let calling = self.client.state() == State::Calling;
            tokio::select! {
                Some(response) = self.responses.recv() => {
                    if !self.belongs(&response) {
                        self.core.counters.stray_responses.increment();
                        continue;
                    }
                    match self.client.handle_response(Instant::now(), response.status()) {
                        Received::Deliver => return Event::Response(response),
                        Received::DeliverAndAck => {
                            self.acknowledge(&response);
                            return Event::Response(response);
                        }
                        Received::Ack => self.acknowledge(&response),
                        Received::Ignore => {}
                    }
                }
                () = tokio::time::sleep(sleep) => match self.client.handle_timeout(Instant::now()) {
                    Some(Due::Retransmit) => self.flow.send(self.invite.write()),
                    Some(Due::TimedOut) => return Event::TimedOut,
                    None => {}
                },
                () = self.flow.closed(), if calling => {
                    self.client.give_up(Instant::now());
                    return Event::Broken;
                }
            }
        }
    }

    /// Whether anybody has answered at all.
    pub(super) fn is_answered(&self) -> bool {
        self.client.state() != State::Calling
    }

    /// Nobody waits for an answer any more.
    pub(super) fn give_up(&mut self) {
        self.client.give_up(Instant::now());
    }

    /// CANCEL, once, and only when it is known that the INVITE has arrived (RFC 3261 9.1).
    pub(super) fn cancel(&mut self, reason: Option<&ByeReason>) {
        if self.cancelled || self.client.state() != State::Proceeding {
            return;
        }
        self.cancelled = true;
        let mut cancel = self.in_transaction("CANCEL", self.invite.header("To").unwrap_or_default());
        if let Some(reason) = reason {
            cancel.push("Reason", reason.write());
        }
        if let Some(transaction) = self.core.transactions.new_client(&cancel, &self.flow) {
            // Its answer says nothing about the call.
            self.core.tasks.spawn(transaction.run());
        }
    }

    /// RFC 3261 17.1.1.3: to where the INVITE went, as part of its transaction.
    fn acknowledge(&self, response: &Message) {
        let ack = self.in_transaction("ACK", response.header("To").unwrap_or_default());
        self.flow.send(ack.write());
    }

    /// A request that shares the INVITE's Via and number (RFC 3261 9.1, 17.1.1.3).
    fn in_transaction(&self, method: &str, to: &str) -> Message {
        let mut request = Message::request(method, self.invite.uri());
        if let Some(via) = self.invite.header("Via") {
            request.push("Via", via);
        }
        request.push("Max-Forwards", "70");
        for route in self.invite.values("Route") {
            request.push("Route", route);
        }
        request.push("From", self.invite.header("From").unwrap_or_default());
        request.push("To", to);
        request.push("Call-ID", self.invite.call_id());
        request.push("CSeq", format!("{} {method}", self.invite.cseq().map_or(0, |(number, _)| number)));
        request.push("User-Agent", &self.core.config.user_agent);
        request
    }

    /// The branch alone could have been learned from elsewhere.
    fn belongs(&self, response: &Message) -> bool {
        response.call_id() == self.invite.call_id()
            && response.sender_tag() == self.invite.sender_tag()
            && response.cseq() == self.invite.cseq()
            && (response.status() == 100 || response.to().is_some())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.core.forget_invite(&self.branch);
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt")
            .field("flow", &self.flow)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

const RESPONSES: usize = 40;
const LONG: Duration = Duration::from_secs(3600);
