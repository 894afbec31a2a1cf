//! Events to webhooks.
//!
//! Each receiver has lanes, one per subject, and only the first event of a lane is under way: order is kept within a
//! subject, and one subject's retries hold up no other. A receiver that fails is asked by one request at a time and ever
//! less often, so that it costs the others nothing; when it is back, what waits for it goes at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, jittered};
use super::counters::WebhookCounters;
use super::sender::{Attempt, Message, Sender};
use super::signature::SigningSecret;
use crate::model::{Moment, TenantId};
use crate::store::{Claimed, Outcome, Store, StoreError};

/// How webhooks are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The waits between attempts; after the last one an event is given up.
    pub retries: Vec<Duration>,
    /// Requests to one receiver at once.
    pub per_receiver: usize,
    /// Requests to all receivers at once.
    pub at_once: usize,
    /// How long what was given up stays in the dead-letter list.
    pub keep_dead: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            retries: [5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200].map(Duration::from_secs).into(),
            per_receiver: 8,
            at_once: 256,
            keep_dead: Duration::from_secs(7 * 86_400),
        }
    }
}

impl WebhookConfig {
    /// When to try again after `attempts` failed attempts; `None` if there were enough.
    fn wait_after(&self, attempts: u32, asked: Option<Duration>) -> Option<Duration> {
        let index = usize::try_from(attempts).unwrap_or(usize::MAX).saturating_sub(1);
        let wait = jittered(*self.retries.get(index)?);
        Some(asked.map_or(wait, |asked| asked.min(LONGEST_ASKED_WAIT).max(wait)))
    }

    /// How old an event may become while its receiver is not even asked.
    fn give_up(&self) -> Duration {
        self.retries.iter().sum::<Duration>() * 2 + Duration::from_secs(3_600)
    }
}

/// What delivers webhooks.
pub(super) struct Webhooks {
    pub(super) store: Store,
    pub(super) sender: Sender,
    pub(super) config: WebhookConfig,
    /// This process, as the owner of leases.
    pub(super) owner: String,
    pub(super) counters: Arc<WebhookCounters>,
    /// The last position that is known to be placed.
    pub(super) placed: watch::Receiver<i64>,
    pub(super) stop: CancellationToken,
}

/// A receiver that is being asked, or fails.
struct Receiver {
    under_way: usize,
    backoff: Backoff,
    /// Not before.
    rests_until: Instant,
}

/// What one task reports.
type Done = (Claimed, Attempt);

impl Webhooks {
    /// Delivers until it is stopped.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut attempts = JoinSet::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.deliver(&mut attempts) => {}
        }
        attempts.shutdown().await;
        let _ = timeout(Duration::from_secs(1), self.store.release_deliveries(&self.owner)).await;
    }

    async fn deliver(&mut self, attempts: &mut JoinSet<Done>) {
        let mut receivers: HashMap<String, Receiver> = HashMap::new();
        let mut unsettled: Vec<(String, Outcome)> = Vec::new();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Where there may be more to do: everywhere, or where something was done.
            let look = tokio::select! {
                _ = poll.tick() => None,
                changed = self.placed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    None
                }
                Some(done) = attempts.join_next() => {
                    let mut names = BTreeSet::new();
                    let mut done = Some(done);
                    while let Some(result) = done {
                        // A task ends with a result unless it panics; the lease brings its delivery back.
                        if let Ok((claimed, attempt)) = result {
                            names.insert(claimed.endpoint.clone());
                            let outcome = self.judge(&mut receivers, &claimed, attempt).await;
                            unsettled.push((claimed.id, outcome));
                        }
                        done = attempts.try_join_next();
                    }
                    Some(names)
                }
            };
            let result = self.round(&mut receivers, &mut unsettled, attempts, look).await;
            if let Err(error) = result {
                tracing::debug!(%error, "webhooks wait for the store");
                sleep(jittered(Duration::from_secs(1))).await;
            }
        }
    }

    async fn round(
        &self,
        receivers: &mut HashMap<String, Receiver>,
        unsettled: &mut Vec<(String, Outcome)>,
        attempts: &mut JoinSet<Done>,
        look: Option<BTreeSet<String>>,
    ) -> Result<(), StoreError> {
        if !unsettled.is_empty() {
            self.store.settle_deliveries(&self.owner, unsettled).await?;
            unsettled.clear();
        }
        let Some(names) = look else {
            // Healthy and idle ones need no memory.
            receivers.retain(|_, receiver| receiver.under_way > 0 || receiver.backoff.failures() > 0);
            let mut after = String::new();
            loop {
                let names = self.store.waiting_endpoints(&after, PAGE).await?;
                for name in &names {
                    self.claim(receivers, attempts, name).await?;
                }
                match names.into_iter().nth(PAGE - 1) {
                    Some(last) => after = last,
                    None => return Ok(()),
                }
            }
        };
        for name in names {
            self.claim(receivers, attempts, &name).await?;
        }
        Ok(())
    }

    /// Takes on what a receiver may get now.
    async fn claim(
        &self,
        receivers: &mut HashMap<String, Receiver>,
        attempts: &mut JoinSet<Done>,
        name: &str,
    ) -> Result<(), StoreError> {
        let (under_way, most) = match receivers.get(name) {
            Some(receiver) if receiver.rests_until > Instant::now() => return Ok(()),
            Some(receiver) if receiver.backoff.failures() > 0 => (receiver.under_way, 1),
            Some(receiver) => (receiver.under_way, self.config.per_receiver),
            None => (0, self.config.per_receiver),
        };
        let room = most.saturating_sub(under_way).min(self.config.at_once.saturating_sub(attempts.len()));
        if room == 0 {
            return Ok(());
        }
        let claimed =
            self.store.claim_deliveries(name, &self.owner, self.sender.timeout() + LEASE, room).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        let receiver = receivers.entry(name.to_owned()).or_insert_with(|| Receiver {
            under_way: 0,
            backoff: Backoff::new(SHORTEST_REST, LONGEST_REST),
            rests_until: Instant::now(),
        });
        for claimed in claimed {
            receiver.under_way += 1;
            attempts.spawn(attempt(self.store.clone(), self.sender.clone(), claimed));
        }
        Ok(())
    }

    /// What follows from an attempt, for the delivery and for its receiver.
    async fn judge(
        &self,
        receivers: &mut HashMap<String, Receiver>,
        claimed: &Claimed,
        attempt: Attempt,
    ) -> Outcome {
        self.counters.attempts.increment();
        let receiver = receivers.get_mut(&claimed.endpoint);
        let gone = attempt.gone();
        let Some(error) = attempt.error else {
            self.counters.delivered.increment();
            if let Some(receiver) = receiver {
                receiver.under_way = receiver.under_way.saturating_sub(1);
                let failures = receiver.backoff.failures();
                receiver.backoff.worked();
                receiver.rests_until = Instant::now();
                if failures >= DOWN_AFTER {
                    tracing::info!(receiver = claimed.endpoint, "a receiver of webhooks is back");
                    // If this fails, the retries come when they are due.
                    let _ = self.store.hurry_deliveries(&claimed.endpoint).await;
                }
            }
            return Outcome::Delivered;
        };
        self.counters.failures.increment();
        if let Some(receiver) = receiver {
            receiver.under_way = receiver.under_way.saturating_sub(1);
            // Those that were under way together fail for one reason, and count once.
            let counts = receiver.rests_until <= Instant::now();
            if counts {
                let rest = receiver.backoff.failed();
                if receiver.backoff.failures() >= RESTS_AFTER {
                    receiver.rests_until = Instant::now() + rest;
                }
            }
            if counts && receiver.backoff.failures() == DOWN_AFTER {
                tracing::warn!(
                    receiver = claimed.endpoint,
                    error,
                    "a receiver of webhooks is down; its events wait"
                );
            }
        }
        if gone && !claimed.for_call {
            let reason = "the receiver answered 410 Gone";
            if self.store.disable_webhook(&claimed.endpoint, reason).await.unwrap_or(false) {
                self.counters.disabled.increment();
                tracing::warn!(receiver = claimed.endpoint, "a webhook was switched off: {reason}");
            }
        }
        let wait = self.config.wait_after(claimed.attempts.saturating_add(1), attempt.retry_after);
        match wait.filter(|_| !gone) {
            Some(wait) => Outcome::Later { due_at: Moment::now().after(wait), status: attempt.status, error },
            None => {
                self.counters.dead.increment();
                Outcome::Dead { status: attempt.status, error }
            }
        }
    }

    /// Gives up and forgets what is too old; a bounded piece at a time.
    pub(super) async fn tidy(
        store: &Store,
        config: &WebhookConfig,
        counters: &WebhookCounters,
    ) -> Result<(), StoreError> {
        let now = Moment::now();
        let given_up = store.give_up_deliveries(now.before(config.give_up()), TIDY).await?;
        counters.dead.add(given_up);
        store.forget_deliveries(now.before(config.keep_dead), TIDY).await?;
        store.forget_call_webhooks(now.before(LONGEST_CALL), TIDY).await.map(drop)
    }
}

/// One request.
async fn attempt(store: Store, sender: Sender, claimed: Claimed) -> Done {
    let secret = match &claimed.secret {
        Some(secret) => SigningSecret::parse(secret).ok_or_else(|| "its secret cannot be read".to_owned()),
        None => call_secret(&store, &claimed.event.tenant).await.map_err(|error| error.to_string()),
    };
    let attempt = match secret {
        Ok(secret) => {
            let id = claimed.event.id.to_string();
            let body: Bytes = super::body(&claimed.event);
            sender.send(Message { url: &claimed.url, id: &id, body, secret: &secret }).await
        }
        Err(error) => Attempt { status: None, error: Some(error), retry_after: None, took: Duration::ZERO },
    };
    (claimed, attempt)
}

/// The secret that signs webhooks of a tenant's calls; made when it is first needed.
pub(super) async fn call_secret(store: &Store, tenant: &TenantId) -> Result<SigningSecret, SecretError> {
    for _ in 0..2 {
        if let Some(kept) = store.call_webhook_secret(tenant).await? {
            return SigningSecret::parse(&kept).ok_or(SecretError::Form);
        }
        let fresh = SigningSecret::generate().map_err(SecretError::Random)?;
        store.first_call_webhook_secret(tenant, &fresh.reveal()).await?;
    }
    Err(SecretError::Form)
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("its secret cannot be read")]
    Form,
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// How often to look without being woken: for retries, and for what other nodes queued.
const POLL: Duration = Duration::from_secs(1);
/// How long a delivery belongs to this process beyond the time that an attempt may take.
const LEASE: Duration = Duration::from_secs(20);
/// Receivers per question.
const PAGE: usize = 500;
/// A receiver that failed so often in a row rests between requests.
const RESTS_AFTER: u32 = 3;
/// And so often: it is said to be down, and when it is back, nothing waits for its retry.
const DOWN_AFTER: u32 = 5;
const SHORTEST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// What a receiver asks for with Retry-After is heeded up to this.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(3_600);
/// After this, a call's receiver is forgotten.
const LONGEST_CALL: Duration = Duration::from_secs(3 * 86_400);
const TIDY: usize = 1_000;
