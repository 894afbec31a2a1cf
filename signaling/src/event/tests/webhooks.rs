//! Webhooks, on both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{Events, WebhookConfig, seconds_now};
use super::receiver::{Mood, Receiver};
use super::{emit, emit_calls, hook, quick, tenant, until};
use crate::model::{EventKind, Moment};
use crate::store::WebhookChange;
use crate::store::testing::{postgres, stores};

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_and_carries_the_event() {
    for store in stores().await {
        let receiver = Receiver::start().await;
        let acme = tenant("acme");
        let (_, secret) = hook(&store, &acme, &receiver.url(), &[]).await;
        let events = Events::start(store.clone(), quick()).expect("started");
        let id = emit(&store, &acme, EventKind::CallAnswered, "call-1").await;
        until("it came", async || receiver.taken().len() == 1).await;
        let taken = receiver.taken().remove(0);
        assert_eq!(taken.id, id.to_string());
        assert!(taken.is_signed_with(&secret));
        assert!(!taken.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        assert!((taken.timestamp - seconds_now()).abs() < 60);
        assert_eq!(taken.content_type, "application/json");
        let event = taken.event();
        assert_eq!(event["id"], id.to_string());
        assert_eq!(event["type"], "call.answered");
        assert_eq!(event["tenant"], "acme");
        assert_eq!(event["subject"], "call-1");
        assert_eq!(event["data"]["text"], "ä\u{1}");
        assert!(event["time"].as_str().expect("text").ends_with('Z'));
        // It is not sent again, and nothing is left of it.
        until("nothing waits", async || store.webhook_backlog().await.expect("counted").0.pending == 0).await;
        assert_eq!(receiver.requests(), 1);
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_misbehaves_in_every_way_gets_everything_in_order() {
    for store in stores().await {
        let receiver = Receiver::start().await;
        receiver.moods(&[
            Mood::Answers(500),
            Mood::Redirects,
            Mood::Takes,
            Mood::Hangs,
            Mood::Drips,
            Mood::Answers(429),
            Mood::Floods,
            Mood::Answers(503),
            Mood::Answers(404),
            Mood::Takes,
        ]);
        let acme = tenant("acme");
        hook(&store, &acme, &receiver.url(), &[]).await;
        let events = Events::start(store.clone(), quick()).expect("started");
        let told = emit_calls(&store, &acme, 12).await;
        until("all came", async || receiver.lanes() == told).await;
        let refused = receiver.all().len() - receiver.taken().len();
        assert!(refused >= 6, "{refused}");
        assert_eq!(events.webhook_counters().dead.value(), 0);
        // It answered 2xx: neither a dripping nor an endless body is a reason to send again.
        until("all settled", async || events.webhook_counters().delivered.value() == 48).await;
        assert_eq!(receiver.taken().len(), 48);
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_for_a_while_misses_nothing() {
    for store in stores().await {
        let mut receiver = Receiver::start().await;
        let acme = tenant("acme");
        hook(&store, &acme, &receiver.url(), &[]).await;
        let mut config = quick();
        config.webhooks.retries = vec![Duration::from_millis(100); 100];
        let events = Events::start(store.clone(), config).expect("started");
        let mut told = emit_calls(&store, &acme, 10).await;
        receiver = receiver.restart(Duration::from_millis(300)).await;
        told.extend(emit_calls(&store, &acme, 10).await);
        receiver = receiver.restart(Duration::from_millis(300)).await;
        told.extend(emit_calls(&store, &acme, 5).await);
        until("all came", async || receiver.lanes() == told).await;
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_delays_only_itself() {
    for store in stores().await {
        let (good, bad) = (Receiver::start().await, Receiver::start().await);
        bad.moods(&[Mood::Hangs]);
        let acme = tenant("acme");
        hook(&store, &acme, &bad.url(), &[]).await;
        hook(&store, &acme, &good.url(), &[]).await;
        let mut config = quick();
        config.sender.timeout = Duration::from_secs(20);
        let events = Events::start(store.clone(), config).expect("started");
        let told = emit_calls(&store, &acme, 30).await;
        until("the good one has all", async || good.lanes() == told).await;
        assert!(bad.requests() <= WebhookConfig::default().per_receiver, "{}", bad.requests());
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_listed_and_can_be_sent_again() {
    for store in stores().await {
        let receiver = Receiver::start().await;
        receiver.moods(&[Mood::Answers(500)]);
        let (acme, other) = (tenant("acme"), tenant("other"));
        let (webhook, _) = hook(&store, &acme, &receiver.url(), &[]).await;
        let mut config = quick();
        config.webhooks.retries = vec![Duration::from_millis(10); 2];
        let events = Events::start(store.clone(), config).expect("started");
        let before = Moment::now();
        let first = emit(&store, &acme, EventKind::CallInitiated, "a").await;
        let second = emit(&store, &acme, EventKind::CallEnded, "a").await;
        let dead = async || store.dead_deliveries(&acme, None, "", 10).await.expect("listed");
        until("both are dead", async || dead().await.len() == 2).await;
        let list = dead().await;
        let one = list.iter().find(|one| one.event == first).expect("the first");
        assert_eq!((one.attempts, one.last_status, one.kind.as_str()), (3, Some(500), "call.initiated"));
        assert_eq!((one.webhook, one.url.as_str()), (Some(webhook.id), receiver.url().as_str()));
        assert_eq!(one.last_error.as_deref(), Some("answered 500"));
        assert!(store.dead_deliveries(&other, None, "", 10).await.expect("listed").is_empty());
        assert_eq!(store.dead_deliveries(&acme, Some(&webhook.id), "", 10).await.expect("listed").len(), 2);

        receiver.moods(&[Mood::Takes]);
        let mut transaction = store.begin().await.expect("a transaction");
        assert_eq!(transaction.revive_delivery(&other, &one.id).await.expect("asked"), 0, "another tenant's");
        assert_eq!(transaction.revive_delivery(&acme, &one.id).await.expect("asked"), 1);
        transaction.commit().await.expect("committed");
        until("the first came", async || receiver.taken().len() == 1).await;
        assert_eq!(receiver.taken()[0].id, first.to_string());

        // A range: the second, which is dead, and the first again, with the same ids and in order.
        let mut transaction = store.begin().await.expect("a transaction");
        let to = Moment::now().after(Duration::from_secs(1));
        let count = transaction.replay_events(&other, &webhook.id, before, to, 100).await.expect("asked");
        assert_eq!(count, 0, "another tenant's");
        let count = transaction.replay_events(&acme, &webhook.id, before, to, 100).await.expect("asked");
        transaction.commit().await.expect("committed");
        assert!((1..=2).contains(&count), "{count}");
        until("both came", async || {
            let ids: BTreeSet<String> = receiver.taken().into_iter().map(|taken| taken.id).collect();
            ids == BTreeSet::from([first.to_string(), second.to_string()])
        })
        .await;
        until("none is dead", async || dead().await.is_empty()).await;
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_switched_off() {
    for store in stores().await {
        let receiver = Receiver::start().await;
        receiver.moods(&[Mood::Answers(410)]);
        let acme = tenant("acme");
        let (webhook, _) = hook(&store, &acme, &receiver.url(), &[]).await;
        let events = Events::start(store.clone(), quick()).expect("started");
        emit(&store, &acme, EventKind::CallInitiated, "a").await;
        let kept = async || store.webhook(&acme, &webhook.id).await.expect("read").expect("there");
        until("it is off", async || !kept().await.active).await;
        assert_eq!(kept().await.disabled_reason.as_deref(), Some("the receiver answered 410 Gone"));
        emit(&store, &acme, EventKind::CallEnded, "b").await;
        until("it is placed", async || events.counters().placed.value() == 2).await;
        assert_eq!(receiver.requests(), 1);

        receiver.moods(&[Mood::Takes]);
        let mut transaction = store.begin().await.expect("a transaction");
        let on = WebhookChange { active: Some(true), ..WebhookChange::default() };
        let changed = transaction.change_webhook(&acme, &webhook.id, &on).await.expect("changed");
        transaction.commit().await.expect("committed");
        assert_eq!(changed.expect("there").disabled_reason, None);
        let id = emit(&store, &acme, EventKind::CallEnded, "c").await;
        until("it came", async || receiver.taken().iter().any(|taken| taken.id == id.to_string())).await;
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_the_kinds_that_it_wants_of_its_tenant() {
    for store in stores().await {
        let (ends, all, others) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        let (acme, other) = (tenant("acme"), tenant("other"));
        hook(&store, &acme, &ends.url(), &[EventKind::CallEnded, EventKind::MessageReceived]).await;
        hook(&store, &acme, &all.url(), &[]).await;
        hook(&store, &other, &others.url(), &[]).await;
        let events = Events::start(store.clone(), quick()).expect("started");
        let told = emit_calls(&store, &acme, 3).await;
        let others_told = emit_calls(&store, &other, 2).await;
        until("all came", async || all.lanes() == told && others.lanes() == others_told).await;
        let last: BTreeMap<_, _> =
            told.iter().map(|(call, ids)| (call.clone(), vec![ids[3].clone()])).collect();
        until("the ends came", async || ends.lanes() == last).await;
        assert_eq!((ends.requests(), all.requests(), others.requests()), (3, 12, 8));
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_one_call_go_to_its_own_receiver_signed_for_its_tenant() {
    for store in stores().await {
        let receiver = Receiver::start().await;
        let acme = tenant("acme");
        let events = Events::start(store.clone(), quick()).expect("started");
        let mut transaction = store.begin().await.expect("a transaction");
        for bad in ["ftp://h/", "http://127.0.0.2/", "http://me:secret@127.0.0.1/", "nothing"] {
            assert!(events.watch_call(&mut transaction, &acme, "call-1", bad).await.is_err(), "{bad}");
        }
        events.watch_call(&mut transaction, &acme, "call-1", &receiver.url()).await.expect("watched");
        transaction.commit().await.expect("committed");
        let mut ids = Vec::new();
        for kind in [EventKind::CallInitiated, EventKind::CallRinging, EventKind::CallEnded] {
            ids.push(emit(&store, &acme, kind, "call-1").await.to_string());
            emit(&store, &acme, kind, "call-2").await;
            emit(&store, &tenant("other"), kind, "call-1").await;
        }
        emit(&store, &acme, EventKind::MessageReceived, "call-1").await;
        until("they came", async || receiver.lanes().get("call-1") == Some(&ids)).await;
        assert_eq!(receiver.requests(), 3);
        let secret = store.call_webhook_secret(&acme).await.expect("read").expect("made");
        assert!(receiver.taken().iter().all(|taken| taken.is_signed_with(&secret)));
        events.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_database_share_the_work_and_send_nothing_twice() {
    let Some(store) = postgres().await else { return };
    let receiver = Receiver::start().await;
    let acme = tenant("acme");
    for _ in 0..4 {
        hook(&store, &acme, &receiver.url(), &[]).await;
    }
    let nodes: Vec<Events> =
        (0..3).map(|_| Events::start(store.clone(), quick()).expect("started")).collect();
    let told = emit_calls(&store, &acme, 25).await;
    until("all came", async || receiver.lanes() == told && receiver.requests() >= 400).await;
    until("nothing waits", async || store.webhook_backlog().await.expect("counted").0.pending == 0).await;
    assert_eq!(receiver.requests(), 400, "four webhooks, a hundred events");
    assert_eq!(nodes.iter().map(|node| node.counters().placed.value()).sum::<u64>(), 100);
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_had_under_way_when_it_ended_is_sent_by_the_next() {
    for store in stores().await {
        let receiver = Receiver::start().await;
        receiver.moods(&[Mood::Hangs]);
        let acme = tenant("acme");
        hook(&store, &acme, &receiver.url(), &[]).await;
        let mut config = quick();
        config.sender.timeout = Duration::from_secs(30);
        let first = Events::start(store.clone(), config).expect("started");
        let told = emit_calls(&store, &acme, 3).await;
        until("it asked", async || receiver.requests() > 0).await;
        first.shutdown().await;
        receiver.moods(&[Mood::Takes]);
        let second = Events::start(store.clone(), quick()).expect("started");
        until("all came", async || receiver.lanes() == told).await;
        second.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_life_that_was_killed_had_under_way_is_sent_at_once_by_the_next() {
    let store = crate::store::testing::sqlite().await;
    let receiver = Receiver::start().await;
    let acme = tenant("acme");
    hook(&store, &acme, &receiver.url(), &[]).await;
    let told = emit_calls(&store, &acme, 2).await;
    let (_, last) = store.place_events(100).await.expect("placed");
    assert_eq!(last, 8);
    // Somebody claims what is due, and ends without a word.
    let hour = Duration::from_secs(3_600);
    let endpoint = store.waiting_endpoints("", 10).await.expect("asked").remove(0);
    let claimed = store.claim_deliveries(&endpoint, "the dead", hour, 10).await.expect("claimed");
    assert_eq!(claimed.len(), 2, "the first of each call");
    assert_eq!(store.claim_deliveries(&endpoint, "another", hour, 10).await.expect("asked").len(), 0);
    let events = Events::start(store.clone(), quick()).expect("started");
    until("all came", async || receiver.lanes() == told).await;
    events.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_no_more_webhooks_than_allowed() {
    for store in stores().await {
        let acme = tenant("acme");
        let (webhook, secret) = hook(&store, &acme, "https://example.com/", &[]).await;
        let mut more = webhook.clone();
        more.id = crate::model::Id::new();
        let mut transaction = store.begin().await.expect("a transaction");
        assert!(!transaction.add_webhook(&store, &more, &secret, 1).await.expect("asked"));
        assert!(transaction.add_webhook(&store, &more, &secret, 2).await.expect("asked"));
        transaction.commit().await.expect("committed");
        assert_eq!(store.webhooks(&acme, None, 10).await.expect("listed").len(), 2);
        let page = store.webhooks(&acme, Some(&webhook.id.to_string()), 10).await.expect("listed");
        assert_eq!(page, [more.clone()]);
        let mut transaction = store.begin().await.expect("a transaction");
        assert!(!transaction.remove_webhook(&tenant("other"), &more.id).await.expect("asked"));
        assert!(transaction.remove_webhook(&acme, &more.id).await.expect("asked"));
        transaction.commit().await.expect("committed");
        assert_eq!(store.webhook_secret(&acme, &more.id).await.expect("asked"), None);
        assert_eq!(store.webhook_secret(&acme, &webhook.id).await.expect("asked").as_deref(), Some(&secret));
    }
}
