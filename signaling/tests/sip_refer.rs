//! Transfers by REFER, with the news of them (RFC 3515).

mod sip_support;

use std::time::Duration;

use sidetone_signaling::sip::{EndCause, Session, SessionEvent, TransferError, TransferTarget, Transferred};
use sip_support::{PATIENCE, Peer, Text, connected, endpoint, soon};
use tokio::task::JoinHandle;

type Outcome = JoinHandle<Result<Transferred, TransferError>>;

fn refer(session: &Session, patience: Duration) -> Outcome {
    let target: TransferTarget = "sip:sales@pbx.example.com;user=phone".parse().expect("a target");
    let handle = session.handle();
    tokio::spawn(async move { handle.refer(target, patience).await })
}

/// Reads the REFER and answers it.
async fn answered(peer: &Peer, status: u16) -> Text {
    let refer = peer.wanted("REFER").await;
    peer.answer(&refer, status, "", "").await;
    refer
}

async fn notify(peer: &mut Peer, state: &str, fragment: &str) -> u16 {
    let headers = format!(
        "Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag;version=2.0\r\n"
    );
    peer.ask("NOTIFY", &headers, fragment).await.status()
}

#[tokio::test]
async fn a_transfer_succeeds_when_the_peer_says_so() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    let outcome = refer(&session, PATIENCE);
    let request = answered(&peer, 202).await;
    assert_eq!(request.header("Refer-To"), Some("<sip:sales@pbx.example.com;user=phone>"));
    let by = request.header("Referred-By").expect("who refers");
    assert!(
        by.starts_with("<sip:") && request.header("From").is_some_and(|from| from.contains(by)),
        "{request:?}"
    );
    assert!(
        request.header("Contact").is_some()
            && request.header("CSeq").is_some_and(|cseq| cseq.ends_with("REFER"))
    );
    assert_eq!(notify(&mut peer, "active;expires=60", "SIP/2.0 100 Trying\r\n").await, 200);
    assert_eq!(notify(&mut peer, "active;expires=50", "SIP/2.0 180 Ringing\r\n").await, 200);
    assert!(!outcome.is_finished(), "ringing is no outcome");
    assert_eq!(notify(&mut peer, "terminated;reason=noresource", "SIP/2.0 200 OK\r\n").await, 200);
    assert_eq!(soon(outcome).await.expect("no panic"), Ok(Transferred::Answered));
    // The session is the owner's to end.
    session.handle().bye(None).await;
    let bye = peer.wanted("BYE").await;
    peer.answer(&bye, 200, "", "").await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { cause: EndCause::LocalBye }));
    let counters = endpoint.counters();
    assert_eq!((counters.refers_sent.value(), counters.refers_succeeded.value()), (1, 1));
}

#[tokio::test]
async fn a_peer_that_takes_the_call_over_may_hang_up_without_a_word() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    let outcome = refer(&session, PATIENCE);
    answered(&peer, 202).await;
    peer.bye().await;
    assert_eq!(soon(outcome).await.expect("no panic"), Ok(Transferred::Left));
}

#[tokio::test]
async fn a_caller_who_hangs_up_first_is_not_transferred() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    let outcome = refer(&session, PATIENCE);
    peer.wanted("REFER").await;
    peer.bye().await;
    assert_eq!(soon(outcome).await.expect("no panic"), Err(TransferError::Closed));
}

#[tokio::test]
async fn a_transfer_that_fails_leaves_the_session_as_it_was() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    let outcome = refer(&session, PATIENCE);
    answered(&peer, 405).await;
    let refused = TransferError::Refused { status: 405, reason: "Reason".into() };
    assert_eq!(soon(outcome).await.expect("no panic"), Err(refused));

    let outcome = refer(&session, PATIENCE);
    answered(&peer, 202).await;
    assert_eq!(notify(&mut peer, "terminated", "SIP/2.0 486 Busy Here\r\n").await, 200);
    let failed = TransferError::Failed { status: 486, reason: "Busy Here".into() };
    assert_eq!(soon(outcome).await.expect("no panic"), Err(failed));

    let outcome = refer(&session, PATIENCE);
    answered(&peer, 202).await;
    assert_eq!(notify(&mut peer, "terminated;reason=timeout", "SIP/2.0 100 Trying\r\n").await, 200);
    assert_eq!(soon(outcome).await.expect("no panic"), Err(TransferError::NoNews));

    assert_eq!(peer.ask("OPTIONS", "", "").await.status(), 200, "the session goes on");
    assert_eq!(endpoint.counters().refers_failed.value(), 3);
    peer.bye().await;
}

#[tokio::test]
async fn a_peer_that_tells_nothing_is_not_waited_for_forever() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    let outcome = refer(&session, Duration::from_millis(300));
    answered(&peer, 202).await;
    assert_eq!(soon(outcome).await.expect("no panic"), Err(TransferError::NoNews));
    assert_eq!(notify(&mut peer, "terminated", "SIP/2.0 200 OK\r\n").await, 200, "late news are no fault");
    peer.bye().await;
}

#[tokio::test]
async fn one_transfer_at_a_time_and_news_of_none() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    assert_eq!(notify(&mut peer, "active", "SIP/2.0 100 Trying\r\n").await, 481, "nothing was referred");
    let presence = peer.ask("NOTIFY", "Event: presence\r\nSubscription-State: active\r\n", "").await;
    assert_eq!(presence.status(), 489);
    let first = refer(&session, PATIENCE);
    let request = answered(&peer, 202).await;
    assert_eq!(soon(refer(&session, PATIENCE)).await.expect("no panic"), Err(TransferError::Pending));
    // The id of RFC 3515 2.4.6 is the number of our REFER.
    let number = request.header("CSeq").and_then(|cseq| cseq.split(' ').next()).expect("a number").to_owned();
    let with_id = |id: &str| {
        format!("Event: refer;id={id}\r\nSubscription-State: terminated\r\nContent-Type: message/sipfrag\r\n")
    };
    let other = peer.ask("NOTIFY", &with_id("999"), "SIP/2.0 200 OK\r\n").await;
    assert_eq!(other.status(), 481);
    assert!(!first.is_finished());
    assert_eq!(peer.ask("NOTIFY", &with_id(&number), "SIP/2.0 200 OK\r\n").await.status(), 200);
    assert_eq!(soon(first).await.expect("no panic"), Ok(Transferred::Answered));
    peer.bye().await;
}
