//! What was delivered, and what waits.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use engine::Counter;

use crate::telemetry::Exposition;

xdp::counters! {
    /// What the webhooks did.
    pub struct WebhookCounters {
        attempts: "Requests to receivers of webhooks",
        delivered: "Events that a receiver of webhooks took",
        failures: "Requests that a receiver of webhooks did not take",
        refused_addresses: "Requests that were not made because of where they would have gone",
        dead: "Events given up for a receiver of webhooks; they wait in the dead-letter list",
        disabled: "Webhooks switched off because their receiver is gone (410)",
        replayed: "Deliveries made again by request",
    }
}

xdp::counters! {
    /// What the outbox and its live readers did.
    pub struct EventCounters {
        placed: "Events taken from the outbox to be delivered",
        store_failures: "Times that the outbox could not be read or written",
        live_sent: "Events sent to WebSockets",
        live_slow: "WebSockets closed because their reader was too slow",
        live_refused: "WebSockets refused because there were as many as allowed",
    }
}

/// How a broker stands.
#[derive(Debug, Default)]
pub struct SinkState {
    /// Events that it confirmed.
    pub delivered: Counter,
    /// Connections that failed or broke.
    pub failures: Counter,
    /// Events that no queue was bound for.
    pub unroutable: Counter,
    /// Events that are too large for it.
    pub refused: Counter,
    connected: AtomicBool,
    pending: AtomicI64,
    lag_us: AtomicI64,
}

impl SinkState {
    pub(super) fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub(super) fn caught_up(&self) {
        self.waits(0, 0);
    }

    /// How many events wait, and how old the oldest is.
    pub(super) fn waits(&self, pending: i64, lag_us: i64) {
        self.pending.store(pending, Ordering::Relaxed);
        self.lag_us.store(lag_us, Ordering::Relaxed);
    }

    /// Whether this process has a connection to it.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many events wait for it.
    #[must_use]
    pub fn pending(&self) -> u64 {
        u64::try_from(self.pending.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// How old the oldest of them is, in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    pub fn lag_s(&self) -> f64 {
        self.lag_us.load(Ordering::Relaxed).max(0) as f64 / 1e6
    }

    pub(super) fn expose(&self, name: &str, out: &mut Exposition) {
        let labels = [("sink", name)];
        let counters = [
            ("delivered", "Events that the sink took", &self.delivered),
            ("failures", "Failed attempts to deliver", &self.failures),
            ("unroutable", "Events that no queue was bound for", &self.unroutable),
            ("refused", "Events that are too large for the sink", &self.refused),
        ];
        for (counter, help, value) in counters {
            out.counter(&format!("sidetone_events_{counter}"), help, &labels, value.value());
        }
        let connected = u64::from(self.is_connected());
        out.gauge(
            "sidetone_events_connected",
            "1 while there is a connection to the sink",
            &labels,
            connected,
        );
        out.gauge("sidetone_events_pending", "Events that wait for the sink", &labels, self.pending());
        out.gauge("sidetone_events_lag_seconds", "Age of the oldest event that waits", &labels, self.lag_s());
    }
}
