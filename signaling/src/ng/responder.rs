//! The way back to who sent a command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::cache::Key;
use super::command::Command;
use super::message::{self, Encoding};
use super::server::Socket;
use super::value::Dictionary;

/// Answers one command, once. Dropped without an answer, the command is forgotten, so that it may be sent again.
#[derive(Debug)]
pub(super) struct Responder {
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    socket: Arc<Socket>,
    key: Key,
    encoding: Encoding,
    command: Option<Command>,
    received: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Responder {
    pub(super) fn new(
        socket: Arc<Socket>,
        key: Key,
        encoding: Encoding,
        received: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { inner: Some(Inner { socket, key, encoding, command: None, received, _permit: permit }) }
    }

    /// Names the command, for its counters.
    pub(super) fn of(mut self, command: Command) -> Self {
        if let Some(inner) = &mut self.inner {
            inner.command = Some(command);
        }
        self
    }

    /// Who sent it.
    pub(super) fn source(&self) -> SocketAddr {
        self.inner.as_ref().map_or_else(|| ([0, 0, 0, 0], 0).into(), |inner| inner.key.source)
    }

    /// It was done; `reply` gets its result.
    pub(super) fn succeed(self, reply: Dictionary) {
        self.send(reply.with("result", "ok"), false);
    }

    /// The answer to a ping.
    pub(super) fn pong(self) {
        self.send(Dictionary::default().with("result", "pong"), false);
    }

    /// It failed.
    pub(super) fn fail(self, reason: &str) {
        self.send(Dictionary::default().with("result", "error").with("error-reason", reason), true);
    }

    /// There is no room for a call. Proxies take the next node by these words.
    pub(super) fn refuse(self, knows_load_limit: bool, why: Option<&str>) {
        let limit = "Parallel session limit reached";
        let mut reply = if knows_load_limit {
            Dictionary::default().with("result", "load limit").with("message", limit)
        } else {
            Dictionary::default().with("result", "error").with("error-reason", limit)
        };
        if let Some(why) = why {
            reply.push("warning", why);
        }
        self.send(reply, true);
    }

    /// It was not executed and is not answered.
    pub(super) fn give_up(self) {
        drop(self);
    }

    fn send(mut self, reply: Dictionary, is_error: bool) {
        let Some(inner) = self.inner.take() else { return };
        let mut bytes = message::write(&inner.key.cookie, inner.encoding, &reply);
        if bytes.len() > MAX_REPLY_BYTES {
            inner.socket.counters().too_large.increment();
            let reply = Dictionary::default()
                .with("result", "error")
                .with("error-reason", "The reply is larger than a datagram");
            bytes = message::write(&inner.key.cookie, inner.encoding, &reply);
        }
        if let Some(command) = inner.command {
            inner.socket.commands().of(command).observe(inner.received.elapsed(), is_error);
        }
        inner.socket.answer(&inner.key, bytes.into());
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.socket.forget(&inner.key);
        }
    }
}

/// What UDP can carry, with some room.
const MAX_REPLY_BYTES: usize = 65_000;
