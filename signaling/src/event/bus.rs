//! Events to a broker: one task per broker, which owns it among all nodes for as long as its lease holds, and reads
//! the outbox from where the broker has confirmed.
//!
//! ```text
//! outbox, by position --batch--> publish, all in flight --confirmed in order--> cursor
//!                                      | the first failure
//!                                      v
//!                         connection dropped, back-off, again from the cursor
//! ```
//! So a broker that is down delays only itself, nothing is kept in memory for it but one batch, and what was sent
//! but not confirmed is sent again with the same id, behind nothing that is later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::amqp::{AmqpConfig, AmqpLink};
use super::backoff::Backoff;
use super::counters::SinkState;
use super::nats::{NatsConfig, NatsLink};
use crate::store::{PlacedEvent, Store, StoreError};

/// A broker.
#[derive(Clone, Debug)]
pub enum BusConfig {
    /// NATS JetStream.
    Nats(NatsConfig),
    /// AMQP 0-9-1, such as RabbitMQ.
    Amqp(AmqpConfig),
}

impl BusConfig {
    /// The name of its cursor, and in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nats(_) => "nats",
            Self::Amqp(_) => "amqp",
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Nats(config) => config.url.to_string(),
            Self::Amqp(config) => config.url.to_string(),
        }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Nats(config) => &config.prefix,
            Self::Amqp(config) => &config.prefix,
        }
    }

    async fn connect(&self) -> Result<Link, BusError> {
        Ok(match self {
            Self::Nats(config) => Link::Nats(NatsLink::connect(config, PATIENCE).await?),
            Self::Amqp(config) => Link::Amqp(AmqpLink::connect(config, PATIENCE).await?),
        })
    }
}

/// Which broker, without its password.
impl fmt::Display for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name(), self.place())
    }
}

/// Why a broker cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BusError(pub(super) String);

/// An event, ready to go.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) id: String,
    pub(super) kind: String,
    /// The subject or routing key.
    pub(super) subject: String,
    pub(super) body: Bytes,
}

/// How far a batch came.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// How many from the beginning need not be sent again.
    pub(super) done: usize,
    /// How many of those went nowhere because nobody wants them.
    pub(super) unroutable: usize,
    /// How many of those the broker can never take.
    pub(super) refused: usize,
    /// Why it did not come further.
    pub(super) error: Option<String>,
}

enum Link {
    Nats(NatsLink),
    Amqp(AmqpLink),
}

impl Link {
    async fn publish(&self, parcels: &[Parcel]) -> Published {
        match self {
            Self::Nats(link) => link.publish(parcels).await,
            Self::Amqp(link) => link.publish(parcels).await,
        }
    }
}

/// What a bus works with.
pub(super) struct Bus {
    pub(super) config: BusConfig,
    pub(super) store: Store,
    /// This process, as the owner of leases.
    pub(super) owner: String,
    /// The last position that is known to be placed.
    pub(super) placed: watch::Receiver<i64>,
    pub(super) state: Arc<SinkState>,
    pub(super) stop: CancellationToken,
}

/// Why a round with a broker ended.
enum End {
    /// Another node has it.
    Elsewhere,
    /// The broker.
    Broker(String),
    /// The store.
    Store(StoreError),
}

impl Bus {
    /// Publishes until it is stopped.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.rounds() => {}
        }
        // So that another node need not wait for the lease's end.
        let release = self.store.release_cursor(self.config.name(), &self.owner);
        let _ = timeout(Duration::from_secs(1), release).await;
    }

    async fn rounds(&mut self) {
        let name = self.config.name();
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let end = self.round(&mut backoff).await;
            self.state.connected(false);
            let wait = match end {
                End::Elsewhere => TURN,
                End::Broker(error) => {
                    self.state.failures.increment();
                    // Another node may reach it.
                    let _ = self.store.release_cursor(name, &self.owner).await;
                    if backoff.failures() == 0 {
                        tracing::warn!(
                            broker = name,
                            url = self.config.place(),
                            "events wait in the outbox: {}; the broker is tried again until it takes them",
                            super::clean(&error, 300)
                        );
                    }
                    backoff.failed()
                }
                End::Store(error) => {
                    tracing::debug!(broker = name, %error, "the outbox cannot be read");
                    backoff.failed()
                }
            };
            sleep(wait).await;
        }
    }

    async fn round(&mut self, backoff: &mut Backoff) -> End {
        match self.deliver(backoff).await {
            Ok(end) => end,
            Err(error) => End::Store(error),
        }
    }

    async fn deliver(&mut self, backoff: &mut Backoff) -> Result<End, StoreError> {
        let name = self.config.name();
        if self.store.lease_cursor(name, &self.owner, LEASE).await?.is_none() {
            return Ok(End::Elsewhere);
        }
        let link = match self.config.connect().await {
            Ok(link) => link,
            Err(error) => return Ok(End::Broker(error.0)),
        };
        // Connecting took a while; and it is the place to go on from that counts.
        let Some(mut position) = self.store.lease_cursor(name, &self.owner, LEASE).await? else {
            return Ok(End::Elsewhere);
        };
        self.state.connected(true);
        if backoff.failures() > 0 {
            tracing::info!(broker = name, "events go to the broker again");
        }
        let mut leased = Instant::now();
        loop {
            // Whatever is placed from here on wakes us below.
            self.placed.borrow_and_update();
            let events = self.store.events_after(position, BATCH).await?;
            if let Some(last) = events.last() {
                let parcels: Vec<Parcel> = events.iter().map(|event| self.parcel(event)).collect();
                let published = link.publish(&parcels).await;
                self.state.delivered.add(published.done as u64);
                self.state.unroutable.add(published.unroutable as u64);
                self.state.refused.add(published.refused as u64);
                if published.done > 0 {
                    position = if published.done == events.len() {
                        last.position
                    } else {
                        events[published.done - 1].position
                    };
                    if !self.store.advance_cursor(name, &self.owner, position, LEASE).await? {
                        return Ok(End::Elsewhere);
                    }
                    leased = Instant::now();
                    backoff.worked();
                }
                if let Some(error) = published.error {
                    return Ok(End::Broker(error));
                }
                continue;
            }
            self.state.caught_up();
            backoff.worked();
            let _ = timeout(POLL, self.placed.changed()).await;
            if leased.elapsed() > LEASE / 3 {
                if self.store.lease_cursor(name, &self.owner, LEASE).await?.is_none() {
                    return Ok(End::Elsewhere);
                }
                leased = Instant::now();
            }
        }
    }

    fn parcel(&self, event: &PlacedEvent) -> Parcel {
        Parcel {
            id: event.id.to_string(),
            kind: event.kind.clone(),
            subject: subject(self.config.prefix(), &event.tenant.0, &event.kind),
            body: super::body(event),
        }
    }
}

/// `PREFIX.TENANT.KIND`; what a tenant's name has that has a meaning in subjects and routing keys becomes `_`.
fn subject(prefix: &str, tenant: &str, kind: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let tenant: String = tenant.chars().take(64).map(plain).collect();
    format!("{prefix}.{}.{kind}", if tenant.is_empty() { "_" } else { &tenant })
}

/// Events in flight to a broker at once.
pub(super) const BATCH: usize = 256;
/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a node owns a broker without a sign of life; longer than any answer is waited for.
const LEASE: Duration = Duration::from_secs(30);
/// How often to see whether the node that owns a broker is still there.
const TURN: Duration = Duration::from_secs(2);
/// How often to look without being woken.
const POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_the_tokens_that_it_should_have() {
        assert_eq!(subject("sidetone", "acme", "call.ended"), "sidetone.acme.call.ended");
        assert_eq!(subject("sidetone", "a.b *>#\r\nc", "call.ended"), "sidetone.a_b______c.call.ended");
        assert_eq!(subject("sidetone", "", "call.ended"), "sidetone._.call.ended");
    }
}
