//! SIP over TCP: framing, limits, and peers that vanish.

mod sip_support;

use std::time::Duration;

use sidetone_signaling::sip::{EndCause, SessionEvent};
use sip_support::{ANSWER, Peer, SDP, TcpPeer, Text, endpoint, response_to, soon};

/// Texts are made by a UDP peer that never sends them.
async fn tcp(address: std::net::SocketAddr) -> (TcpPeer, Peer) {
    (TcpPeer::new(address).await, Peer::new(address).await)
}

fn over_tcp(text: String) -> String {
    text.replace("SIP/2.0/UDP", "SIP/2.0/TCP")
}

#[tokio::test]
async fn a_call_over_tcp_stays_on_its_connection() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut stream, mut texts) = tcp(address).await;
    stream.send(over_tcp(texts.request("INVITE", 1, "", SDP))).await;
    let mut session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    let ok = stream.final_answer().await;
    assert!(ok.header("Contact").unwrap().ends_with(";transport=tcp>"), "{}", ok.0);
    texts.note(&ok);
    texts.target = format!("sip:agent@{address}");
    stream.send(over_tcp(texts.request("ACK", 1, "", ""))).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { .. }));
    session.handle().bye(None).await;
    let bye = stream.recv().await.unwrap();
    assert_eq!(bye.method(), "BYE");
    assert!(bye.header("Via").unwrap().starts_with("SIP/2.0/TCP "));
    stream.send(response_to(&bye, 200, "", "")).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { cause: EndCause::LocalBye }));
}

#[tokio::test]
async fn fragments_are_joined_and_messages_in_one_segment_are_split() {
    let (_endpoint, _calls, address) = endpoint(|_| {}).await;
    let (mut stream, texts) = tcp(address).await;
    let one = over_tcp(texts.request("OPTIONS", 1, "", ""));
    for chunk in one.as_bytes().chunks(7) {
        stream.send(chunk).await;
        stream.stream.set_nodelay(true).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(stream.final_answer().await.header("CSeq"), Some("1 OPTIONS"));
    let many: String = (2..=5).map(|n| over_tcp(texts.request("OPTIONS", n, "", "body"))).collect();
    stream.send(format!("\r\n{many}\r\n")).await;
    for n in 2..=5 {
        assert_eq!(stream.final_answer().await.header("CSeq"), Some(format!("{n} OPTIONS").as_str()));
    }
}

#[tokio::test]
async fn a_ping_is_answered() {
    use tokio::io::AsyncReadExt;
    let (_endpoint, _calls, address) = endpoint(|_| {}).await;
    let (mut stream, _) = tcp(address).await;
    stream.send("\r\n\r\n").await;
    let mut pong = [0; 2];
    soon(stream.stream.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test]
async fn a_stream_that_cannot_be_framed_is_answered_and_closed() {
    let (endpoint, _calls, address) = endpoint(|_| {}).await;
    let (mut stream, texts) = tcp(address).await;
    stream.send(over_tcp(texts.request("OPTIONS", 1, "", "")).replace("Length: 0", "Length: -5")).await;
    assert_eq!(stream.final_answer().await.status(), 400);
    assert!(stream.recv().await.is_none(), "closed");
    for garbage in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "a".repeat(80_000)] {
        let (mut stream, _) = tcp(address).await;
        // The other end may close while this is being written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream.stream, garbage.as_bytes()).await;
        assert!(stream.recv().await.is_none());
    }
    assert_eq!(endpoint.counters().tcp_framing_errors.value(), 3);
}

#[tokio::test]
async fn idle_and_slow_connections_are_closed() {
    let (endpoint, _calls, address) = endpoint(|config| {
        config.limits.tcp_idle = Duration::from_millis(150);
        config.limits.tcp_message = Duration::from_millis(300);
    })
    .await;
    let (mut idle, _) = tcp(address).await;
    let (mut slow, texts) = tcp(address).await;
    let text = over_tcp(texts.request("OPTIONS", 1, "", ""));
    let trickle = tokio::spawn(async move {
        for byte in text.as_bytes() {
            if tokio::io::AsyncWriteExt::write_all(&mut slow.stream, &[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slow.recv().await
    });
    assert!(idle.recv().await.is_none());
    assert!(soon(trickle).await.unwrap().is_none());
    assert_eq!(endpoint.counters().tcp_idle_closed.value(), 2);
    soon(async {
        while endpoint.load().tcp_connections > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_carries_a_call_may_idle() {
    let (_endpoint, mut calls, address) =
        endpoint(|config| config.limits.tcp_idle = Duration::from_millis(100)).await;
    let (mut stream, mut texts) = tcp(address).await;
    stream.send(over_tcp(texts.request("INVITE", 1, "", SDP))).await;
    let _session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    texts.note(&stream.final_answer().await);
    texts.target = format!("sip:agent@{address}");
    stream.send(over_tcp(texts.request("ACK", 1, "", ""))).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.send(over_tcp(texts.request("OPTIONS", 2, "", ""))).await;
    loop {
        let answer = stream.final_answer().await;
        if answer.header("CSeq") == Some("2 OPTIONS") {
            break;
        }
    }
}

#[tokio::test]
async fn connections_are_capped_in_all_and_per_source() {
    let (endpoint, _calls, address) = endpoint(|config| config.limits.tcp_connections_per_source = 3).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (mut stream, texts) = tcp(address).await;
        stream.send(over_tcp(texts.request("OPTIONS", 1, "", ""))).await;
        assert_eq!(stream.final_answer().await.status(), 200);
        kept.push(stream);
    }
    let (mut refused, _) = tcp(address).await;
    assert!(refused.recv().await.is_none());
    assert_eq!(endpoint.counters().tcp_refused.value(), 1);
    kept.pop();
    soon(async {
        while endpoint.load().tcp_connections > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (mut again, texts) = tcp(address).await;
    again.send(over_tcp(texts.request("OPTIONS", 1, "", ""))).await;
    assert_eq!(again.final_answer().await.status(), 200);
}

#[tokio::test]
async fn a_peer_that_vanishes_in_mid_invite_leaves_nothing_behind() {
    let (endpoint, mut calls, address) = endpoint(|config| config.t1 = Duration::from_millis(5)).await;
    // In the middle of the message.
    let (mut stream, texts) = tcp(address).await;
    let invite = over_tcp(texts.request("INVITE", 1, "", SDP));
    stream.send(&invite[..invite.len() / 2]).await;
    drop(stream);
    // After the message, before the answer.
    let (mut stream, texts) = tcp(address).await;
    stream.send(over_tcp(texts.request("INVITE", 1, "", SDP))).await;
    let call = soon(calls.recv()).await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let SessionEvent::Ended { cause } = soon(session.next_event()).await else { panic!() };
    assert_eq!(cause, EndCause::AckTimeout);
    // Refused after the connection broke: the transaction ends all the same.
    let (mut stream, texts) = tcp(address).await;
    stream.send(over_tcp(texts.request("INVITE", 1, "", SDP))).await;
    let call = soon(calls.recv()).await.unwrap();
    drop(stream);
    drop(call);
    soon(async {
        while endpoint.load() != Default::default() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn when_the_connection_broke_the_peer_is_called_back() {
    let (_endpoint, mut calls, address) = endpoint(|_| {}).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut stream, mut texts) = tcp(address).await;
    let contact = format!("<sip:peer@{};transport=tcp>", listener.local_addr().unwrap());
    let invite = over_tcp(texts.request("INVITE", 1, "", SDP));
    stream
        .send(
            invite.replace(
                &format!("<sip:peer@{}>\r\nContent", texts.local()),
                &format!("{contact}\r\nContent"),
            ),
        )
        .await;
    let session = soon(calls.recv()).await.unwrap().accept(ANSWER.to_owned()).await.unwrap();
    texts.note(&stream.final_answer().await);
    texts.target = format!("sip:agent@{address}");
    stream.send(over_tcp(texts.request("ACK", 1, "", ""))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    session.handle().bye(None).await;
    let (mut back, _) = soon(listener.accept()).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = soon(tokio::io::AsyncReadExt::read(&mut back, &mut buffer)).await.unwrap();
    let bye = Text(String::from_utf8_lossy(&buffer[..length]).into_owned());
    assert_eq!(bye.method(), "BYE");
    assert!(bye.header("Via").unwrap().starts_with("SIP/2.0/TCP"));
}
