//! Two tasks per trunk: one keeps it registered, the other sees whether it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::TrunkCounters;
use super::live::{Change, Live};
use crate::model::TrunkState;
use crate::sip::{
    Account, DialError, Method, OutgoingRequest, Registration, RegistrationState, RegistrationStatus,
    SipHandle, Target,
};

/// What a trunk's tasks are to do. They are told again at every change, and end when nobody tells any more.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// What to register.
    pub(super) account: Option<Account>,
    /// How it stands if there is nothing to register.
    pub(super) otherwise: (TrunkState, Option<String>),
    /// Whether its state is this node's to keep.
    pub(super) is_ours: bool,
    /// Where it is.
    pub(super) target: Option<Target>,
    /// How often to send OPTIONS.
    pub(super) ping: Option<Duration>,
}

/// What all of these tasks share.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    pub(super) sip: SipHandle,
    pub(super) changes: mpsc::Sender<Change>,
    /// Told when it is known anew where a trunk's proxy is.
    pub(super) moved: Arc<tokio::sync::Notify>,
    /// How many register for the first time at once.
    pub(super) at_once: Arc<Semaphore>,
    pub(super) counters: Arc<TrunkCounters>,
    pub(super) ending: CancellationToken,
}

impl Keeping {
    /// Keeps `live` registered as `wanted` says, after `delay`; at the end it is taken back.
    ///
    /// `before` is the same trunk's task from before it was taken out of use: its farewell must not come behind our
    /// first request.
    pub(super) async fn register(
        self,
        live: Arc<Live>,
        mut wanted: watch::Receiver<Wanted>,
        delay: Duration,
        before: Option<JoinHandle<()>>,
    ) {
        if let Some(before) = before {
            let _ = before.await;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.ending.cancelled() => return,
        }
        let mut running: Option<(Account, Registration)> = None;
        loop {
            let now = wanted.borrow_and_update().clone();
            if running.as_ref().map(|(account, _)| account) != now.account.as_ref() {
                if let Some((_, registration)) = running.take() {
                    // A new password for the same binding needs no farewell, another account does; it hurts neither.
                    registration.end().await;
                }
                running = match now.account.clone() {
                    Some(account) => self.begin(&live, account, &now).await,
                    None => None,
                };
            }
            let Some((_, registration)) = &running else {
                let (state, cause) = now.otherwise.clone();
                self.tell(&live, &now, state, cause, None);
                tokio::select! {
                    changed = wanted.changed() => {
                        if changed.is_err() {
                            return self.tell(&live, &now, TrunkState::Inactive, None, None);
                        }
                    }
                    () = self.ending.cancelled() => return,
                }
                continue;
            };
            let mut status = registration.status();
            loop {
                let seen = status.borrow_and_update().clone();
                self.take(&live, &now, seen);
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { break },
                    changed = wanted.changed() => {
                        if changed.is_err() {
                            if let Some((_, registration)) = running.take() {
                                registration.end().await;
                            }
                            self.tell(&live, &now, TrunkState::Inactive, None, None);
                            return;
                        }
                        break;
                    }
                    () = self.ending.cancelled() => {
                        if let Some((_, registration)) = running.take() {
                            registration.end().await;
                        }
                        self.tell(&live, &now, TrunkState::Unregistered, None, None);
                        return;
                    }
                }
            }
        }
    }

    /// Starts a registration, not too many at once.
    async fn begin(&self, live: &Live, account: Account, now: &Wanted) -> Option<(Account, Registration)> {
        let _permit = tokio::select! {
            permit = self.at_once.acquire() => permit.ok()?,
            () = self.ending.cancelled() => return None,
        };
        let registration = self.sip.register(account.clone());
        let mut status = registration.status();
        let under_way = |status: &RegistrationStatus| {
            matches!(status.state, RegistrationState::Unregistered | RegistrationState::Trying)
        };
        let settled = status.wait_for(|status| !under_way(status));
        let _ = tokio::time::timeout(FIRST_ANSWER, settled).await;
        let seen = registration.status().borrow().clone();
        self.take(live, now, seen);
        Some((account, registration))
    }

    fn take(&self, live: &Live, now: &Wanted, seen: RegistrationStatus) {
        // The words are the same.
        let state = TrunkState::named(seen.state.name()).unwrap_or(TrunkState::FailWait);
        self.tell(live, now, state, seen.cause, seen.expires.map(|expires| expires.as_secs()));
    }

    fn tell(
        &self,
        live: &Live,
        now: &Wanted,
        state: TrunkState,
        cause: Option<String>,
        expires_s: Option<u64>,
    ) {
        let before = live.state();
        let change = live.stand(state, cause, expires_s);
        match (before, state) {
            (before, TrunkState::Registered) if before != state => self.counters.registrations.increment(),
            (TrunkState::Registered, TrunkState::Expired | TrunkState::Failed | TrunkState::FailWait) => {
                self.counters.registrations_lost.increment();
            }
            _ => {}
        }
        if let Some(change) = change.filter(|_| now.is_ours) {
            self.keep(change);
        }
    }

    fn keep(&self, change: Change) {
        let (key, kept) = (&change.key, &change.kept);
        let (tenant, trunk) = (&key.tenant.0, &key.trunk_id);
        match (kept.state, &kept.cause) {
            (TrunkState::Failed | TrunkState::FailWait | TrunkState::Expired, Some(cause)) => {
                tracing::warn!(%tenant, %trunk, state = kept.state.name(), "trunk: {cause}");
            }
            _ => {
                let ping = kept.ping.name();
                tracing::info!(%tenant, %trunk, state = kept.state.name(), ping, "trunk");
            }
        }
        if self.changes.try_send(change).is_err() {
            self.counters.states_dropped.increment();
        }
    }

    /// Looks where `live` is, and asks it for its health, as `wanted` says.
    pub(super) async fn watch(self, live: Arc<Live>, mut wanted: watch::Receiver<Wanted>, delay: Duration) {
        let mut next = (Instant::now() + delay, Instant::now() + delay);
        loop {
            let now = wanted.borrow_and_update().clone();
            if now.ping.is_none() {
                live.forget_health();
            }
            let due = if now.ping.is_some() { next.0.min(next.1) } else { next.0 };
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if wanted.borrow().target != now.target {
                        next.0 = Instant::now();
                    }
                    continue;
                }
                () = self.ending.cancelled() => return,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let Some(target) = &now.target else {
                next.0 = Instant::now() + LOOK_EVERY;
                continue;
            };
            if next.0 <= Instant::now() {
                let found = self.sip.addresses(target).await;
                if live.set_proxies(found.into_iter().map(|address| IpNet::from(address.ip())).collect()) {
                    self.moved.notify_one();
                }
                next.0 = Instant::now() + LOOK_EVERY;
            }
            if let Some(every) = now.ping.filter(|_| next.1 <= Instant::now()) {
                next.1 = Instant::now() + every;
                let answer = self.ping(&live, target.clone(), every).await;
                if let Some(change) = live.heard(answer).filter(|_| now.is_ours) {
                    self.keep(change);
                }
            }
        }
    }

    /// Sends OPTIONS; how long the answer took.
    async fn ping(&self, live: &Live, target: Target, every: Duration) -> Option<Duration> {
        let from = live.settings().from(PING_USER).ok()?;
        let request = OutgoingRequest {
            timeout: PING_PATIENCE.min(every),
            ..OutgoingRequest::new(Method::Options, target, from)
        };
        self.counters.pings.increment();
        let started = Instant::now();
        let answer = tokio::select! {
            answer = self.sip.request(request) => answer,
            () = self.ending.cancelled() => Err(DialError::Draining),
        };
        match answer {
            // Who is overloaded or about to end says so with 503 (RFC 3261 21.5.4); any other answer is a sign of life.
            Ok(answer) if answer.status != 503 => return Some(started.elapsed()),
            // It says nothing of the trunk when we are the ones who end or are overloaded.
            Err(DialError::Draining | DialError::Overloaded) => return live.latency(),
            Ok(_) | Err(_) => {}
        }
        self.counters.pings_unanswered.increment();
        None
    }
}

/// How long a first answer holds up the next registration.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// How often to look where a name leads.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Enough for some repetitions of a lost request.
const PING_PATIENCE: Duration = Duration::from_secs(6);
const PING_USER: &str = "ping";
