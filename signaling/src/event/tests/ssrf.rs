//! Webhooks do not reach what only we can reach.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::super::sender::{Lookup, Message, Sender, UrlError};
use super::super::{LONGEST_URL, Reach, SenderConfig, SigningSecret};
use super::quick;
use super::receiver::{Mood, Receiver};

fn secret() -> SigningSecret {
    SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret")
}

fn message<'a>(url: &'a str, secret: &'a SigningSecret) -> Message<'a> {
    Message { url, id: "an-id", body: Bytes::from_static(b"{}"), secret }
}

/// Answers the first time with `first` and from then on with `later`.
fn changing(first: Vec<IpAddr>, later: Vec<IpAddr>) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let answer = if count.fetch_add(1, Ordering::SeqCst) == 0 { first.clone() } else { later.clone() };
        Box::pin(async move { Ok(answer) })
    });
    (lookup, asked)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn urls_to_internal_places_are_refused_in_every_notation() {
    let strict = Sender::new(SenderConfig { reach: Reach::default(), ..quick().sender }).expect("a sender");
    for forbidden in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/",
        "http://10.0.0.1:2223/",
        "https://192.168.1.1/admin",
        "https://224.0.0.1/",
        "http://①②⑦.0.0.1/",
    ] {
        let refused = strict.check(forbidden);
        assert!(matches!(refused, Err(UrlError::Forbidden(_))), "{forbidden}: {refused:?}");
    }
    let long = format!("https://example.com/{}", "a".repeat(LONGEST_URL));
    for wrong in [
        "",
        "example.com",
        "//example.com/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "unix:/run/x",
        "javascript:1",
        "http://",
        "http://user@example.com/",
        "http://:secret@example.com/",
        "https://user:secret@example.com/",
        "http://exa mple.com/",
        "http://[::1/",
        "http://example.com:99999/",
        &long,
    ] {
        assert!(strict.check(wrong).is_err(), "{wrong}");
    }
    for good in ["https://example.com/hook?x=1", "http://example.com:8080/", "https://8.8.8.8/"] {
        assert!(strict.check(good).is_ok(), "{good}");
    }
    let secure = Sender::new(SenderConfig { https_only: true, ..quick().sender }).expect("a sender");
    assert_eq!(secure.check("http://example.com/"), Err(UrlError::Scheme("https://")));
}

#[tokio::test]
async fn a_name_of_an_internal_address_is_refused_when_it_is_connected_to() {
    let receiver = Receiver::start().await;
    let secret = secret();
    let strict = Sender::new(SenderConfig { reach: Reach::default(), ..quick().sender }).expect("a sender");
    // The system's own resolver.
    let url = format!("http://localhost:{}/", receiver.address.port());
    let attempt = strict.send(message(&url, &secret)).await;
    let error = attempt.error.expect("refused");
    assert!(error.contains("webhooks must not go to") && error.contains("events.allow_networks"), "{error}");

    // One internal address among public ones is enough.
    for answer in [vec![ip("127.0.0.1")], vec![ip("8.8.8.8"), ip("127.0.0.1")], vec![ip("::ffff:127.0.0.1")]]
    {
        let (lookup, _) = changing(answer.clone(), answer);
        let config = SenderConfig { reach: Reach::default(), ..quick().sender };
        let sender = Sender::with_lookup(config, lookup).expect("a sender");
        let url = format!("http://receiver.example.com:{}/", receiver.address.port());
        assert!(sender.send(message(&url, &secret)).await.error.expect("refused").contains("must not go"));
    }
    assert_eq!(receiver.requests(), 0);
}

#[tokio::test]
async fn a_name_that_answers_differently_the_second_time_leads_nowhere() {
    let allowed = Receiver::start().await;
    let internal = Receiver::start_on(ip("127.0.0.2"), allowed.address.port()).await;
    let (lookup, asked) = changing(vec![ip("127.0.0.1")], vec![ip("127.0.0.2")]);
    let sender = Sender::with_lookup(quick().sender, lookup).expect("a sender");
    let url = format!("http://rebind.example.com:{}/hook", allowed.address.port());
    let secret = secret();
    assert!(sender.check(&url).is_ok());
    let first = sender.send(message(&url, &secret)).await;
    assert!(first.taken(), "{first:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "what was judged is what was connected to");
    // The kept connection still leads to the address that was judged; a hanging answer costs it.
    allowed.moods(&[Mood::Hangs]);
    assert!(!sender.send(message(&url, &secret)).await.taken());
    allowed.moods(&[Mood::Takes]);
    for _ in 0..3 {
        let later = sender.send(message(&url, &secret)).await;
        assert!(later.error.expect("refused").contains("127.0.0.2"));
    }
    assert_eq!(internal.requests(), 0);
    assert!(asked.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn redirects_are_not_followed_and_proxies_not_asked() {
    let (receiver, secret) = (Receiver::start().await, secret());
    let sender = Sender::new(quick().sender).expect("a sender");
    receiver.moods(&[Mood::Redirects]);
    let attempt = sender.send(message(&receiver.url(), &secret)).await;
    assert_eq!(attempt.status, Some(307));
    assert_eq!(attempt.error.as_deref(), Some("answered 307; redirects are not followed"));
    assert_eq!(receiver.requests(), 1);
}

#[tokio::test]
async fn an_attempt_ends_in_time_whatever_the_receiver_does() {
    let (receiver, secret) = (Receiver::start().await, secret());
    let sender = Sender::new(quick().sender).expect("a sender");
    let url = receiver.url();
    for (mood, taken) in [(Mood::Hangs, false), (Mood::Drips, true), (Mood::Floods, true)] {
        receiver.moods(&[mood]);
        let sent = tokio::time::timeout(Duration::from_secs(20), sender.send(message(&url, &secret)));
        assert_eq!(sent.await.expect("an end").taken(), taken, "{mood:?}");
    }
    // A peer that accepts and says nothing, and one that is not there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", silent.local_addr().expect("bound"));
    let attempt = sender.send(message(&url, &secret)).await;
    assert_eq!(attempt.error.as_deref(), Some("no answer within 0.7 s"));
    drop(silent);
    let attempt = sender.send(message(&url, &secret)).await;
    assert!(attempt.error.expect("refused").contains("refused"));
}
