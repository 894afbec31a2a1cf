//! Requests outside of calls, and how wrong ones are answered.

mod sip_support;

use std::time::Duration;

use sidetone_signaling::sip::{SipConfig, SipEndpoint, SipError};
use sip_support::{ANSWER, Peer, SDP, connected, endpoint, soon};

#[tokio::test]
async fn options_tells_what_we_can_and_whether_we_drain() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let (mut running, _session) = connected(address, &mut calls, "").await;
    let mut peer = Peer::new(address).await;
    let ok = peer.ask("OPTIONS", "", "").await;
    assert_eq!(ok.status(), 200);
    assert_eq!(ok.header("Allow"), Some("INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, NOTIFY"));
    assert!(ok.header("Accept").unwrap().contains("application/sdp"));
    assert_eq!((ok.header("Accept-Encoding"), ok.header("Accept-Language")), (Some("identity"), Some("en")));
    assert_eq!(ok.header("Supported"), Some("100rel, timer"));
    assert!(!ok.to_tag().is_empty());
    endpoint.set_draining(true);
    let busy = peer.ask("OPTIONS", "", "").await;
    assert_eq!(busy.status(), 503);
    let after: u32 = busy.header("Retry-After").unwrap().parse().unwrap();
    assert!((5..=30).contains(&after));
    peer.invite("", SDP).await;
    assert!(peer.status(503).await.header("Retry-After").is_some());
    assert_eq!(running.ask("OPTIONS", "", "").await.status(), 200, "running calls go on");
    running.bye().await;
    assert_eq!(endpoint.counters().refused_draining.value(), 2);
    endpoint.set_draining(false);
    peer.to_tag.clear();
    assert_eq!(peer.ask("OPTIONS", "", "").await.status(), 200);
}

#[tokio::test]
async fn requests_that_we_do_not_serve_are_refused_as_the_rfcs_say() {
    let (_endpoint, _calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    for (method, headers, status, header) in [
        ("REGISTER", "", 405, "Allow"),
        ("MESSAGE", "", 405, "Allow"),
        ("REFER", "", 405, "Allow"),
        ("PUBLISH", "", 405, "Allow"),
        ("SUBSCRIBE", "Event: presence\r\n", 489, "Allow"),
        ("NOTIFY", "Event: presence\r\n", 489, "Allow"),
        ("FROBNICATE", "", 501, "Allow"),
        ("OPTIONS", "Require: foo, timer, bar\r\n", 420, "Unsupported"),
        ("INVITE", "Require: foo\r\n", 420, "Unsupported"),
        ("INVITE", "Accept: text/plain\r\n", 406, "Accept"),
        ("INVITE", "Max-Forwards: 70\r\n", 400, "Server"),
        ("INVITE", "CSeq: 1 INVITE\r\n", 400, "Server"),
        ("BYE", "", 481, "Server"),
        ("INFO", "", 481, "Server"),
        ("UPDATE", "", 481, "Server"),
        ("PRACK", "RAck: 1 1 INVITE\r\n", 481, "Server"),
    ] {
        let answer = peer.ask(method, headers, "").await;
        assert_eq!(answer.status(), status, "{method} {headers}");
        assert!(answer.header(header).is_some(), "{method} {headers}: {}", answer.0);
        assert!(!answer.to_tag().is_empty());
    }
    assert_eq!(
        peer.ask("OPTIONS", "Require: foo, timer, bar\r\n", "").await.header("Unsupported"),
        Some("foo, bar")
    );
    let unknown = peer.ask("INVITE", "Content-Type: application/unknown\r\n", "x").await;
    assert_eq!((unknown.status(), unknown.header("Accept").is_some()), (415, true));
    let coded = peer.ask("INVITE", "Content-Encoding: gzip\r\n", SDP).await;
    assert_eq!((coded.status(), coded.header("Accept-Encoding")), (415, Some("identity")));
    peer.to_tag = "unknown".to_owned();
    for method in ["INVITE", "BYE", "INFO"] {
        assert_eq!(peer.ask(method, "", "").await.status(), 481, "{method}");
    }
    peer.to_tag.clear();
    for (target, status) in
        [("sips:a@127.0.0.1", 416), ("tel:+1555", 416), ("urn:service:sos", 416), ("nonsense", 400)]
    {
        peer.target = target.to_owned();
        assert_eq!(peer.ask("INVITE", "", SDP).await.status(), status, "{target}");
    }
}

#[tokio::test]
async fn the_same_request_by_another_way_is_a_loop() {
    let (endpoint, mut calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    peer.invite("", SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    peer.status(100).await;
    peer.send(peer.request("INVITE", peer.cseq, "", SDP)).await;
    peer.status(482).await;
    assert_eq!(endpoint.counters().merged_requests.value(), 1);
    peer.to_tag.clear();
    drop(call.accept(ANSWER.to_owned()).await.unwrap());
    peer.status(200).await;
}

#[tokio::test]
async fn mandatory_headers_are_missed() {
    let (endpoint, _calls, address) = endpoint(|_| {}).await;
    let mut peer = Peer::new(address).await;
    let whole = peer.request("OPTIONS", 1, "", "");
    for name in ["From", "To", "Call-ID", "CSeq"] {
        let without: String =
            whole.split_inclusive("\r\n").filter(|line| !line.starts_with(&format!("{name}:"))).collect();
        peer.send(&without).await;
        let answer = peer.status(400).await;
        assert!(answer.start().contains(name), "{}", answer.start());
    }
    for (good, bad, status) in [
        ("CSeq: 1 OPTIONS", "CSeq: 1 INVITE", 400),
        ("CSeq: 1 OPTIONS", "CSeq: 4294967296 OPTIONS", 400),
        ("CSeq: 1 OPTIONS", "CSeq: -1 OPTIONS", 400),
        ("Max-Forwards: 70", "Max-Forwards: 256", 400),
        ("Max-Forwards: 70", "Max-Forwards: 0", 200),
        ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", 505),
        ("Content-Length: 0", "Content-Length: 10", 400),
        ("Content-Length: 0", "Content-Length: -1", 400),
        (";tag=", ";gat=", 400),
    ] {
        peer.send(whole.replace(good, bad)).await;
        let answer = peer.recv().await;
        assert_eq!(answer.status(), status, "{bad}: {}", answer.0);
    }
    // Nobody to answer, and nothing to answer.
    for silent in [
        whole.replace("Via: ", "X: "),
        whole.replace("OPTIONS", "ACK").replace("CSeq: 1", "CSeq: x"),
        "garbage\r\n\r\n".to_owned(),
        "\r\n\r\n".to_owned(),
        "\0\0\0\0".to_owned(),
        "SIP/2.0 200 OK\r\n\r\n".to_owned(),
        whole.replace("OPTIONS sip", "SIP/2.0 200 OK"),
    ] {
        peer.send(&silent).await;
    }
    peer.silence(Duration::from_millis(200)).await;
    assert!(endpoint.counters().malformed_start_line.value() >= 1);
    assert!(endpoint.counters().keepalives.value() >= 2);
}

#[tokio::test]
async fn answers_go_back_to_the_sender_whatever_the_via_says() {
    let (_endpoint, _calls, address) = endpoint(|_| {}).await;
    let peer = Peer::new(address).await;
    let bystander = tokio::net::UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let elsewhere = bystander.local_addr().unwrap();
    let options = peer.request("OPTIONS", 1, "", "");
    let via =
        format!("Via: SIP/2.0/UDP {elsewhere};maddr=127.0.0.9;received=127.0.0.9;branch=z9hG4bKx\r\nX-Old: ");
    peer.send(options.replace("Via: ", &via)).await;
    let answer = peer.recv().await;
    assert_eq!(answer.status(), 200);
    let returned = answer.header("Via").unwrap();
    assert!(returned.contains(&format!("received=127.0.0.1;rport={}", peer.local().port())), "{returned}");
    let heard = tokio::time::timeout(Duration::from_millis(200), bystander.recv_from(&mut [0; 100])).await;
    assert!(heard.is_err(), "a bystander got a datagram");
}

#[tokio::test]
async fn caps_refuse_with_503_before_anything_is_kept() {
    let (endpoint, mut calls, address) = endpoint(|config| {
        config.limits.calls = 3;
        config.limits.invite_burst_per_source = 5;
        config.limits.invites_per_second_per_source = 1;
    })
    .await;
    let mut kept = Vec::new();
    for n in 0..8 {
        let mut peer = Peer::new(address).await;
        peer.invite("", SDP).await;
        if n < 3 {
            let call = soon(calls.recv()).await.unwrap();
            kept.push((peer, call));
        } else {
            let refusal = peer.status(503).await;
            assert!(refusal.header("Retry-After").is_some());
            assert_eq!(refusal.0.matches("Via:").count(), 1);
        }
    }
    assert_eq!(endpoint.load().calls, 3);
    assert_eq!(endpoint.counters().refused_overload.value(), 5);
    kept.clear();
    let mut refused = 0;
    for _ in 0..6 {
        let mut peer = Peer::new(address).await;
        peer.invite("", SDP).await;
        let first = loop {
            let text = peer.recv().await;
            if text.status() > 100 {
                break text;
            }
            drop(soon(calls.recv()).await.unwrap());
        };
        refused += u32::from(first.status() == 503);
    }
    assert!(refused >= 1 && endpoint.counters().refused_rate.value() >= 1, "{refused}");
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let (_endpoint, _calls, address) = endpoint(|_| {}).await;
    let again = SipEndpoint::start(SipConfig { bind: vec![address], ..SipConfig::default() }).await;
    let Err(error @ SipError::Bind { .. }) = again else { panic!() };
    assert!(error.to_string().contains(&format!("udp {address}")), "{error}");
    assert!(matches!(
        SipEndpoint::start(SipConfig { bind: vec![], ..SipConfig::default() }).await,
        Err(SipError::NoAddress)
    ));
    let advertised = Some("not a host".to_owned());
    let bind = vec!["127.0.0.1:0".parse().unwrap()];
    assert!(matches!(
        SipEndpoint::start(SipConfig { bind, advertised, ..SipConfig::default() }).await,
        Err(SipError::Advertised(_))
    ));
}
