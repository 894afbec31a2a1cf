//! Calls that we make, towards a peer of the test.

mod sip_support;

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::{RData, rdata::A};
use sidetone_signaling::sip::{
    Address, ByeReason, Credentials, DialError, EndCause, Failure, FailureClass, Headers, Method,
    OutgoingCall, OutgoingInvite, OutgoingRequest, Progress, Session, SessionEvent, SipEndpoint, Target,
    Transport,
};
use sip_support::callee::{Callee, tagged};
use sip_support::dns::{dns, srv};
use sip_support::{ANSWER, Peer, SDP, Text, endpoint, response_to, soon};
use tokio::net::UdpSocket;

fn to(address: SocketAddr) -> OutgoingInvite {
    let target = Target::new(&address.ip().to_string(), Some(address.port()), Transport::Udp).unwrap();
    let from = Address::new("+15551234567", "example.com").unwrap().with_display("Caller").unwrap();
    let mut invite = OutgoingInvite::new(target, from, SDP.to_owned());
    invite.request_user = Some("+19876543210".to_owned());
    invite
}

/// An endpoint, a callee, and a call of ours to it.
async fn calling(change: impl FnOnce(&mut OutgoingInvite)) -> (SipEndpoint, Callee, OutgoingCall, Text) {
    let (endpoint, _calls, address) = endpoint(|_| {}).await;
    let callee = Callee::new(address).await;
    let mut invite = to(callee.local());
    change(&mut invite);
    let call = endpoint.invite(invite).unwrap();
    let invite = callee.wanted("INVITE").await;
    (endpoint, callee, call, invite)
}

async fn answered(call: &mut OutgoingCall) -> (Session, String) {
    loop {
        match soon(call.next()).await {
            Progress::Answered { session, sdp } => return (session, sdp),
            Progress::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn failed(call: &mut OutgoingCall) -> Failure {
    loop {
        match soon(call.next()).await {
            Progress::Failed(failure) => return failure,
            Progress::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ended(session: &mut Session) -> EndCause {
    loop {
        if let SessionEvent::Ended { cause } = soon(session.next_event()).await {
            return cause;
        }
    }
}

#[tokio::test]
async fn a_call_is_answered_and_the_callee_hangs_up() {
    let (endpoint, callee, mut call, invite) = calling(|invite| {
        invite.asserted_identity = Some(Address::new("100", "example.com").unwrap());
        invite.private = true;
        invite.headers.push("X-Thing", "one").unwrap();
    })
    .await;
    assert_eq!(invite.start(), format!("INVITE sip:+19876543210@{} SIP/2.0", callee.local()));
    assert!(
        invite.header("From").unwrap().starts_with("\"Caller\" <sip:+15551234567@example.com>;tag="),
        "{}",
        invite.0
    );
    assert_eq!(invite.header("P-Asserted-Identity"), Some("<sip:100@example.com>"));
    assert_eq!((invite.header("Privacy"), invite.header("X-Thing")), (Some("id"), Some("one")));
    assert_eq!((invite.body(), invite.header("Call-ID")), (SDP, Some(call.call_id())));
    callee.answer(&invite, 100, "", "", "").await;
    callee.answer(&invite, 180, "t1", "", "").await;
    callee.answer(&invite, 183, "t1", "", ANSWER).await;
    for expected in [(100, None), (180, None), (183, Some(ANSWER.to_owned()))] {
        let Progress::Provisional { status, sdp } = soon(call.next()).await else { panic!() };
        assert_eq!((status, sdp), expected);
    }
    callee.answer(&invite, 200, "t1", "", ANSWER).await;
    let (mut session, sdp) = answered(&mut call).await;
    assert_eq!((sdp.as_str(), session.info().remote), (ANSWER, callee.local()));
    assert_eq!(
        (session.info().to.user.as_str(), session.info().from.user.as_str()),
        ("+19876543210", "+15551234567")
    );
    let ack = callee.wanted("ACK").await;
    assert_eq!(ack.start(), format!("ACK sip:callee@{} SIP/2.0", callee.local()));
    assert_eq!((ack.header("CSeq"), ack.to_tag()), (Some("1 ACK"), "t1"));
    assert_eq!(endpoint.load().calls, 1);
    callee.send(callee.request(&invite, "BYE", "t1", 1, "Reason: Q.850;cause=16\r\n", "")).await;
    assert_eq!(callee.recv().await.status(), 200);
    assert_eq!(ended(&mut session).await, EndCause::RemoteBye { reason: Some("Q.850;cause=16".to_owned()) });
    assert_eq!(endpoint.load().calls, 0);
}

#[tokio::test]
async fn we_hang_up_and_an_answer_that_comes_again_is_acknowledged_again() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    callee.answer(&invite, 200, "t1", "", ANSWER).await;
    let (mut session, _) = answered(&mut call).await;
    let first = callee.wanted("ACK").await;
    callee.answer(&invite, 200, "t1", "", ANSWER).await;
    let second = callee.wanted("ACK").await;
    assert_eq!((first.header("CSeq"), first.to_tag()), (second.header("CSeq"), second.to_tag()));
    session.handle().bye(None).await;
    let bye = callee.wanted("BYE").await;
    assert_eq!((bye.header("CSeq"), bye.to_tag()), (Some("2 BYE"), "t1"));
    callee.answer(&bye, 200, "", "", "").await;
    assert_eq!(ended(&mut session).await, EndCause::LocalBye);
}

#[tokio::test]
async fn refusals_say_whether_another_trunk_may_do_better() {
    for (status, headers, class) in [
        (486, "", FailureClass::Busy),
        (503, "Retry-After: 9\r\n", FailureClass::ServerFailure),
        (404, "Reason: Q.850;cause=1\r\n", FailureClass::NotFound),
        (302, "", FailureClass::Redirected),
    ] {
        let (endpoint, callee, mut call, invite) = calling(|_| {}).await;
        callee.answer(&invite, status, "t1", headers, "").await;
        let failure = failed(&mut call).await;
        assert_eq!((failure.status, failure.class), (status, class));
        assert_eq!(failure.remote, Some(callee.local()));
        let ack = callee.wanted("ACK").await;
        assert_eq!((ack.header("Via"), ack.to_tag()), (invite.header("Via"), "t1"));
        assert_eq!(failure.retry_after, (status == 503).then_some(Duration::from_secs(9)));
        assert_eq!(failure.cause.as_deref(), (status == 404).then_some("Q.850;cause=1"));
        if status == 302 {
            assert_eq!(failure.contacts, [format!("sip:callee@{}", callee.local())]);
        }
        // The answer again, as its ACK was lost.
        callee.answer(&invite, status, "t1", headers, "").await;
        callee.wanted("ACK").await;
        assert_eq!((endpoint.load().calls, endpoint.counters().outgoing_failed.value()), (0, 1));
    }
}

#[tokio::test]
async fn a_challenge_is_answered_once() {
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned(), realm: None };
    let (_endpoint, callee, mut call, invite) =
        calling(|invite| invite.credentials = Some(credentials)).await;
    let challenge = |nonce: &str| {
        format!(
            "Proxy-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256\r\n"
        )
    };
    callee.answer(&invite, 407, "t1", &challenge("n1"), "").await;
    callee.wanted("ACK").await;
    let second = callee.wanted("INVITE").await;
    assert_eq!(second.header("CSeq"), Some("2 INVITE"));
    assert_eq!(second.header("Call-ID"), invite.header("Call-ID"));
    assert_eq!(second.header("From"), invite.header("From"));
    assert!(second.header("Proxy-Authorization").unwrap().contains("nonce=\"n1\""));
    // A nonce that was too old is no refusal.
    callee.answer(&second, 407, "t2", &(challenge("n2").replace("\r\n", ", stale=true\r\n")), "").await;
    let third = callee.wanted("INVITE").await;
    assert!(third.header("Proxy-Authorization").unwrap().contains("nonce=\"n2\""));
    callee.answer(&third, 407, "t3", &challenge("n3"), "").await;
    let failure = failed(&mut call).await;
    assert_eq!((failure.class, failure.status), (FailureClass::Challenged, 407));
    assert!(failure.reason.contains("password"), "{failure:?}");
}

#[tokio::test]
async fn a_ringing_call_is_cancelled_with_its_reason() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    callee.answer(&invite, 180, "t1", "", "").await;
    let _ = soon(call.next()).await;
    let text = "elsewhere".to_owned();
    call.cancel_because(Some(ByeReason { protocol: "SIP", cause: 200, text }));
    assert_eq!(failed(&mut call).await.class, FailureClass::Cancelled);
    let cancel = callee.wanted("CANCEL").await;
    assert_eq!(cancel.header("Via"), invite.header("Via"));
    assert_eq!((cancel.header("CSeq"), cancel.to_tag()), (Some("1 CANCEL"), ""));
    assert_eq!(cancel.header("Reason"), Some("SIP;cause=200;text=\"elsewhere\""));
    callee.answer(&cancel, 200, "t1", "", "").await;
    callee.answer(&invite, 487, "t1", "", "").await;
    callee.wanted("ACK").await;
}

#[tokio::test]
async fn nothing_is_cancelled_before_somebody_has_answered() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    drop(std::mem::replace(&mut call, {
        // Dropping the owner's end is giving up.
        let (endpoint, _calls, _) = endpoint(|_| {}).await;
        let call = endpoint.invite(to("127.0.0.1:9".parse().unwrap())).unwrap();
        std::mem::forget(endpoint);
        call
    }));
    let quiet = tokio::time::timeout(Duration::from_millis(300), async {
        while callee.recv().await.method() == "INVITE" {}
    });
    assert!(quiet.await.is_err(), "no CANCEL yet");
    callee.answer(&invite, 180, "t1", "", "").await;
    let cancel = callee.wanted("CANCEL").await;
    callee.answer(&cancel, 200, "t1", "", "").await;
}

#[tokio::test]
async fn an_answer_that_crosses_the_cancel_is_ended() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    callee.answer(&invite, 180, "t1", "", "").await;
    let _ = soon(call.next()).await;
    call.cancel();
    callee.wanted("CANCEL").await;
    callee.answer(&invite, 200, "t1", "", ANSWER).await;
    callee.wanted("ACK").await;
    let bye = callee.wanted("BYE").await;
    assert_eq!(bye.to_tag(), "t1");
    callee.answer(&bye, 200, "", "", "").await;
    assert_eq!(failed(&mut call).await.class, FailureClass::Cancelled);
}

#[tokio::test]
async fn the_first_fork_that_answers_wins() {
    let (endpoint, callee, mut call, invite) = calling(|_| {}).await;
    callee.answer(&invite, 180, "a", "", "").await;
    callee.answer(&invite, 183, "b", "", ANSWER).await;
    callee.answer(&invite, 200, "b", "", ANSWER).await;
    let (session, _) = answered(&mut call).await;
    assert_eq!(callee.wanted("ACK").await.to_tag(), "b");
    callee.answer(&invite, 200, "a", "", ANSWER).await;
    assert_eq!(callee.wanted("ACK").await.to_tag(), "a");
    let bye = callee.wanted("BYE").await;
    assert_eq!(bye.to_tag(), "a");
    callee.answer(&bye, 200, "", "", "").await;
    assert_eq!((endpoint.load().calls, endpoint.counters().outgoing_forks.value()), (1, 1));
    drop(session);
    assert_eq!(callee.wanted("BYE").await.to_tag(), "b", "dropping it hangs up");
}

#[tokio::test]
async fn reliable_provisional_responses_are_acknowledged_each_once() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    assert!(invite.header("Supported").unwrap().contains("100rel"));
    let reliable = |rseq: u32| format!("Require: 100rel\r\nRSeq: {rseq}\r\n");
    callee.answer(&invite, 183, "t1", &reliable(7), ANSWER).await;
    let prack = callee.wanted("PRACK").await;
    assert_eq!((prack.header("RAck"), prack.header("CSeq")), (Some("7 1 INVITE"), Some("2 PRACK")));
    callee.answer(&prack, 200, "", "", "").await;
    // The same again, one that is out of order, and the next one.
    callee.answer(&invite, 183, "t1", &reliable(7), ANSWER).await;
    callee.answer(&invite, 180, "t1", &reliable(9), "").await;
    callee.answer(&invite, 180, "t1", &reliable(8), "").await;
    let prack = callee.wanted("PRACK").await;
    assert_eq!((prack.header("RAck"), prack.header("CSeq")), (Some("8 1 INVITE"), Some("3 PRACK")));
    callee.answer(&prack, 200, "", "", "").await;
    // RFC 3262 5: the answer is known already.
    callee.answer(&invite, 200, "t1", "", "").await;
    let (session, sdp) = answered(&mut call).await;
    assert_eq!(sdp, ANSWER);
    assert_eq!(callee.wanted("ACK").await.header("CSeq"), Some("1 ACK"));
    session.handle().bye(None).await;
    assert_eq!(callee.wanted("BYE").await.header("CSeq"), Some("4 BYE"));
}

#[tokio::test]
async fn the_callee_changes_the_session_before_and_after_the_answer() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    callee.answer(&invite, 183, "t1", "Require: 100rel\r\nRSeq: 1\r\n", ANSWER).await;
    let prack = callee.wanted("PRACK").await;
    callee.answer(&prack, 200, "", "", "").await;
    let _ = soon(call.next()).await;
    callee.send(callee.request(&invite, "UPDATE", "t1", 5, "", ANSWER)).await;
    let Progress::Offer(offer) = soon(call.next()).await else { panic!() };
    assert_eq!(offer.sdp(), ANSWER);
    offer.answer(SDP.to_owned());
    let ok = callee.recv().await;
    assert_eq!((ok.status(), ok.body()), (200, SDP));
    callee.answer(&invite, 200, "t1", "", "").await;
    let (mut session, _) = answered(&mut call).await;
    callee.wanted("ACK").await;
    callee.send(callee.request(&invite, "INVITE", "t1", 6, "", ANSWER)).await;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!() };
    offer.answer(SDP.to_owned());
    loop {
        let text = callee.recv().await;
        if text.status() == 200 {
            assert_eq!(text.body(), SDP);
            break;
        }
        assert_eq!(text.status(), 100);
    }
    callee.send(callee.request(&invite, "ACK", "t1", 6, "", "")).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { answer: None }));
    let handle = session.handle();
    let (answer, _) = tokio::join!(handle.reinvite(SDP.to_owned()), async {
        let invite = callee.wanted("INVITE").await;
        callee.answer(&invite, 200, "", "", ANSWER).await;
        callee.wanted("ACK").await
    });
    assert_eq!(answer.as_deref(), Ok(ANSWER));
}

#[tokio::test]
async fn silence_and_ringing_have_their_limits() {
    let (_endpoint, callee, mut call, _) =
        calling(|invite| invite.response_timeout = Duration::from_millis(200)).await;
    let failure = failed(&mut call).await;
    assert_eq!((failure.class, failure.answered), (FailureClass::TimedOut, false));
    drop(callee);
    let (_endpoint, callee, mut call, invite) =
        calling(|invite| invite.ring_timeout = Duration::from_millis(300)).await;
    callee.answer(&invite, 180, "t1", "", "").await;
    assert_eq!(failed(&mut call).await.class, FailureClass::NoAnswer);
    let cancel = callee.wanted("CANCEL").await;
    callee.answer(&cancel, 200, "t1", "", "").await;
    callee.answer(&invite, 487, "t1", "", "").await;
    callee.wanted("ACK").await;
}

#[tokio::test]
async fn a_larger_session_interval_is_taken_over() {
    let (_endpoint, callee, mut call, invite) = calling(|_| {}).await;
    assert_eq!(invite.header("Session-Expires"), Some("1800"));
    callee.answer(&invite, 422, "t1", "Min-SE: 7200\r\n", "").await;
    callee.wanted("ACK").await;
    let second = callee.wanted("INVITE").await;
    assert_eq!((second.header("Session-Expires"), second.header("Min-SE")), (Some("7200"), Some("7200")));
    callee.answer(&second, 422, "t1", "Min-SE: 99999999\r\n", "").await;
    assert_eq!(failed(&mut call).await.status, 422);
}

#[tokio::test]
async fn torture_by_answers() {
    let (endpoint, callee, mut call, invite) = calling(|_| {}).await;
    let good = tagged(response_to(&invite, 180, "", ""), "t1");
    // Wrong Call-ID, number, tag and shape: not ours, and not fatal.
    for (from, to) in [
        (format!("Call-ID: {}", call.call_id()), "Call-ID: other".to_owned()),
        ("CSeq: 1 INVITE".to_owned(), "CSeq: 2 INVITE".to_owned()),
        ("CSeq: 1 INVITE".to_owned(), "CSeq: x INVITE".to_owned()),
        (";tag=".to_owned(), ";tag=x".to_owned()),
        ("SIP/2.0 180".to_owned(), "SIP/2.0 999".to_owned()),
        ("To: ".to_owned(), "To: <<".to_owned()),
        ("Content-Length: 0".to_owned(), "Content-Length: -1".to_owned()),
    ] {
        callee.send(good.replacen(&from, &to, 1)).await;
    }
    // More provisional responses than anybody reads, from more forks than there are.
    for n in 0..3000 {
        callee.answer(&invite, 180, &format!("f{}", n % 100), "Require: 100rel\r\nRSeq: x\r\n", "").await;
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(endpoint.load().calls <= 17, "{:?}", endpoint.load());
    callee.answer(&invite, 200, "winner", "Session-Expires: 0;refresher=uac\r\n", ANSWER).await;
    let (session, _) = answered(&mut call).await;
    assert_eq!(endpoint.load().calls, 1, "the forks are forgotten");
    drop(session);
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_ended() {
    for (tag, body) in [("", ANSWER), ("t1", "")] {
        let (endpoint, callee, mut call, invite) = calling(|_| {}).await;
        callee.answer(&invite, 200, tag, "", body).await;
        assert_eq!(failed(&mut call).await.class, FailureClass::ServerFailure);
        callee.wanted("ACK").await;
        callee.wanted("BYE").await;
        assert_eq!(endpoint.load().calls, 0);
    }
}

#[tokio::test]
async fn a_message_is_sent_and_another_taken() {
    let (endpoint, _calls, address) = endpoint(|_| {}).await;
    let callee = Callee::new(address).await;
    let target = Target::new("127.0.0.1", Some(callee.local().port()), Transport::Udp).unwrap();
    let mut request =
        OutgoingRequest::new(Method::Message, target, Address::new("+15551234567", "example.com").unwrap());
    request.request_user = Some("+19876543210".to_owned());
    request.body = Some(("text/plain;charset=UTF-8".to_owned(), "Grüße".into()));
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned(), realm: None };
    request.credentials = Some(credentials);
    let handle = endpoint.handle();
    let (answer, _) = tokio::join!(handle.request(request), async {
        let message = callee.wanted("MESSAGE").await;
        callee.answer(&message, 401, "t", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n", "").await;
        let message = callee.wanted("MESSAGE").await;
        assert!(message.header("Authorization").is_some() && message.body() == "Grüße", "{}", message.0);
        callee.answer(&message, 202, "t", "X-Id: 7\r\n", "").await;
    });
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.header("x-id"), answer.remote), (202, Some("7"), callee.local()));

    let mut peer = Peer::new(address).await;
    assert_eq!(peer.ask("MESSAGE", "", "").await.status(), 405);
    let options = peer.ask("OPTIONS", "", "").await;
    assert!(!options.header("Allow").unwrap().contains("MESSAGE"));
    let mut messages = handle.requests(Method::Message);
    let options = peer.ask("OPTIONS", "", "").await;
    assert!(options.header("Allow").unwrap().contains("MESSAGE"), "{}", options.0);
    let ((), answer) = tokio::join!(
        async {
            let message = soon(messages.recv()).await.unwrap();
            assert_eq!((message.method(), message.body()), (Method::Message, b"Hello".as_slice()));
            assert_eq!(
                (message.content_type().as_str(), message.info().from.user.as_str()),
                ("text/plain", "peer")
            );
            let headers = Headers::of_response().with("Contact", "<sip:a@h>;expires=5").unwrap();
            message.respond(202, headers, None).await;
        },
        peer.ask("MESSAGE", "Content-Type: text/plain\r\n", "Hello")
    );
    assert_eq!((answer.status(), answer.header("Contact")), (202, Some("<sip:a@h>;expires=5")));
    let ((), answer) = tokio::join!(
        async { drop(soon(messages.recv()).await) },
        peer.ask("MESSAGE", "Content-Type: text/plain\r\n", "Hello")
    );
    assert_eq!(answer.status(), 500, "one that nobody answers");
    drop(messages);
    assert_eq!(peer.ask("MESSAGE", "", "").await.status(), 405);
}

#[tokio::test]
async fn who_does_not_answer_a_request_has_timed_out() {
    let (endpoint, _calls, address) = endpoint(|_| {}).await;
    let callee = Callee::new(address).await;
    let target = Target::new("127.0.0.1", Some(callee.local().port()), Transport::Udp).unwrap();
    let mut request = OutgoingRequest::new(Method::Options, target, Address::new("", "example.com").unwrap());
    request.timeout = Duration::from_millis(200);
    let answer = endpoint.handle().request(request.clone()).await;
    assert!(matches!(answer, Err(DialError::TimedOut(_))), "{answer:?}");
    let options = callee.wanted("OPTIONS").await;
    assert_eq!(options.start(), format!("OPTIONS sip:{} SIP/2.0", callee.local()));
    // 64 * T1 of the test is 3.2 s.
    request.timeout = Duration::from_secs(20);
    let answer = endpoint.handle().request(request).await;
    assert!(matches!(answer, Err(DialError::TimedOut(_))), "{answer:?}");
}

/// A server with two addresses in DNS, the first of which does `first`, and what became of the call.
async fn with_two_addresses(first: impl AsyncFnOnce(&Callee)) -> (Callee, OutgoingCall, Text, SipEndpoint) {
    let sockets =
        [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    let [one, two] = [0, 1].map(|index| sockets[index].local_addr().unwrap().port());
    let (server, _) = dns(vec![
        ("_sip._udp.carrier.example.com", srv(10, 0, one, "a.example.com")),
        ("_sip._udp.carrier.example.com", srv(20, 0, two, "a.example.com")),
        ("a.example.com", RData::A(A::new(127, 0, 0, 1))),
    ])
    .await;
    let (endpoint, _calls, peer) = endpoint(|config| config.name_servers = vec![server]).await;
    let [one, two] = sockets.map(|socket| Callee { socket, peer });
    let target = Target::new("carrier.example.com", None, Transport::Udp).unwrap();
    let from = Address::new("100", "example.com").unwrap();
    let mut invite = OutgoingInvite::new(target, from, SDP.to_owned());
    invite.response_timeout = Duration::from_millis(300);
    let call = endpoint.invite(invite.clone()).unwrap();
    first(&one).await;
    let invite = two.wanted("INVITE").await;
    (two, call, invite, endpoint)
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_silent_or_has_no_room() {
    for silent in [true, false] {
        let (callee, mut call, invite, endpoint) = with_two_addresses(async |first| {
            let invite = first.wanted("INVITE").await;
            if !silent {
                first.answer(&invite, 503, "t0", "", "").await;
                first.wanted("ACK").await;
            }
        })
        .await;
        assert_eq!(endpoint.counters().outgoing_failovers.value(), 1);
        callee.answer(&invite, 200, "t1", "", ANSWER).await;
        let (session, _) = answered(&mut call).await;
        callee.wanted("ACK").await;
        // The next call goes where somebody answers.
        let target = Target::new("carrier.example.com", None, Transport::Udp).unwrap();
        let from = Address::new("100", "example.com").unwrap();
        let _next = endpoint.invite(OutgoingInvite::new(target, from, SDP.to_owned())).unwrap();
        assert_ne!(callee.wanted("INVITE").await.header("Call-ID"), invite.header("Call-ID"));
        drop(session);
    }
}

#[tokio::test]
async fn an_answer_of_an_address_that_was_given_up_is_ended() {
    let mut late = None;
    let (callee, mut call, invite, _endpoint) = with_two_addresses(async |first| {
        late = Some((first.wanted("INVITE").await, first.local()));
    })
    .await;
    callee.answer(&invite, 180, "t1", "", "").await;
    let _ = soon(call.next()).await;
    let (first, _) = late.unwrap();
    assert_eq!(first.header("Call-ID"), invite.header("Call-ID"));
    assert_ne!(first.header("CSeq"), invite.header("CSeq"), "the other server has to tell them apart");
    // As it would come from the first address.
    callee.answer(&first, 200, "t0", "", ANSWER).await;
    assert_eq!(callee.wanted("ACK").await.to_tag(), "t0");
    let bye = callee.wanted("BYE").await;
    assert_eq!(bye.to_tag(), "t0");
    callee.answer(&bye, 200, "", "", "").await;
    callee.answer(&invite, 200, "t1", "", ANSWER).await;
    answered(&mut call).await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_said() {
    let (server, _) = dns(vec![]).await;
    let (endpoint, _calls, _) = endpoint(|config| config.name_servers = vec![server]).await;
    let from = Address::new("100", "example.com").unwrap();
    for host in ["nowhere.example.com", "192.0.2.1", "::1"] {
        let target = Target::new(host, None, Transport::Udp).unwrap();
        let mut call = endpoint.invite(OutgoingInvite::new(target, from.clone(), SDP.to_owned())).unwrap();
        let failure = failed(&mut call).await;
        assert_eq!(failure.class, FailureClass::Unreachable, "{host}");
        assert!(failure.reason.contains(host), "{failure:?}");
    }
}
