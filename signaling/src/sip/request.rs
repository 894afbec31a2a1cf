//! Requests outside of dialogs that somebody else decides about: MESSAGE (RFC 3428) and REGISTER (RFC 3261 10.3).

use std::sync::Arc;

use tokio::sync::mpsc;

use super::address::Headers;
use super::core::{Core, random_token};
use super::incoming::InviteInfo;
use super::message::{Message, one_line};
use super::outgoing::Method;
use super::transaction::ServerTransaction;

/// A request outside of dialogs. Dropping it answers 500.
pub struct IncomingRequest {
    method: Method,
    info: InviteInfo,
    body: Vec<u8>,
    request: Message,
    /// `None` once it was answered.
    open: Option<(Arc<Core>, ServerTransaction)>,
}

impl IncomingRequest {
    pub(super) fn new(
        core: Arc<Core>,
        method: Method,
        info: InviteInfo,
        mut request: Message,
        transaction: ServerTransaction,
    ) -> Self {
        let body = std::mem::take(&mut request.body);
        Self { method, info, body, request, open: Some((core, transaction)) }
    }

    /// What is asked for.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Who asks, where it came from, and its headers.
    #[must_use]
    pub fn info(&self) -> &InviteInfo {
        &self.info
    }

    /// The media type in lower case and without parameters; empty when there is none.
    #[must_use]
    pub fn content_type(&self) -> String {
        let value = self.info.header("Content-Type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// All values of a header whose fields may be joined by commas, such as Contact and Path.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .flat_map(|field| super::message::split_list(&field.value))
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// Answers with 200 to 699 (anything else is taken for 500) and these headers, made by [`Headers::of_response`].
    /// Repetitions of the request get the same answer.
    pub async fn respond(mut self, status: u16, headers: Headers, body: Option<(String, Vec<u8>)>) {
        let Some((core, transaction)) = self.open.take() else { return };
        transaction.answer(&self.response(&core, status, &headers, body)).await;
    }

    fn response(
        &self,
        core: &Core,
        status: u16,
        headers: &Headers,
        body: Option<(String, Vec<u8>)>,
    ) -> Message {
        let status = if (200..700).contains(&status) { status } else { 500 };
        let mut response = Message::response_to(&self.request, status, "", Some(&random_token()));
        for (name, value) in headers.iter() {
            response.push(name, value);
        }
        response.push("Server", &core.config.user_agent);
        if let Some((content_type, body)) = body {
            response.set_body(&one_line(&content_type), body);
        }
        response
    }
}

impl Drop for IncomingRequest {
    fn drop(&mut self) {
        let Some((core, transaction)) = self.open.take() else { return };
        let response = self.response(&core, 500, &Headers::of_response(), None);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(transaction.answer_owned(response));
        }
    }
}

impl std::fmt::Debug for IncomingRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IncomingRequest")
            .field("method", &self.method)
            .field("remote", &self.info.remote)
            .finish_non_exhaustive()
    }
}

/// Who takes which requests.
#[derive(Debug, Default)]
pub(super) struct Takers {
    message: Option<mpsc::Sender<IncomingRequest>>,
    register: Option<mpsc::Sender<IncomingRequest>>,
}

impl Takers {
    /// A new taker of a method; the one before hears nothing more.
    pub(super) fn take(&mut self, method: Method) -> mpsc::Receiver<IncomingRequest> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        match method {
            Method::Message => self.message = Some(sender),
            Method::Register => self.register = Some(sender),
            // We answer these ourselves: nobody hears of them.
            Method::Options => drop(sender),
        }
        receiver
    }

    pub(super) fn of(&self, method: &str) -> Option<(Method, mpsc::Sender<IncomingRequest>)> {
        let (method, sender) = match method {
            "MESSAGE" => (Method::Message, &self.message),
            "REGISTER" => (Method::Register, &self.register),
            _ => return None,
        };
        Some((method, sender.clone().filter(|sender| !sender.is_closed())?))
    }

    /// The methods that are taken, besides those of every endpoint.
    pub(super) fn allow(&self) -> String {
        let mut allow = super::validate::ALLOW.to_owned();
        for method in ["MESSAGE", "REGISTER"] {
            if self.of(method).is_some() {
                allow.push_str(", ");
                allow.push_str(method);
            }
        }
        allow
    }
}

/// Requests that may wait for their taker; further ones are answered 503.
const QUEUE: usize = 256;
