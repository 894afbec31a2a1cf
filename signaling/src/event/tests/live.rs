//! Live readers, on both databases.

use std::time::Duration;

use super::super::{Events, EventsConfig, LiveError, Subscription};
use super::{emit, emit_calls, quick, tenant, until};
use crate::model::{EventKind, Id};
use crate::store::testing::stores;

async fn next(subscription: &mut Subscription) -> String {
    let event = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.expect("in time");
    event.expect("an event").id.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_what_happens_to_its_tenant_in_order_and_goes_on_where_it_was() {
    for store in stores().await {
        let (acme, other) = (tenant("acme"), tenant("other"));
        let events = Events::start(store.clone(), quick()).expect("started");
        emit(&store, &acme, EventKind::CallEnded, "before").await;
        until("it is placed", async || events.counters().placed.value() == 1).await;
        let mut reader = events.live().subscribe(acme.clone(), Vec::new(), None).await.expect("a reader");
        let mut ends =
            events.live().subscribe(acme.clone(), vec![EventKind::CallEnded], None).await.expect("a reader");
        let mut ids = Vec::new();
        for n in 0..20 {
            emit(&store, &other, EventKind::CallEnded, "theirs").await;
            let kind = if n % 2 == 0 { EventKind::CallRinging } else { EventKind::CallEnded };
            ids.push(emit(&store, &acme, kind, "ours").await.to_string());
        }
        for id in &ids {
            assert_eq!(next(&mut reader).await, *id);
        }
        for id in ids.iter().skip(1).step_by(2) {
            assert_eq!(next(&mut ends).await, *id);
        }
        // From the middle on, what was missed first, then what happens.
        let after = ids[4].parse::<Id>().expect("an id");
        let mut again =
            events.live().subscribe(acme.clone(), Vec::new(), Some(after)).await.expect("a reader");
        for id in &ids[5..] {
            assert_eq!(next(&mut again).await, *id);
        }
        let id = emit(&store, &acme, EventKind::CallEnded, "new").await.to_string();
        assert_eq!(next(&mut again).await, id);
        // Another tenant's event is no place to go on from.
        let foreign = events.live().subscribe(other, Vec::new(), Some(after)).await;
        assert!(matches!(foreign, Err(LiveError::Unknown)));
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_begins_far_behind_catches_up_while_more_happens() {
    for store in stores().await {
        let acme = tenant("acme");
        let events = Events::start(store.clone(), quick()).expect("started");
        let first = emit(&store, &acme, EventKind::CallEnded, "first").await;
        let told = 4 * emit_calls(&store, &acme, 150).await.len();
        until("all are placed", async || events.counters().placed.value() == told as u64 + 1).await;
        let mut reader =
            events.live().subscribe(acme.clone(), Vec::new(), Some(first)).await.expect("a reader");
        let writer = {
            let (store, acme) = (store.clone(), acme.clone());
            tokio::spawn(async move { emit_calls(&store, &acme, 50).await.len() })
        };
        let mut seen = Vec::new();
        for _ in 0..told + 200 {
            seen.push(next(&mut reader).await);
        }
        assert_eq!(writer.await.expect("written"), 50);
        assert!(seen.is_sorted(), "in the order of their times");
        seen.dedup();
        assert_eq!(seen.len(), told + 200);
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_ended_and_there_are_only_so_many() {
    let store = crate::store::testing::sqlite().await;
    let acme = tenant("acme");
    let events = Events::start(store.clone(), EventsConfig { live_streams: 1, ..quick() }).expect("started");
    let mut reader = events.live().subscribe(acme.clone(), Vec::new(), None).await.expect("a reader");
    let full = events.live().subscribe(acme.clone(), Vec::new(), None).await;
    assert!(matches!(full, Err(LiveError::Full)));
    emit(&store, &acme, EventKind::CallEnded, "one").await;
    next(&mut reader).await;
    let mut transaction = store.begin().await.expect("a transaction");
    for _ in 0..3_000 {
        let event = crate::model::Event::new(&acme, EventKind::CallEnded, "x", serde_json::json!({}));
        transaction.emit(&event).await.expect("told");
    }
    transaction.commit().await.expect("committed");
    until("all are placed", async || events.counters().placed.value() == 3_001).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let end = async {
        loop {
            if let Err(error) = reader.next().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), end).await.expect("in time");
    assert!(matches!(error, LiveError::Slow), "{error}");
    assert_eq!(events.counters().live_slow.value(), 1);
    drop(reader);
    assert!(events.live().subscribe(acme, Vec::new(), None).await.is_ok());
    events.shutdown().await;
}
