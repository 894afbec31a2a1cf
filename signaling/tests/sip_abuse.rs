//! What a peer must not get out of an endpoint: memory, places, datagrams to others.

mod sip_support;

use std::time::Duration;

use sidetone_signaling::sip::{EndCause, Session, SessionEvent};
use sip_support::{ANSWER, Peer, SDP, TcpPeer, Text, connected, endpoint, soon};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::time::timeout;

async fn ended(session: &mut Session) -> EndCause {
    loop {
        if let SessionEvent::Ended { cause } = soon(session.next_event()).await {
            return cause;
        }
    }
}

#[tokio::test]
async fn answers_that_a_connection_does_not_read_are_not_kept() {
    let (endpoint, _calls, address) = endpoint(|_| {}).await;
    let mut stream = TcpPeer::new(address).await;
    let texts = Peer::new(address).await;
    // A Via of 50 kB comes back in every answer.
    let request = texts
        .request("OPTIONS", 1, "", "")
        .replace("SIP/2.0/UDP", "SIP/2.0/TCP")
        .replace(";rport", &format!(";rport;x={}", "y".repeat(50_000)));
    let writes = async {
        for _ in 0..2000 {
            if stream.stream.write_all(request.as_bytes()).await.is_err() {
                break;
            }
        }
    };
    let _ = timeout(Duration::from_secs(5), writes).await;
    assert!(
        endpoint.counters().transmit_errors.value() > 100,
        "{}",
        endpoint.counters().transmit_errors.value()
    );
    assert_eq!(Peer::new(address).await.ask("OPTIONS", "", "").await.status(), 200);
}

#[tokio::test]
async fn without_rport_the_answer_goes_to_the_port_of_the_sent_by() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut listener = Peer::new(address).await;
    let source = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    listener.cseq = 1;
    source
        .send_to(listener.request("INVITE", 1, "", SDP).replace(";rport", "").as_bytes(), address)
        .await
        .unwrap();
    let call = soon(calls.recv()).await.unwrap();
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    listener.status(200).await;
    source
        .send_to(listener.request("ACK", 1, "", "").replace(";rport", "").as_bytes(), address)
        .await
        .unwrap();
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { .. }));
    session.handle().bye(None).await;
    let bye = listener.wanted("BYE").await;
    listener.answer(&bye, 200, "", "").await;
    assert_eq!(ended(&mut session).await, EndCause::LocalBye);
    // A sent-by that is not where it came from is no place to send anything to.
    let third = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let mut hidden = Peer::new(address).await;
    let via = hidden.local().to_string();
    let aimed = hidden.request("OPTIONS", 7, "", "").replace(";rport", "");
    let aimed = aimed.replace(&format!("UDP {via}"), &format!("UDP {}", third.local_addr().unwrap()));
    hidden.send(aimed).await;
    hidden.status(200).await;
    assert!(timeout(Duration::from_millis(100), third.recv_from(&mut [0; 2000])).await.is_err());
}

#[tokio::test]
async fn large_requests_of_one_source_are_refused_before_they_fill_the_memory() {
    let (endpoint, mut calls, address) = endpoint(|config| {
        config.t1 = Duration::from_secs(1);
        config.limits.invites_per_second_per_source = 0;
    })
    .await;
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let _ = call.reject(sidetone_signaling::sip::Rejection::new(404)).await;
        }
    });
    let padding = format!("X-Padding: {}\r\n", "x".repeat(50_000));
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..400 {
        let mut peer = Peer::new(address).await;
        peer.invite(&padding, SDP).await;
        loop {
            let answer = peer.recv().await;
            match answer.status() {
                404 => taken += 1,
                503 => {
                    assert!(answer.header("Retry-After").is_some());
                    refused += 1;
                }
                _ => continue,
            }
            break;
        }
    }
    assert!((50..200).contains(&taken), "{taken} of them taken, {refused} refused");
    // Others, and ordinary requests of the same source, are served.
    let mut ordinary = Peer::new(address).await;
    ordinary.invite("", SDP).await;
    assert_eq!(soon(async { while ordinary.recv().await.status() != 404 {} }).await, ());
    assert!(endpoint.counters().refused_overload.value() >= refused);
}

#[tokio::test]
async fn flood_inside_one_call_takes_no_places_from_others() {
    let (endpoint, mut calls, address) = endpoint(|config| config.t1 = Duration::from_millis(500)).await;
    let (mut peer, mut session) = connected(address, &mut calls, "").await;
    let reader = tokio::spawn(async move { ended(&mut session).await });
    for _ in 0..3000 {
        peer.cseq += 1;
        peer.send(peer.request("OPTIONS", peer.cseq, "", "")).await;
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    assert!(endpoint.load().transactions < 200, "{:?}", endpoint.load());
    assert!(endpoint.counters().refused_rate.value() > 1000);
    // The call goes on, and can end.
    assert_eq!(peer.ask("BYE", "", "").await.status(), 200);
    assert!(matches!(soon(reader).await.unwrap(), EndCause::RemoteBye { .. }));
}

#[tokio::test]
async fn at_shutdown_nobody_who_never_acknowledged_has_a_bye_sent_to_others() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let third = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let mut peer = Peer::new(address).await;
    peer.cseq = 1;
    let own = format!("Contact: <sip:peer@{}>", peer.local());
    let aimed = format!("Contact: <sip:peer@{}>", third.local_addr().unwrap());
    peer.send(peer.request("INVITE", 1, "", SDP).replace(&own, &aimed)).await;
    let mut session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    peer.status(200).await;
    let shutdown = tokio::spawn(endpoint.shutdown());
    let bye = peer.wanted("BYE").await;
    peer.answer(&bye, 200, "", "").await;
    assert_eq!(ended(&mut session).await, EndCause::Shutdown);
    soon(shutdown).await.unwrap();
    assert!(timeout(Duration::from_millis(100), third.recv_from(&mut [0; 2000])).await.is_err());
}

#[tokio::test]
async fn ack_that_a_refused_reinvite_overtakes_still_confirms_the_call() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("", SDP).await;
    let mut session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    peer.status(200).await;
    let first_ack = peer.request("ACK", 1, "", "");
    peer.cseq = 2;
    let reinvite = peer.request("INVITE", 2, "", SDP);
    peer.send(&reinvite).await;
    let SessionEvent::Offer(offer) = soon(session.next_event()).await else { panic!("an offer") };
    offer.reject(sidetone_signaling::sip::Rejection::new(488));
    let refusal = loop {
        let text: Text = peer.recv().await;
        if text.status() == 488 {
            break text;
        }
    };
    peer.ack_refusal(&reinvite, &refusal).await;
    peer.send(first_ack).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { answer: None }));
    // Well beyond 64*T1 the call still stands.
    tokio::time::sleep(Duration::from_millis(3800)).await;
    assert_eq!(peer.ask("INFO", "", "").await.status(), 200);
    peer.bye().await;
}
