//! Calls over UDP from the first INVITE to the end.

mod sip_support;

use std::time::Duration;

use sidetone_signaling::sip::{CallError, EndCause, Rejection, SessionEvent, Transport};
use sip_support::{ANSWER, Peer, SDP, connected, endpoint, soon};

#[tokio::test]
async fn a_call_is_answered_and_the_caller_hangs_up() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("X-Thing : one\r\ns: topic\r\n", SDP).await;
    let mut call = soon(calls.recv()).await.unwrap();
    assert_eq!(call.offer(), Some(SDP));
    let info = call.info().clone();
    assert_eq!((info.from.user.as_str(), info.from.display.as_deref()), ("peer", Some("Peer")));
    assert_eq!((info.request_uri.user.as_str(), info.to.user.as_str()), ("agent", "agent"));
    assert_eq!((info.call_id.as_str(), info.transport), (peer.call_id.as_str(), Transport::Udp));
    assert_eq!((info.remote, info.local), (peer.local(), address));
    assert_eq!((info.header("x-thing"), info.header("Subject")), (Some("one"), Some("topic")));
    call.ring(180, None).await.unwrap();
    let ringing = peer.status(180).await;
    assert!(ringing.header("Contact").is_some() && !ringing.to_tag().is_empty());
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let ok = peer.status(200).await;
    assert_eq!((ok.to_tag(), ok.body()), (ringing.to_tag(), ANSWER));
    assert!(ok.header("Allow").unwrap().contains("UPDATE"));
    peer.ack("").await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { answer: None }));
    assert_eq!(endpoint.load().calls, 1);
    assert_eq!(peer.ask("BYE", "Reason: SIP;cause=200\r\n", "").await.status(), 200);
    let SessionEvent::Ended { cause } = soon(session.next_event()).await else { panic!() };
    assert_eq!(cause, EndCause::RemoteBye { reason: Some("SIP;cause=200".to_owned()) });
    assert_eq!(peer.ask("BYE", "", "").await.status(), 481, "the dialog is gone");
    assert_eq!(endpoint.load().calls, 0);
}

#[tokio::test]
async fn the_answer_to_a_late_offer_comes_with_the_ack() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("", "").await;
    let call = soon(calls.recv()).await.unwrap();
    assert_eq!(call.offer(), None);
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    assert_eq!(peer.status(200).await.body(), ANSWER);
    peer.ack(SDP).await;
    let SessionEvent::Confirmed { answer } = soon(session.next_event()).await else { panic!() };
    assert_eq!(answer.as_deref(), Some(SDP));
    peer.bye().await;
}

#[tokio::test]
async fn we_hang_up() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (peer, mut session) = connected(address, &mut calls, "").await;
    session.handle().bye(None).await;
    let bye = peer.wanted("BYE").await;
    assert_eq!(bye.header("CSeq"), Some("1 BYE"));
    assert!(bye.header("From").unwrap().ends_with(&peer.to_tag), "{}", bye.0);
    peer.answer(&bye, 200, "", "").await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { cause: EndCause::LocalBye }));
}

#[tokio::test]
async fn a_rejection_carries_its_warning_and_retry_after() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    let invite = peer.invite("", SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    let rejection = Rejection {
        status: 488,
        reason: "No \r\nCommon Codec".to_owned(),
        warning: Some("304 no \"common\" codec".to_owned()),
        retry_after: Some(Duration::from_secs(7)),
        challenges: Vec::new(),
    };
    call.reject(rejection).await.unwrap();
    let refusal = peer.status(488).await;
    assert_eq!(refusal.start(), "SIP/2.0 488 No   Common Codec");
    assert_eq!(refusal.header("Warning"), Some("304 sidetone \"no \\\"common\\\" codec\""));
    assert_eq!(refusal.header("Retry-After"), Some("7"));
    // Repeated until the ACK comes, and no longer.
    peer.status(488).await;
    peer.ack_refusal(&invite, &refusal).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    while let Ok(Ok(_)) =
        tokio::time::timeout(Duration::from_millis(20), peer.socket.recv_from(&mut [0; 2048])).await
    {}
    peer.silence(Duration::from_millis(400)).await;
    assert_eq!(endpoint.load().calls, 0);
}

#[tokio::test]
async fn a_call_that_nobody_takes_is_refused() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("", SDP).await;
    drop(soon(calls.recv()).await.unwrap());
    peer.status(480).await;
}

#[tokio::test]
async fn cancel_ends_a_ringing_call() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    let invite = peer.invite("", SDP).await;
    let mut call = soon(calls.recv()).await.unwrap();
    let cancelled = call.cancelled();
    call.ring(180, None).await.unwrap();
    peer.recv().await;
    let branch = invite.split_once("z9hG4bK").unwrap().1.split_once(';').unwrap().0.to_owned();
    peer.send(peer.request_with_branch("CANCEL", 1, &branch, "", "")).await;
    let (mut ok, mut terminated) = (None, None);
    while ok.is_none() || terminated.is_none() {
        let text = peer.recv().await;
        match (text.status(), text.header("CSeq").unwrap()) {
            (200, "1 CANCEL") => ok = Some(text),
            (487, "1 INVITE") => terminated = Some(text),
            _ => {}
        }
    }
    peer.ack_refusal(&invite, &terminated.unwrap()).await;
    soon(cancelled).await;
    assert_eq!(call.accept(ANSWER.to_owned()).await.unwrap_err(), CallError::Cancelled);
    assert_eq!(endpoint.counters().calls_cancelled.value(), 1);
}

#[tokio::test]
async fn a_cancel_that_comes_after_the_answer_changes_nothing() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    let invite = peer.invite("", SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let branch = invite.split_once("z9hG4bK").unwrap().1.split_once(';').unwrap().0.to_owned();
    let cancel = peer.request_with_branch("CANCEL", 1, &branch, "", "");
    peer.send(&cancel).await;
    let mut cancelled = false;
    while !cancelled || peer.to_tag.is_empty() {
        let text = peer.recv().await;
        match text.header("CSeq").unwrap() {
            "1 CANCEL" => cancelled = text.status() == 200,
            _ if text.status() == 200 => peer.note(&text),
            _ => {}
        }
    }
    peer.ack("").await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { .. }));
    peer.bye().await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { .. }));
    let mut stranger = Peer::new(address).await;
    stranger.send(stranger.request("CANCEL", 1, "", "")).await;
    stranger.status(481).await;
}

#[tokio::test]
async fn the_200_is_repeated_until_the_ack_and_its_copies_are_absorbed() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    let invite = peer.invite("", SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let first = peer.status(200).await;
    peer.send(&invite).await;
    let second = peer.status(200).await;
    let third = peer.status(200).await;
    assert!(first.0 == second.0 && second.0 == third.0);
    for _ in 0..3 {
        peer.ack("").await;
    }
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { answer: None }));
    // A late copy of the INVITE gets the 200 again and no second call.
    peer.send(&invite).await;
    peer.status(200).await;
    assert!(calls.try_recv().is_err());
    peer.bye().await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { .. }), "one Confirmed only");
}

#[tokio::test]
async fn a_call_that_is_never_acknowledged_ends_with_bye() {
    let (endpoint, mut calls, address) = endpoint(|config| config.t1 = Duration::from_millis(10)).await;
    let mut peer = Peer::new(address).await;
    peer.invite("", SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let bye = peer.wanted("BYE").await;
    assert!(bye.header("Reason").unwrap().contains("no ACK"));
    peer.answer(&bye, 200, "", "").await;
    let SessionEvent::Ended { cause } = soon(session.next_event()).await else { panic!() };
    assert_eq!(cause, EndCause::AckTimeout);
    assert_eq!(endpoint.counters().ack_timeouts.value(), 1);
    assert_eq!((endpoint.load().calls, endpoint.load().unacknowledged), (0, 0));
}

#[tokio::test]
async fn byes_that_cross_end_the_call_on_both_sides() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    session.handle().bye(None).await;
    let bye = peer.wanted("BYE").await;
    assert_eq!(peer.ask("BYE", "", "").await.status(), 200);
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { cause: EndCause::LocalBye }));
    peer.answer(&bye, 481, "", "").await;
}

#[tokio::test]
async fn a_bye_before_our_ack_came_waits_for_it() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("", SDP).await;
    let session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    peer.status(200).await;
    drop(session);
    tokio::time::sleep(Duration::from_millis(50)).await;
    peer.ack("").await;
    let bye = peer.wanted("BYE").await;
    peer.answer(&bye, 200, "", "").await;
}

#[tokio::test]
async fn requests_of_ours_go_through_the_route_set() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let proxy = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let routes = format!(
        "Record-Route: <sip:{};lr>\r\nRecord-Route: <sip:p1.example.com;lr>\r\n",
        proxy.local_addr().unwrap()
    );
    let mut peer = Peer::new(address).await;
    peer.invite(&routes, SDP).await;
    let session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    let ok = peer.status(200).await;
    assert_eq!(ok.0.matches("Record-Route: ").count(), 2);
    peer.ack("").await;
    session.handle().bye(None).await;
    let mut buffer = vec![0; 4096];
    let (length, _) = soon(proxy.recv_from(&mut buffer)).await.unwrap();
    let bye = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(bye.starts_with(&format!("BYE sip:peer@{} SIP/2.0\r\n", peer.local())), "{bye}");
    assert!(bye.contains("Route: <sip:p1.example.com;lr>\r\n"), "{bye}");
}

#[tokio::test]
async fn the_advertised_address_is_in_contact_and_via() {
    let (_endpoint, mut calls, address) = endpoint(|config| {
        config.advertised = Some("sip.example.com:5099".to_owned());
    })
    .await;
    let mut peer = Peer::new(address).await;
    peer.invite("", SDP).await;
    let session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    let ok = peer.status(200).await;
    assert_eq!(ok.header("Contact"), Some("<sip:agent@sip.example.com:5099>"));
    peer.target = format!("sip:agent@{address}");
    peer.ack("").await;
    session.handle().bye(None).await;
    let bye = peer.wanted("BYE").await;
    assert!(
        bye.header("Via").unwrap().starts_with("SIP/2.0/UDP sip.example.com:5099;branch=z9hG4bK"),
        "{}",
        bye.0
    );
}

#[tokio::test]
async fn a_call_over_ipv6() {
    let (_endpoint, mut calls, address) =
        endpoint(|config| config.bind = vec!["[::1]:0".parse().unwrap()]).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    assert_eq!(peer.ask("INFO", "", "").await.status(), 200);
    session.handle().bye(None).await;
    let bye = peer.wanted("BYE").await;
    peer.answer(&bye, 200, "", "").await;
}

#[tokio::test]
async fn shutdown_hangs_up_and_refuses_what_rings() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (peer, mut session) = connected(address, &mut calls, "").await;
    let mut ringing = Peer::new(address).await;
    ringing.invite("", SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    let answered = tokio::spawn(async move {
        let bye = peer.wanted("BYE").await;
        peer.answer(&bye, 200, "", "").await;
    });
    soon(endpoint.shutdown()).await;
    soon(answered).await.unwrap();
    ringing.status(503).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { cause: EndCause::Shutdown }));
    assert_eq!(call.accept(ANSWER.to_owned()).await.unwrap_err(), CallError::Closed);
}
