//! Which items and responses there are, and which of them are dead.

use std::collections::VecDeque;

/// The assistant's items that have audio, the newest of them.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: VecDeque<Item>,
    last: u32,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) number: u32,
    pub(super) id: String,
    pub(super) content_index: u64,
    /// Bytes of audio received.
    pub(super) bytes: u64,
    /// No more comes.
    pub(super) complete: bool,
    /// Cut off here, so not again.
    pub(super) truncated: bool,
}

impl Items {
    /// Adds audio to an item, which may be new; answers its number.
    pub(super) fn receive(&mut self, id: &str, content_index: u64, bytes: usize) -> u32 {
        if let Some(item) = self.by_id(id) {
            item.bytes += bytes as u64;
            return item.number;
        }
        if self.items.len() == REMEMBERED {
            self.items.pop_front();
        }
        self.last = self.last.wrapping_add(1).max(1);
        self.items.push_back(Item {
            number: self.last,
            id: id.to_owned(),
            content_index,
            bytes: bytes as u64,
            complete: false,
            truncated: false,
        });
        self.last
    }

    pub(super) fn by_id(&mut self, id: &str) -> Option<&mut Item> {
        self.items.iter_mut().rev().find(|item| item.id == id)
    }

    pub(super) fn by_number(&mut self, number: u32) -> Option<&mut Item> {
        self.items.iter_mut().rev().find(|item| item.number == number)
    }
}

/// At most one response is active; further ones wait.
#[derive(Debug, Default)]
pub(super) struct Responses {
    active: Option<String>,
    /// A `response.create` is on its way to the server, or its answer to us.
    requested: bool,
    /// What is requested was cancelled before it had an id.
    requested_is_dead: bool,
    /// A `response.cancel` for the active one was sent.
    cancel_sent: bool,
    /// Cancelled, but perhaps with audio still to come.
    dead: VecDeque<String>,
    /// A response is to be made when there is none.
    wanted: bool,
}

/// What a [`Responses::cancel`] has to be told to the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancel<'a> {
    Nothing,
    Response(&'a str),
    /// The one that was asked for and has no id yet.
    Requested,
}

impl Responses {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether `response.create` is to be sent now; then it counts as requested.
    pub(super) fn take_wanted(&mut self) -> bool {
        let now = self.wanted && !self.requested && self.active.is_none();
        if now {
            self.wanted = false;
            self.request();
        }
        now
    }

    /// `response.create` is sent.
    pub(super) fn request(&mut self) {
        self.requested = true;
        self.requested_is_dead = false;
    }

    /// Our `response.create` was refused; `again` if it was because there is an active response.
    pub(super) fn refused(&mut self, again: bool) {
        self.requested = false;
        self.requested_is_dead = false;
        self.wanted |= again;
    }

    pub(super) fn created(&mut self, id: &str) {
        if std::mem::take(&mut self.requested_is_dead) {
            self.bury(id);
        }
        self.requested = false;
        self.cancel_sent = false;
        self.active = Some(id.to_owned());
    }

    pub(super) fn done(&mut self, id: &str) {
        self.dead.retain(|dead| dead != id);
        if self.active.as_deref() == Some(id) {
            self.active = None;
        }
    }

    /// The server cancels what is active by itself: what still comes of it is stale.
    pub(super) fn interrupted_by_server(&mut self) {
        if let Some(id) = self.active.clone() {
            self.bury(&id);
        }
    }

    /// Cancels what is active or requested, once.
    pub(super) fn cancel(&mut self) -> Cancel<'_> {
        if let Some(id) = self.active.clone() {
            self.bury(&id);
            if std::mem::replace(&mut self.cancel_sent, true) {
                return Cancel::Nothing;
            }
            return self.active.as_deref().map_or(Cancel::Nothing, Cancel::Response);
        }
        if self.requested && !std::mem::replace(&mut self.requested_is_dead, true) {
            return Cancel::Requested;
        }
        Cancel::Nothing
    }

    pub(super) fn is_dead(&self, id: &str) -> bool {
        self.dead.iter().any(|dead| dead == id)
    }

    fn bury(&mut self, id: &str) {
        if self.is_dead(id) {
            return;
        }
        if self.dead.len() == REMEMBERED {
            self.dead.pop_front();
        }
        self.dead.push_back(id.to_owned());
    }
}

/// Function calls, each told once.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: VecDeque<Call>,
}

#[derive(Debug)]
struct Call {
    id: String,
    response: String,
    answered: bool,
}

impl Calls {
    /// Whether this call is new.
    pub(super) fn begin(&mut self, id: &str, response: &str) -> bool {
        if self.calls.iter().any(|call| call.id == id) {
            return false;
        }
        if self.calls.len() == REMEMBERED {
            self.calls.pop_front();
        }
        self.calls.push_back(Call { id: id.to_owned(), response: response.to_owned(), answered: false });
        true
    }

    /// A call has its result. `None` if it is none of this session; otherwise whether all calls of its response have
    /// theirs, so that the bot can speak about them.
    pub(super) fn answer(&mut self, id: &str) -> Option<bool> {
        let call = self.calls.iter_mut().find(|call| call.id == id)?;
        call.answered = true;
        let response = call.response.clone();
        Some(self.calls.iter().all(|call| call.answered || call.response != response))
    }
}

const REMEMBERED: usize = 64;
