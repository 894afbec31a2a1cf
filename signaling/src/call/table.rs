//! The live calls of this process.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use engine::ai::AiFigures;
use engine::stream::{Codec, StreamStatistics};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::counters::{CallCounters, SetupTime};
use super::identity::Identity;
use super::request::{CallRequest, Gathered};
use crate::media::StreamHandle;
use crate::model::Id;

/// The live calls of this process: who may enter, who is there, who must leave. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CallTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    calls: Mutex<Calls>,
    max_calls: usize,
    /// How many calls there are, for who waits for the last.
    count: watch::Sender<usize>,
    counters: CallCounters,
    setup_time: SetupTime,
}

#[derive(Debug, Default)]
struct Calls {
    live: BTreeMap<u64, Entry>,
    by_leg: HashMap<Id, u64>,
    last_id: u64,
    draining: bool,
}

#[derive(Debug)]
struct Entry {
    summary: CallSummary,
    stream: Option<StreamHandle>,
    hang_up: watch::Sender<Option<HangUp>>,
    requests: mpsc::Sender<CallRequest>,
}

/// Who wants a call to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// Somebody asked through the API.
    Operator,
    /// The time of a drain is over.
    Drain,
}

/// Where a call is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// The INVITE has come and is not answered.
    Ringing,
    /// Answered.
    Answered,
    /// Answered, and the caller has put us on hold.
    Held,
    /// Hanging up.
    Ending,
}

impl CallState {
    /// The name used in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Held => "held",
            Self::Ending => "ending",
        }
    }
}

/// What a call comes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallVia {
    /// SIP, its audio by RTP.
    #[default]
    Sip,
    /// A proxy, by the NG protocol.
    Ng,
    /// Asterisk's AudioSocket.
    AudioSocket,
    /// Asterisk's `chan_websocket`.
    ChanWebSocket,
}

impl CallVia {
    /// The name used in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
            Self::Ng => "ng",
            Self::AudioSocket => "audiosocket",
            Self::ChanWebSocket => "chan_websocket",
        }
    }
}

/// What is told about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSummary {
    /// Names the call in this process.
    pub id: u64,
    /// What it is known by outside of this process, and whose it is.
    pub identity: Identity,
    /// The Call-ID.
    pub call_id: String,
    /// What the Twilio dialect calls it, if the app is an agent.
    pub call_sid: Option<String>,
    /// The calling user, masked unless [`super::CallConfig::show_numbers`] is set.
    pub from: String,
    /// The called user, masked likewise.
    pub to: String,
    /// Such as `agent` or `echo`.
    pub app: &'static str,
    /// The name of the agent, if the app is one.
    pub agent: Option<String>,
    /// What it comes by.
    pub via: CallVia,
    /// Where it is in its life.
    pub state: CallState,
    /// When the INVITE came.
    pub since: SystemTime,
    /// When it was answered.
    pub answered: Option<SystemTime>,
    /// What we send.
    pub codec: Option<Codec>,
    /// Where the signalling comes from; not known before a call of ours is answered.
    pub remote_sip: Option<SocketAddr>,
    /// Where our media goes.
    pub remote_rtp: Option<SocketAddr>,
    /// Where media is received.
    pub local_rtp: Option<SocketAddr>,
    /// The keys that were collected last.
    pub gathered: Option<Gathered>,
}

impl CallTable {
    /// An empty table for so many calls at once.
    #[must_use]
    pub fn new(max_calls: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                calls: Mutex::default(),
                max_calls,
                count: watch::Sender::new(0),
                counters: CallCounters::default(),
                setup_time: SetupTime::default(),
            }),
        }
    }

    /// Enters a call; its id is given out here. `None` when there are as many as allowed, or draining.
    pub(crate) fn admit(&self, mut summary: CallSummary) -> Option<CallEntry> {
        let (hang_up, hung_up) = watch::channel(None);
        let (requests, requested) = mpsc::channel(WAITING_REQUESTS);
        let mut calls = self.shared.lock();
        if calls.draining || calls.live.len() >= self.shared.max_calls {
            return None;
        }
        calls.last_id += 1;
        let id = calls.last_id;
        summary.id = id;
        calls.by_leg.insert(summary.identity.leg, id);
        calls.live.insert(id, Entry { summary, stream: None, hang_up, requests });
        self.shared.count.send_replace(calls.live.len());
        Some(CallEntry { shared: Arc::clone(&self.shared), id, hung_up, requested })
    }

    /// Whether no more calls are taken.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.lock().draining
    }

    /// All calls, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<CallSummary> {
        self.shared.lock().live.values().map(|entry| entry.summary.clone()).collect()
    }

    /// One call.
    #[must_use]
    pub fn call(&self, id: u64) -> Option<CallSummary> {
        self.shared.lock().live.get(&id).map(|entry| entry.summary.clone())
    }

    /// The call that the Twilio dialect calls so.
    #[must_use]
    pub fn call_by_sid(&self, sid: &str) -> Option<CallSummary> {
        let calls = self.shared.lock();
        let mut summaries = calls.live.values().map(|entry| &entry.summary);
        summaries.find(|summary| summary.call_sid.as_deref() == Some(sid)).cloned()
    }

    /// The call whose leg, and record, has that id.
    #[must_use]
    pub fn call_by_leg(&self, leg: Id) -> Option<CallSummary> {
        let calls = self.shared.lock();
        let id = calls.by_leg.get(&leg)?;
        calls.live.get(id).map(|entry| entry.summary.clone())
    }

    /// Asks a call for something; false when it is not there or has too much to do already.
    pub fn request(&self, id: u64, request: CallRequest) -> bool {
        let calls = self.shared.lock();
        calls.live.get(&id).is_some_and(|entry| entry.requests.try_send(request).is_ok())
    }

    /// The figures of a call's AI stream; `None` when it has none, or does not answer.
    pub async fn ai_figures(&self, id: u64) -> Option<AiFigures> {
        let (reply, figures) = oneshot::channel();
        if !self.request(id, CallRequest::Figures(reply)) {
            return None;
        }
        timeout(FIGURES_PATIENCE, figures).await.ok()?.ok()
    }

    /// The figures of a call's stream; `None` when the call or its stream has ended.
    pub async fn statistics(&self, id: u64) -> Option<StreamStatistics> {
        let stream = self.shared.lock().live.get(&id)?.stream.clone()?;
        stream.statistics().await.ok()
    }

    /// A call's stream, while it has one.
    pub(crate) fn stream(&self, id: u64) -> Option<StreamHandle> {
        self.shared.lock().live.get(&id)?.stream.clone()
    }

    /// Ends a call with BYE (or 480 if it still rings); false when there is no such call.
    pub fn hang_up(&self, id: u64) -> bool {
        let calls = self.shared.lock();
        calls.live.get(&id).is_some_and(|entry| entry.hang_up.send(Some(HangUp::Operator)).is_ok())
    }

    /// How many calls there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().live.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls may be there at once.
    #[must_use]
    pub fn max_calls(&self) -> usize {
        self.shared.max_calls
    }

    /// Takes no more calls and waits until those that run have ended by themselves, or `patience` is over;
    /// then the rest is ended with BYE. Returns how many had to be cut.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.shared.lock().draining = true;
        let mut count = self.shared.count.subscribe();
        if timeout(patience, count.wait_for(|&count| count == 0)).await.is_ok() {
            return 0;
        }
        let cut = {
            let calls = self.shared.lock();
            for entry in calls.live.values() {
                let _ = entry.hang_up.send(Some(HangUp::Drain));
            }
            calls.live.len()
        };
        // Every call's task answers within its own limits; this only keeps a broken one from blocking the exit.
        let _ = timeout(LAST_PATIENCE, count.wait_for(|&count| count == 0)).await;
        cut
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &CallCounters {
        &self.shared.counters
    }

    /// How long calls took to be answered.
    #[must_use]
    pub fn setup_time(&self) -> &SetupTime {
        &self.shared.setup_time
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place in the table; dropping it leaves.
#[derive(Debug)]
pub(crate) struct CallEntry {
    shared: Arc<Shared>,
    id: u64,
    hung_up: watch::Receiver<Option<HangUp>>,
    requested: mpsc::Receiver<CallRequest>,
}

impl CallEntry {
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// What the call is known by outside of this process.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.shared.lock().live.get(&self.id).map(|entry| entry.summary.identity.clone())
    }

    /// Changes what is told about the call.
    pub(crate) fn update(&self, change: impl FnOnce(&mut CallSummary)) {
        if let Some(entry) = self.shared.lock().live.get_mut(&self.id) {
            change(&mut entry.summary);
        }
    }

    pub(crate) fn set_stream(&self, stream: Option<StreamHandle>) {
        if let Some(entry) = self.shared.lock().live.get_mut(&self.id) {
            entry.stream = stream;
        }
    }

    /// The next request. Never completes once the call has left the table. Cancel safe.
    pub(crate) async fn next_request(&mut self) -> CallRequest {
        match self.requested.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// Completes when somebody wants the call to end. Cancel safe.
    pub(crate) fn hang_up(&self) -> impl Future<Output = HangUp> + Send + use<> {
        let mut hung_up = self.hung_up.clone();
        async move {
            match hung_up.wait_for(Option::is_some).await.map(|wanted| *wanted) {
                Ok(Some(wanted)) => wanted,
                // The sender lives as long as the entry, so this is never reached before the call's own end.
                _ => std::future::pending().await,
            }
        }
    }
}

impl Drop for CallEntry {
    fn drop(&mut self) {
        let mut calls = self.shared.lock();
        if let Some(gone) = calls.live.remove(&self.id) {
            calls.by_leg.remove(&gone.summary.identity.leg);
        }
        self.shared.count.send_replace(calls.live.len());
    }
}

/// How long calls may take to hang up after they were told to.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// Requests that may wait for one call's task.
const WAITING_REQUESTS: usize = 8;
/// How long a call's task may take to tell its figures.
const FIGURES_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> CallSummary {
        CallSummary {
            id: 0,
            identity: Identity::default(),
            call_id: "a@192.0.2.1".into(),
            call_sid: Some("CA1".into()),
            from: "*".into(),
            to: "*".into(),
            app: "echo",
            agent: None,
            via: CallVia::Sip,
            state: CallState::Ringing,
            since: SystemTime::UNIX_EPOCH,
            answered: None,
            codec: None,
            remote_sip: "192.0.2.1:5060".parse().ok(),
            remote_rtp: None,
            local_rtp: None,
            gathered: None,
        }
    }

    #[tokio::test]
    async fn calls_beyond_the_limit_are_not_admitted() {
        let table = CallTable::new(2);
        let first = table.admit(summary()).expect("room");
        let second = table.admit(summary()).expect("room");
        assert!(table.admit(summary()).is_none());
        assert_ne!(first.id(), second.id());
        drop(first);
        let third = table.admit(summary()).expect("room again");
        assert_eq!(table.list().iter().map(|call| call.id).collect::<Vec<_>>(), [second.id(), third.id()]);
    }

    #[tokio::test]
    async fn entry_tells_its_changes() {
        let table = CallTable::new(1);
        let entry = table.admit(summary()).expect("room");
        entry.update(|summary| summary.state = CallState::Held);
        assert_eq!(table.call(entry.id()).map(|call| call.state), Some(CallState::Held));
        let leg = table.list()[0].identity.leg;
        assert_eq!(table.call_by_leg(leg).map(|call| call.id), Some(entry.id()));
        assert_eq!(table.statistics(entry.id()).await, None);
        assert!(table.hang_up(entry.id()) && !table.hang_up(99));
        assert_eq!(entry.hang_up().await, HangUp::Operator);
    }

    #[tokio::test]
    async fn requests_reach_the_call_and_no_more_than_it_can_do() {
        let table = CallTable::new(1);
        let mut entry = table.admit(summary()).expect("room");
        assert_eq!(table.call_by_sid("CA1").map(|call| call.id), Some(entry.id()));
        assert!(table.call_by_sid("CA2").is_none());
        for _ in 0..WAITING_REQUESTS {
            assert!(table.request(entry.id(), CallRequest::HangUp));
        }
        assert!(!table.request(entry.id(), CallRequest::HangUp), "it does not listen");
        assert!(matches!(entry.next_request().await, CallRequest::HangUp));
        assert!(table.request(entry.id(), CallRequest::HangUp));
        let id = entry.id();
        drop(entry);
        assert!(!table.request(id, CallRequest::HangUp));
        assert_eq!(table.ai_figures(id).await, None);
    }

    #[tokio::test]
    async fn drain_waits_for_the_last_call() {
        let table = CallTable::new(9);
        let entry = table.admit(summary()).expect("room");
        let drained = tokio::spawn({
            let table = table.clone();
            async move { table.drain(Duration::from_secs(60)).await }
        });
        while table.admit(summary()).is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!drained.is_finished());
        drop(entry);
        assert_eq!(drained.await.expect("no panic"), 0);
    }

    #[tokio::test]
    async fn drain_cuts_what_is_left_after_its_time() {
        let table = CallTable::new(9);
        let entry = table.admit(summary()).expect("room");
        let call = tokio::spawn(async move { (entry.hang_up().await, entry).0 });
        assert_eq!(table.drain(Duration::from_millis(10)).await, 1);
        assert_eq!(call.await.expect("no panic"), HangUp::Drain);
        assert!(table.is_empty());
    }
}
