//! The calls by their ids, and what all of them share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::call::{Call, CallError, NOT_FOUND};
use super::command::Command;
use super::counters::{CommandCounters, NgCounters};
use super::options::Options;
use super::responder::Responder;
use super::value::{Dictionary, Value};
use crate::call::{CallContext, CallState, CallSummary, CallTable, CallVia, Identity};
use crate::exchange::Relaying;

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) relaying: Relaying,
    pub(super) counters: Arc<NgCounters>,
    pub(super) commands: Arc<CommandCounters>,
    pub(super) delete_delay: Duration,
    table: CallTable,
    calls: Mutex<HashMap<String, Inbox>>,
}

/// How a call's task is reached.
#[derive(Debug)]
struct Inbox {
    id: u64,
    jobs: mpsc::Sender<Job>,
}

/// A command for a call.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) options: Box<Options>,
    pub(super) responder: Responder,
}

impl Shared {
    /// `control` are our own control sockets, where media must not go.
    pub(super) fn new(context: &CallContext, delete_delay: Duration, control: Vec<SocketAddr>) -> Self {
        Self {
            relaying: Relaying::new(&context.config, &context.media, control),
            counters: Arc::default(),
            commands: Arc::default(),
            delete_delay,
            table: context.table.clone(),
            calls: Mutex::default(),
        }
    }

    /// Takes a call out, unless another has its name by now.
    pub(super) fn remove(&self, call_id: &str, id: u64) {
        let mut calls = self.calls();
        if calls.get(call_id).is_some_and(|inbox| inbox.id == id) {
            calls.remove(call_id);
        }
    }

    /// How many calls there are.
    pub(super) fn len(&self) -> usize {
        self.calls().len()
    }

    /// Some call-ids, in no order.
    pub(super) fn call_ids(&self, limit: usize) -> Vec<Value> {
        self.calls().keys().take(limit).map(|call_id| call_id.as_str().into()).collect()
    }

    /// Gives a command to its call, which an offer may make. Never waits.
    pub(super) fn dispatch(self: Arc<Self>, job: Job) {
        let Some(call_id) = job.options.call_id.clone() else {
            return job.responder.fail(&CallError::NoCallId.to_string());
        };
        let mut calls = self.calls();
        let mut job = job;
        if let Some(inbox) = calls.get(&call_id) {
            match inbox.jobs.try_send(job) {
                Ok(()) => return,
                Err(TrySendError::Full(refused)) => {
                    self.counters.overloaded.increment();
                    // Not answered: whoever sent it sends it again.
                    return refused.responder.give_up();
                }
                // It is just leaving.
                Err(TrySendError::Closed(back)) => {
                    calls.remove(&call_id);
                    job = back;
                }
            }
        }
        match job.command {
            Command::Offer => self.start(&mut calls, call_id, job),
            Command::Delete if !job.options.fatal => {
                job.responder.succeed(Dictionary::default().with("warning", NOT_FOUND));
            }
            Command::Delete => job.responder.fail(NOT_FOUND),
            _ => job.responder.fail(&CallError::UnknownCall.to_string()),
        }
    }

    fn start(self: &Arc<Self>, calls: &mut HashMap<String, Inbox>, call_id: String, job: Job) {
        // Nothing is made for an offer that can only be refused.
        let options = &job.options;
        let missing = if options.sdp.is_none() {
            Some(CallError::NoSdp)
        } else {
            options.from_tag.is_none().then_some(CallError::NoFromTag)
        };
        if let Some(missing) = missing {
            return job.responder.fail(&missing.to_string());
        }
        let Some(entry) = self.table.admit(summary(&call_id, &job)) else {
            self.counters.calls_refused.increment();
            let reason = self.table.is_draining().then_some("draining: no new calls are taken");
            return job.responder.refuse(job.options.supports_load_limit, reason);
        };
        self.counters.calls.increment();
        let (jobs, inbox) = mpsc::channel(JOBS_PER_CALL);
        let id = entry.id();
        // There is room for the first.
        let _ = jobs.try_send(job);
        calls.insert(call_id.clone(), Inbox { id, jobs });
        tokio::spawn(Call::new(Arc::clone(self), call_id, entry, inbox).run());
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Inbox>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn summary(call_id: &str, job: &Job) -> CallSummary {
    let tag = |tag: &Option<String>| tag.clone().unwrap_or_default();
    CallSummary {
        id: 0,
        identity: Identity::default(),
        call_id: call_id.to_owned(),
        call_sid: None,
        from: tag(&job.options.from_tag),
        to: tag(&job.options.to_tag),
        app: "relay",
        agent: None,
        via: CallVia::Ng,
        state: CallState::Ringing,
        since: SystemTime::now(),
        answered: None,
        codec: None,
        remote_sip: Some(job.responder.source()),
        remote_rtp: None,
        local_rtp: None,
        gathered: None,
    }
}

/// Commands that may wait for one call.
const JOBS_PER_CALL: usize = 16;
