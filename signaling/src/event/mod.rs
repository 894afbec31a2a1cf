//! Events to the outside, at least once, from the outbox.
//!
//! ```text
//! Transaction::emit -> outbox -> placed (one order for all) -+-> one cursor per broker -> NATS JetStream, AMQP
//!                                                            +-> a delivery per webhook that wants it -> HTTP
//!                                                            +-> live -> WebSockets, with what they missed
//! ```
//! An event is in the outbox when the transaction of what it tells about is committed. It is delivered until its
//! receiver has confirmed it, also by the next life of this process or by another node on the same database; a
//! receiver may see it twice, with the same id. Order is kept per subject. Each receiver has its own place in the
//! store and no queue in memory beyond what is under way, so one that is down delays only itself.

mod address;
mod amqp;
mod backoff;
mod bus;
mod counters;
mod live;
mod nats;
mod secret;
mod sender;
mod signature;
mod tls;
mod webhook;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::model::{Id, Moment, TenantId};
use crate::store::{PlacedEvent, Store, StoreError, Transaction, committed};
use crate::telemetry::Exposition;

pub use address::Reach;
pub use amqp::AmqpConfig;
pub use bus::BusConfig;
pub use counters::{EventCounters, SinkState, WebhookCounters};
pub use live::{Live, LiveError, Subscription};
pub use nats::NatsConfig;
pub use secret::SecretUrl;
pub use sender::{Attempt, LONGEST_URL, Message, Sender, SenderConfig, SenderError, UrlError};
pub use signature::SigningSecret;
pub use tls::read_authorities;
pub use webhook::WebhookConfig;

use backoff::Backoff;
use bus::Bus;
use webhook::Webhooks;

/// What is delivered, and where.
#[derive(Clone, Debug)]
pub struct EventsConfig {
    /// Where webhooks may go.
    pub sender: SenderConfig,
    /// How webhooks are delivered.
    pub webhooks: WebhookConfig,
    /// The brokers, each kind once at most.
    pub buses: Vec<BusConfig>,
    /// WebSockets of events at once.
    pub live_streams: usize,
    /// Webhooks of one tenant.
    pub webhooks_per_tenant: usize,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            sender: SenderConfig {
                reach: Reach::default(),
                https_only: false,
                timeout: Duration::from_secs(10),
                authorities: Vec::new(),
            },
            webhooks: WebhookConfig::default(),
            buses: Vec::new(),
            live_streams: 256,
            webhooks_per_tenant: 50,
        }
    }
}

/// The delivery of events. Cheap to clone; it goes on until [`Events::shutdown`].
#[derive(Clone, Debug)]
pub struct Events {
    store: Store,
    sender: Sender,
    live: Live,
    /// This process, as the owner of leases.
    owner: String,
    counters: Arc<EventCounters>,
    webhooks: Arc<WebhookCounters>,
    /// What waits for webhooks, as that of a broker.
    waiting: Arc<SinkState>,
    dead: Arc<std::sync::atomic::AtomicI64>,
    buses: Vec<(&'static str, Arc<SinkState>)>,
    webhooks_per_tenant: usize,
    stop: CancellationToken,
    tasks: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

impl Events {
    /// Starts to deliver what is in the store, on the current tokio runtime.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn start(store: Store, config: EventsConfig) -> Result<Self, SenderError> {
        let sender = Sender::new(config.sender.clone())?;
        Ok(Self::start_with(store, config, sender))
    }

    fn start_with(store: Store, config: EventsConfig, sender: Sender) -> Self {
        let counters = Arc::new(EventCounters::default());
        let webhooks = Arc::new(WebhookCounters::default());
        let stop = CancellationToken::new();
        let owner = Id::new().to_string();
        let (place, placed) = watch::channel(0);
        let live = Live::new(store.clone(), config.live_streams, Arc::clone(&counters));
        let mut tasks = JoinSet::new();
        let mut buses = Vec::new();
        for bus in config.buses {
            let state = Arc::new(SinkState::default());
            buses.push((bus.name(), Arc::clone(&state)));
            let bus = Bus {
                config: bus,
                store: store.clone(),
                owner: owner.clone(),
                placed: placed.clone(),
                state,
                stop: stop.clone(),
            };
            tasks.spawn(bus.run());
        }
        let delivery = Webhooks {
            store: store.clone(),
            sender: sender.clone(),
            config: config.webhooks.clone(),
            owner: owner.clone(),
            counters: Arc::clone(&webhooks),
            placed: placed.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(delivery.run());
        tasks.spawn(live.clone().run(placed));
        let events = Self {
            store,
            sender,
            live,
            owner,
            counters,
            webhooks,
            waiting: Arc::default(),
            dead: Arc::default(),
            buses,
            webhooks_per_tenant: config.webhooks_per_tenant,
            stop,
            tasks: Arc::default(),
        };
        tasks.spawn(events.clone().place(place));
        tasks.spawn(events.clone().watch(config.webhooks));
        // Nobody else has it yet.
        if let Ok(mut kept) = events.tasks.try_lock() {
            *kept = tasks;
        }
        events
    }

    /// Gives new events their places, as soon as they are committed here, and soon when elsewhere.
    async fn place(self, place: watch::Sender<i64>) {
        let mut committed = committed();
        // Such a file has one process: what its life before had under way is ours at once, not when leases end.
        if self.store.kind() == "sqlite"
            && let Err(error) = self.store.release_leases_but(&self.owner).await
        {
            tracing::debug!(%error, "leases of an earlier life stay until they end");
        }
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        loop {
            let wait = match self.store.place_events(PLACED_AT_ONCE).await {
                Ok((count, last)) => {
                    backoff.worked();
                    self.counters.placed.add(count as u64);
                    place.send_if_modified(|known| std::mem::replace(known, last) != last);
                    if count >= PLACED_AT_ONCE { Duration::ZERO } else { POLL }
                }
                Err(error) => {
                    self.counters.store_failures.increment();
                    if backoff.failures() == 0 {
                        tracing::warn!(%error, "events cannot be taken from the outbox; they wait there");
                    }
                    sleep(backoff.failed()).await;
                    Duration::ZERO
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = timeout(wait, committed.changed()) => {}
            }
            // Many commits, one look.
            sleep(GATHER).await;
        }
    }

    /// Looks after what waits: figures for metrics, and what is too old.
    async fn watch(self, config: WebhookConfig) {
        let mut round = 0u32;
        loop {
            if let Err(error) = self.measure().await {
                tracing::debug!(%error, "what waits cannot be counted");
            }
            if round.is_multiple_of(TIDY_ROUNDS)
                && let Err(error) = Webhooks::tidy(&self.store, &config, &self.webhooks).await
            {
                tracing::debug!(%error, "old deliveries cannot be tidied up");
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(MEASURE) => {}
            }
        }
    }

    async fn measure(&self) -> Result<(), StoreError> {
        let lag = |oldest: Option<Moment>| {
            oldest.map_or(0, |oldest| Moment::now().micros().saturating_sub(oldest.micros()))
        };
        for (name, state) in &self.buses {
            let backlog = self.store.cursor_backlog(name).await?;
            state.waits(backlog.pending, lag(backlog.oldest));
        }
        let (backlog, dead) = self.store.webhook_backlog().await?;
        self.waiting.waits(backlog.pending, lag(backlog.oldest));
        self.dead.store(dead, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Ends the delivery; what is not confirmed goes on at the next start, or on another node at once.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().await);
        let _ = timeout(PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// Ends when the delivery does.
    #[must_use]
    pub fn ending(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Events as they happen.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// Sends and judges webhooks.
    #[must_use]
    pub const fn sender(&self) -> &Sender {
        &self.sender
    }

    /// What the outbox and its live readers did.
    #[must_use]
    pub fn counters(&self) -> &EventCounters {
        &self.counters
    }

    /// What the webhooks did.
    #[must_use]
    pub fn webhook_counters(&self) -> &WebhookCounters {
        &self.webhooks
    }

    /// Webhooks that one tenant may have.
    #[must_use]
    pub const fn webhooks_per_tenant(&self) -> usize {
        self.webhooks_per_tenant
    }

    /// Sends the `call.*` events about `subject`, a call's or leg's id, to `url`, too. Part of the transaction that
    /// makes the call, before its first event.
    ///
    /// # Errors
    /// The URL cannot be used, or the database is down.
    pub async fn watch_call(
        &self,
        transaction: &mut Transaction,
        tenant: &TenantId,
        subject: &str,
        url: &str,
    ) -> Result<(), WatchError> {
        self.sender.check(url)?;
        Ok(transaction.watch_call(tenant, subject, &endpoint_of(tenant, url), url).await?)
    }

    /// As [`Self::watch_call`], in a transaction of its own.
    ///
    /// # Errors
    /// The URL cannot be used, or the database is down.
    pub async fn watch_call_now(
        &self,
        tenant: &TenantId,
        subject: &str,
        url: &str,
    ) -> Result<(), WatchError> {
        self.sender.check(url)?;
        let mut transaction = self.store.begin().await?;
        self.watch_call(&mut transaction, tenant, subject, url).await?;
        Ok(transaction.commit().await?)
    }

    /// Writes all figures.
    pub fn expose(&self, out: &mut Exposition) {
        self.counters
            .for_each(|name, help, value| out.counter(&format!("sidetone_events_{name}"), help, &[], value));
        self.webhooks.for_each(|name, help, value| {
            out.counter(&format!("sidetone_webhooks_{name}"), help, &[], value)
        });
        let (pending, lag) = (self.waiting.pending(), self.waiting.lag_s());
        out.gauge("sidetone_webhooks_pending", "Events that wait for receivers of webhooks", &[], pending);
        out.gauge("sidetone_webhooks_lag_seconds", "Age of the oldest of them", &[], lag);
        let dead = u64::try_from(self.dead.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(0);
        out.gauge("sidetone_webhooks_dead_letters", "Events in the dead-letter list", &[], dead);
        for (name, state) in &self.buses {
            state.expose(name, out);
        }
    }
}

/// Why a call's events do not go to a URL.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Names a URL of calls among all receivers; no webhook's id begins so.
fn endpoint_of(tenant: &TenantId, url: &str) -> String {
    use std::fmt::Write as _;
    let digest =
        Sha256::new().chain_update(tenant.0.as_bytes()).chain_update([0]).chain_update(url).finalize();
    digest.iter().take(16).fold("url:".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// An event as receivers get it.
fn body(event: &PlacedEvent) -> Bytes {
    // Strings and a JSON value: nothing in it refuses to be written.
    serde_json::to_vec(event).map(Bytes::from).unwrap_or_default()
}

fn seconds_now() -> i64 {
    Moment::now().micros().div_euclid(1_000_000)
}

/// A foreign sentence for logs and answers: without control characters, and not longer than `most`.
fn clean(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

const PLACED_AT_ONCE: usize = 500;
/// How long commits are gathered before a look.
const GATHER: Duration = Duration::from_millis(10);
/// How often to look for commits of other nodes.
const POLL: Duration = Duration::from_millis(500);
const MEASURE: Duration = Duration::from_secs(10);
const TIDY_ROUNDS: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(3);
