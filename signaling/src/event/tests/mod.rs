//! Delivery to real receivers: HTTP servers, a NATS server, a RabbitMQ.

mod brokers;
mod live;
mod receiver;
mod ssrf;
mod webhooks;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{EventsConfig, Reach, SenderConfig, SigningSecret, WebhookConfig};
use crate::model::{Event, EventKind, Id, Moment, TenantId, Webhook};
use crate::store::Store;

fn tenant(name: &str) -> TenantId {
    TenantId(name.to_owned())
}

/// Reaches 127.0.0.1, and waits for nothing long.
fn quick() -> EventsConfig {
    EventsConfig {
        sender: SenderConfig {
            reach: Reach::new(vec!["127.0.0.1/32".parse().expect("a network")]),
            https_only: false,
            timeout: Duration::from_millis(700),
            authorities: Vec::new(),
        },
        webhooks: WebhookConfig { retries: vec![Duration::from_millis(50); 12], ..WebhookConfig::default() },
        ..EventsConfig::default()
    }
}

/// Tells one event.
async fn emit(store: &Store, tenant: &TenantId, kind: EventKind, subject: &str) -> Id {
    let event = Event::new(tenant, kind, subject, json!({ "n": 1, "text": "ä\u{1}" }));
    let mut transaction = store.begin().await.expect("a transaction");
    transaction.emit(&event).await.expect("told");
    transaction.commit().await.expect("committed");
    event.id
}

/// Tells the events of some calls, each with four kinds; returns the ids of each call's in order.
async fn emit_calls(store: &Store, tenant: &TenantId, calls: usize) -> BTreeMap<String, Vec<String>> {
    let mut told = BTreeMap::new();
    for _ in 0..calls {
        let subject = Id::new().to_string();
        let mut ids = Vec::new();
        for kind in
            [EventKind::CallInitiated, EventKind::CallRinging, EventKind::CallAnswered, EventKind::CallEnded]
        {
            ids.push(emit(store, tenant, kind, &subject).await.to_string());
        }
        told.insert(subject, ids);
    }
    told
}

/// Adds a webhook; returns it with its secret.
async fn hook(store: &Store, tenant: &TenantId, url: &str, kinds: &[EventKind]) -> (Webhook, String) {
    let secret = SigningSecret::generate().expect("random numbers").reveal().to_string();
    let now = Moment::now();
    let webhook = Webhook {
        id: Id::new(),
        tenant: tenant.clone(),
        url: url.to_owned(),
        description: String::new(),
        kinds: kinds.to_vec(),
        active: true,
        disabled_reason: None,
        created_at: now,
        updated_at: now,
    };
    let mut transaction = store.begin().await.expect("a transaction");
    assert!(transaction.add_webhook(store, &webhook, &secret, 50).await.expect("added"));
    transaction.commit().await.expect("committed");
    (webhook, secret)
}

/// Waits until `is` says so, or fails with `what`.
async fn until(what: &str, is: impl AsyncFn() -> bool) {
    for _ in 0..1_500 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within half a minute: {what}");
}
