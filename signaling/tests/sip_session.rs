//! What happens inside a call: offers, refreshes, reliable provisional responses, INFO.

mod sip_support;

use std::time::Duration;

use sidetone_signaling::sip::{ByeReason, CallError, EndCause, Rejection, RequestError, SessionEvent};
use sip_support::{ANSWER, Peer, SDP, connected, endpoint, soon};

#[tokio::test]
async fn a_reinvite_is_answered_by_the_owner() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    let hold = SDP.replace("t=0 0", "t=0 0\r\na=sendonly");
    peer.invite("", &hold).await;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!() };
    assert_eq!(offer.sdp(), hold);
    offer.answer(ANSWER.replace("a=", "a=recvonly"));
    peer.status(200).await;
    peer.ack("").await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { answer: None }));
    peer.bye().await;
}

#[tokio::test]
async fn a_reinvite_without_sdp_gets_our_offer() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    peer.invite("", "").await;
    let SessionEvent::OfferWanted(wanted) = soon(session.next_event()).await else { panic!() };
    wanted.offer(ANSWER.to_owned());
    assert_eq!(peer.status(200).await.body(), ANSWER);
    peer.ack(SDP).await;
    let SessionEvent::Confirmed { answer } = soon(session.next_event()).await else { panic!() };
    assert_eq!(answer.as_deref(), Some(SDP));
    // Settled: the next offer is taken.
    peer.invite("", SDP).await;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!() };
    offer.answer(ANSWER.to_owned());
    peer.status(200).await;
    peer.ack("").await;
    peer.bye().await;
}

#[tokio::test]
async fn a_refused_reinvite_leaves_the_session_as_it_was() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    let invite = peer.invite("", SDP).await;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!() };
    offer.reject(Rejection { warning: Some("305 no such format".to_owned()), ..Rejection::new(488) });
    let refusal = peer.status(488).await;
    peer.ack_refusal(&invite, &refusal).await;
    let invite = peer.invite("", SDP).await;
    drop(soon(session.next_event()).await);
    let refusal = peer.status(488).await;
    peer.ack_refusal(&invite, &refusal).await;
    assert_eq!(peer.ask("OPTIONS", "", "").await.status(), 200);
    peer.bye().await;
}

#[tokio::test]
async fn offers_that_meet_an_unsettled_one_are_put_off() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    peer.invite("", SDP).await;
    let first = peer.cseq;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!() };
    let second = peer.ask("INVITE", "", SDP).await;
    assert_eq!(second.status(), 500);
    assert!(second.header("Retry-After").unwrap().parse::<u32>().unwrap() <= 10);
    let update = peer.ask("UPDATE", "", SDP).await;
    assert_eq!(update.status(), 500);
    offer.answer(ANSWER.to_owned());
    loop {
        let text = peer.recv().await;
        if text.status() == 200 && text.header("CSeq") == Some(&format!("{first} INVITE")) {
            break;
        }
    }
    peer.send(peer.request("ACK", first, "", "")).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { .. }));
    peer.bye().await;
}

#[tokio::test]
async fn our_reinvite_returns_the_answer_and_is_acknowledged() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    let handle = session.handle();
    let asked = tokio::spawn(async move { handle.reinvite(ANSWER.to_owned()).await });
    let invite = peer.wanted("INVITE").await;
    assert_eq!((invite.body(), invite.header("Content-Type")), (ANSWER, Some("application/sdp")));
    // Glare: the peer's own re-INVITE is put off.
    assert_eq!(peer.ask("INVITE", "", SDP).await.status(), 491);
    assert_eq!(session.handle().reinvite(ANSWER.to_owned()).await, Err(RequestError::Pending));
    let contact = format!("Contact: <sip:moved@{}>\r\n", peer.local());
    peer.answer(&invite, 200, &contact, SDP).await;
    let ack = peer.wanted("ACK").await;
    assert_eq!(ack.header("CSeq"), Some("1 ACK"));
    assert!(ack.start().starts_with("ACK sip:moved@"), "{}", ack.0);
    assert_eq!(soon(asked).await.unwrap(), Ok(SDP.to_owned()));
    peer.answer(&invite, 200, &contact, SDP).await;
    peer.wanted("ACK").await;
    peer.bye().await;
}

#[tokio::test]
async fn a_refused_reinvite_of_ours_is_an_error_and_481_ends_the_call() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (peer, mut session) = connected(address, &mut calls, "").await;
    for (status, error) in [
        (488, RequestError::Refused { status: 488, reason: "Reason".to_owned() }),
        (491, RequestError::Pending),
        (481, RequestError::Refused { status: 481, reason: "Reason".to_owned() }),
    ] {
        let handle = session.handle();
        let asked = tokio::spawn(async move { handle.reinvite(ANSWER.to_owned()).await });
        let invite = peer.wanted("INVITE").await;
        peer.answer(&invite, status, "", "").await;
        peer.wanted("ACK").await;
        assert_eq!(soon(asked).await.unwrap(), Err(error));
    }
    let bye = peer.wanted("BYE").await;
    peer.answer(&bye, 481, "", "").await;
    let SessionEvent::Ended { cause } = soon(session.next_event()).await else { panic!() };
    assert_eq!(cause, EndCause::PeerLost { status: 481 });
    assert_eq!(session.handle().reinvite(ANSWER.to_owned()).await, Err(RequestError::Closed));
}

#[tokio::test]
async fn update_with_and_without_an_offer() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    let refresh = peer.ask("UPDATE", "Supported: timer\r\nSession-Expires: 120\r\n", "").await;
    assert_eq!((refresh.status(), refresh.header("Session-Expires")), (200, Some("120;refresher=uac")));
    peer.cseq += 1;
    peer.send(peer.request("UPDATE", peer.cseq, "", SDP)).await;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!() };
    offer.answer(ANSWER.to_owned());
    assert_eq!(peer.status(200).await.body(), ANSWER);
    peer.bye().await;
}

#[tokio::test]
async fn info_is_passed_up_or_refused() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    let relay = "Signal=5\r\nDuration=160\r\n";
    assert_eq!(peer.ask("INFO", "Content-Type: application/DTMF-Relay; x=y\r\n", relay).await.status(), 200);
    let SessionEvent::Info { content_type, body } = soon(session.next_event()).await else { panic!() };
    assert_eq!((content_type.as_str(), body.as_slice()), ("application/dtmf-relay", relay.as_bytes()));
    assert_eq!(peer.ask("INFO", "", "").await.status(), 200);
    let refused = peer.ask("INFO", "Content-Type: application/x-other\r\n", "x").await;
    assert_eq!(refused.status(), 415);
    assert!(refused.header("Accept").unwrap().contains("application/dtmf-relay"));
    assert_eq!(peer.ask("INFO", "Info-Package: foo\r\n", "").await.status(), 469);
    let handle = session.handle();
    let asked = tokio::spawn(async move { handle.info("application/dtmf", b"5".to_vec()).await });
    let info = peer.wanted("INFO").await;
    assert_eq!((info.body(), info.header("Content-Type")), ("5", Some("application/dtmf")));
    peer.answer(&info, 200, "", "").await;
    assert_eq!(soon(asked).await.unwrap(), Ok(()));
    peer.bye().await;
}

#[tokio::test]
async fn an_owner_who_does_not_listen_costs_no_memory() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, session) = connected(address, &mut calls, "").await;
    let mut refused = 0;
    for _ in 0..60 {
        let answer = peer.ask("INFO", "Content-Type: application/dtmf\r\n", "1").await;
        refused += u32::from(answer.status() == 503 && answer.header("Retry-After").is_some());
    }
    assert_eq!((refused, endpoint.counters().events_dropped.value()), (28, 28));
    peer.bye().await;
    drop(session);
}

#[tokio::test]
async fn requests_out_of_order_are_refused_and_the_call_goes_on() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut peer, _session) = connected(address, &mut calls, "").await;
    peer.cseq = 9;
    assert_eq!(peer.ask("OPTIONS", "", "").await.status(), 200);
    peer.cseq = 4;
    assert_eq!(peer.ask("OPTIONS", "", "").await.status(), 500);
    peer.cseq = 10;
    for (method, status) in [
        ("REFER", 405),
        ("MESSAGE", 405),
        ("NOTIFY", 489),
        ("SUBSCRIBE", 489),
        ("FROBNICATE", 501),
        ("PRACK", 481),
    ] {
        assert_eq!(peer.ask(method, "", "").await.status(), status, "{method}");
    }
    peer.bye().await;
}

#[tokio::test]
async fn a_required_reliable_provisional_waits_for_its_prack() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("Require: 100rel\r\n", SDP).await;
    let mut call = soon(calls.recv()).await.unwrap();
    let ringing = tokio::spawn(async move {
        let rung = call.ring(183, Some(ANSWER.to_owned())).await;
        (rung, call)
    });
    let progress = peer.status(183).await;
    assert_eq!((progress.header("Require"), progress.body()), (Some("100rel"), ANSWER));
    assert_eq!(peer.status(183).await.0, progress.0, "repeated");
    let wrong = peer.ask("PRACK", "RAck: 1 99 INVITE\r\n", "").await;
    assert_eq!(wrong.status(), 481);
    let rack = format!("RAck: {} 1 INVITE\r\n", progress.header("RSeq").unwrap());
    assert_eq!(peer.ask("PRACK", &rack, "").await.status(), 200);
    let (rung, call) = soon(ringing).await.unwrap();
    assert_eq!(rung, Ok(()));
    // Early UPDATE is fine once offer and answer were exchanged.
    assert_eq!(peer.ask("UPDATE", "", "").await.status(), 200);
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let ok = loop {
        let text = peer.recv().await;
        if text.header("CSeq") == Some("1 INVITE") && text.status() == 200 {
            break text;
        }
    };
    assert_eq!(ok.body(), "", "the answer was given in the 183");
    peer.send(peer.request("ACK", 1, "", "")).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { answer: None }));
    peer.bye().await;
}

#[tokio::test]
async fn a_late_offer_may_be_answered_in_the_prack() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("Require: 100rel\r\n", "").await;
    let mut call = soon(calls.recv()).await.unwrap();
    let ringing = tokio::spawn(async move {
        call.ring(183, Some(ANSWER.to_owned())).await.unwrap();
        call
    });
    let progress = peer.status(183).await;
    let rack = format!("RAck: {} 1 INVITE\r\n", progress.header("RSeq").unwrap());
    assert_eq!(peer.ask("PRACK", &rack, SDP).await.status(), 200);
    let mut session = soon(ringing).await.unwrap().accept(String::new()).await.unwrap();
    peer.status(200).await;
    peer.send(peer.request("ACK", 1, "", "")).await;
    let SessionEvent::Confirmed { answer } = soon(session.next_event()).await else { panic!() };
    assert_eq!(answer.as_deref(), Some(SDP));
    peer.bye().await;
}

#[tokio::test]
async fn without_a_prack_the_call_is_refused() {
    let (_endpoint, mut calls, address) = endpoint(|config| config.t1 = Duration::from_millis(10)).await;
    let mut peer = Peer::new(address).await;
    peer.invite("Require: 100rel\r\n", SDP).await;
    let mut call = soon(calls.recv()).await.unwrap();
    assert_eq!(soon(call.ring(180, None)).await, Err(CallError::NoPrack));
    peer.status(504).await;
}

#[tokio::test]
async fn session_intervals_are_negotiated() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("Supported: timer\r\nSession-Expires: 60\r\n", SDP).await;
    assert_eq!(peer.status(422).await.header("Min-SE"), Some("90"));
    peer.to_tag.clear();
    peer.invite("Supported: timer\r\nSession-Expires: soon\r\n", SDP).await;
    peer.status(400).await;
    peer.to_tag.clear();
    peer.invite("Supported: timer\r\nx: 90;refresher=uas\r\n", SDP).await;
    let _session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    assert_eq!(peer.status(200).await.header("Session-Expires"), Some("90;refresher=uas"));
}

#[tokio::test]
async fn we_refresh_with_update_and_then_with_reinvite() {
    // The interval cannot be made shorter than 2 s in whole seconds; refreshes come every second.
    let (_endpoint, mut calls, address) =
        endpoint(|config| config.min_session_expires = Duration::from_secs(2)).await;
    let headers =
        "Supported: timer\r\nSession-Expires: 2;refresher=uas\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n";
    let (mut peer, mut session) = connected(address, &mut calls, headers).await;
    let update = peer.wanted("UPDATE").await;
    assert_eq!((update.header("Session-Expires"), update.body()), (Some("2;refresher=uac"), ""));
    peer.answer(&update, 200, "Session-Expires: 2;refresher=uac\r\n", "").await;
    let update = peer.wanted("UPDATE").await;
    peer.answer(&update, 501, "", "").await;
    let invite = peer.wanted("INVITE").await;
    assert_eq!(invite.body(), ANSWER, "the session is repeated as it is");
    peer.answer(&invite, 200, &format!("Contact: <sip:peer@{}>\r\n", peer.local()), SDP).await;
    peer.wanted("ACK").await;
    peer.bye().await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { .. }));
}

#[tokio::test]
async fn a_session_that_the_peer_does_not_refresh_ends() {
    let (endpoint, mut calls, address) =
        endpoint(|config| config.min_session_expires = Duration::from_secs(1)).await;
    let headers = "Supported: timer\r\nSession-Expires: 1;refresher=uac\r\n";
    let (peer, mut session) = connected(address, &mut calls, headers).await;
    let bye = peer.wanted("BYE").await;
    peer.answer(&bye, 200, "", "").await;
    let SessionEvent::Ended { cause } = soon(session.next_event()).await else { panic!() };
    assert_eq!(cause, EndCause::SessionExpired);
    assert_eq!(endpoint.counters().sessions_expired.value(), 1);
}

#[tokio::test]
async fn a_bye_says_why() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (peer, session) = connected(address, &mut calls, "").await;
    let reason = ByeReason { protocol: "Q.850", cause: 16, text: "a \"b\"\r\nc".to_owned() };
    session.handle().bye(Some(reason)).await;
    let bye = peer.wanted("BYE").await;
    assert_eq!(bye.header("Reason"), Some("Q.850;cause=16;text=\"a 'b'  c\""));
    peer.answer(&bye, 200, "", "").await;
}

#[tokio::test]
async fn sdp_is_found_in_a_multipart() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    let body = format!(
        "preamble\r\n--b1\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b1--\r\n"
    );
    peer.invite("Content-Type: multipart/mixed; boundary=\"b1\"\r\n", &body).await;
    let call = soon(calls.recv()).await.unwrap();
    assert_eq!(call.offer(), Some(SDP));
    call.reject(Rejection::new(603)).await.unwrap();
    peer.status(603).await;
}
